package wiring

import (
	"errors"
	"fmt"
	"io"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/processor"
	"github.com/parking-operator/parking-operator/internal/summary/client"
)

// Poster is a client of a summary API.
type Poster interface {
	processor.Poster
	io.Closer
}

// OpenPoster returns a client of the summary API that a plan names, and where that is; the address may be
// printed. It does not connect, but fails when the folder with an external API's credentials cannot serve.
func OpenPoster(p *plan.Plan) (Poster, string, error) {
	if p.SummaryAPI.URL == "" {
		return nil, "", errors.New("the plan does not say where the summary API is: set summaryAPI.url")
	}
	source, err := binding.URI(binding.HTTP(), p.SummaryAPI.URL)
	if err != nil {
		return nil, "", err
	}
	address, err := source()
	if err != nil {
		return nil, "", err
	}
	options := client.Options{URL: p.SummaryAPI.URL, SecretDir: p.SummaryAPI.SecretDir}
	if p.SummaryAPI.External {
		if err := options.CheckSecret(); err != nil {
			return nil, "", fmt.Errorf("log in to the summary API: %w", err)
		}
		c, err := client.NewExternal(options)
		return c, address.Redacted(), err
	}
	c, err := client.NewEmbedded(options)
	return c, address.Redacted(), err
}
