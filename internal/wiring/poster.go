package wiring

import (
	"errors"
	"fmt"
	"io"

	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/processor"
	"github.com/parking-operator/parking-operator/internal/summary/client"
)

// Poster is a client of a summary API.
type Poster interface {
	processor.Poster
	io.Closer
}

// OpenPoster returns a client of the summary API that a plan names. It does not connect, but fails when the
// folder with an external API's credentials cannot serve.
func OpenPoster(p *plan.Plan) (Poster, error) {
	switch {
	case p.SummaryAPI.URL == "":
		return nil, errors.New("the plan does not say where the summary API is: set summaryAPI.url")
	case p.SummaryAPI.External:
		return OpenExternal(p)
	}
	return client.NewEmbedded(posterOptions(p))
}

// OpenExternal is OpenPoster for a plan whose summary API is the user's own.
func OpenExternal(p *plan.Plan) (*client.External, error) {
	options := posterOptions(p)
	if err := options.CheckSecret(); err != nil {
		return nil, fmt.Errorf("log in to the summary API: %w", err)
	}
	return client.NewExternal(options)
}

func posterOptions(p *plan.Plan) client.Options {
	return client.Options{URL: p.SummaryAPI.URL, SecretDir: p.SummaryAPI.SecretDir}
}
