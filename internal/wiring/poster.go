package wiring

import (
	"errors"
	"fmt"
	"io"

	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/processor"
	"github.com/parking-operator/parking-operator/internal/summary/client"
)

// Poster is the client with which a processor posts summaries to a summary API.
type Poster interface {
	processor.Poster
	io.Closer
}

// OpenPoster returns a client of the plan's summary API without connecting. It fails if the credentials of an
// external API are missing or invalid.
func OpenPoster(p *plan.Plan) (Poster, error) {
	switch {
	case p.SummaryAPI.URL == "":
		return nil, errors.New("the plan has no summary API: set summaryAPI.url")
	case p.SummaryAPI.External:
		return OpenExternal(p)
	}
	return client.NewEmbedded(posterOptions(p))
}

// OpenExternal returns a client of the external summary API that the plan selects.
func OpenExternal(p *plan.Plan) (*client.External, error) {
	options := posterOptions(p)
	if err := options.CheckSecret(); err != nil {
		return nil, fmt.Errorf("read the credentials of the summary API: %w", err)
	}
	return client.NewExternal(options)
}

func posterOptions(p *plan.Plan) client.Config {
	return client.Config{URL: p.SummaryAPI.URL, SecretDir: p.SummaryAPI.SecretDir}
}
