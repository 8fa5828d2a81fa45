package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/parking-operator/parking-operator/internal/httpserver"
	"github.com/parking-operator/parking-operator/internal/summary"
	"github.com/parking-operator/parking-operator/internal/summary/rest"
	"github.com/parking-operator/parking-operator/internal/summary/sqlite"
)

const summariesHelp = `summaries serves the REST API that keeps the summaries of finished visits, each once and
durably, in an SQLite database:

  POST /v1/summaries     one summary as JSON, or many as application/x-ndjson
  GET  /v1/summaries     those of a plate or a time range, page by page
  GET  /v1/stats         how many there are, and how long the visits were
  GET  /openapi.json     the description of all of it`

func (c *cli) summariesCommand() *cobra.Command {
	var flags serviceFlags
	var database string
	cmd := &cobra.Command{
		Use:   "summaries",
		Short: "Serve the REST API that keeps the summaries of finished visits",
		Long:  summariesHelp,
		Example: `  parking summaries --database summaries.db --http 127.0.0.1:8082
  curl -s 127.0.0.1:8082/v1/stats`,
		GroupID: groupParts,
		RunE:    runs(func(ctx context.Context) error { return c.summaries(ctx, flags, database) }),
	}
	flags.register(cmd)
	cmd.Flags().StringVar(&database, "database", "summaries.db", "`file` of the SQLite database; it is created when it does not exist")
	_ = cmd.MarkFlagFilename("database")
	return cmd
}

func (c *cli) summaries(ctx context.Context, flags serviceFlags, database string) (err error) {
	if err := flags.check(); err != nil {
		return err
	}
	s := service{flags: flags, log: c.logger(flags.level.Level), registry: newRegistry()}
	db, err := sqlite.Open(ctx, sqlite.Options{Path: database})
	if err != nil {
		return badInput(err)
	}
	summaries, err := summary.New(db, s.registry, s.log)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	defer func() { err = errors.Join(err, summaries.Close()) }()
	s.rest, err = rest.New(rest.Options{Summaries: summaries, Registerer: s.registry, Logger: s.log})
	if err != nil {
		return err
	}
	s.ready = []httpserver.Check{{Name: "database", Check: summaries.Ready}}
	s.work = func(ctx context.Context) error {
		<-ctx.Done() // the requests under way are finished by the server
		return nil
	}
	return s.run(ctx)
}
