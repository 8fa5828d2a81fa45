package gate

import (
	"context"
	"fmt"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/processor"
)

// Poster returns a client of a summary API whose calls all pass through a gate.
func Poster(inner processor.Poster, g *Gate) processor.Poster {
	return &gatedPoster{inner: inner, gate: g}
}

type gatedPoster struct {
	inner processor.Poster
	gate  *Gate
}

// Post posts a summary. If the gate rejects the call, the error is not a permanent one, so the caller retries.
func (p *gatedPoster) Post(ctx context.Context, s event.Summary) error {
	var posted error
	if err := p.gate.call(ctx, func() error {
		posted = p.inner.Post(ctx, s)
		return nil
	}); err != nil {
		return fmt.Errorf("post a summary: %w", err)
	}
	return posted
}
