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

const summariesHelp = `Serve the REST API that stores the summaries of finished visits in an SQLite database. Each
summary is stored once, and is on disk before the API answers.

Endpoints:
  POST /v1/summaries     store one summary (JSON) or many (application/x-ndjson)
  GET  /v1/summaries     list summaries by plate or time range, page by page
  GET  /v1/stats         number of summaries and durations of the visits
  GET  /openapi.json     OpenAPI description`

func (c *cli) summariesCommand() *cobra.Command {
	var flags serviceFlags
	var database string
	cmd := &cobra.Command{
		Use:   "summaries",
		Short: "Serve the REST API that stores the summaries of finished visits",
		Long:  summariesHelp,
		Example: `  parking summaries --database summaries.db --http 127.0.0.1:8082
  curl -s 127.0.0.1:8082/v1/stats`,
		GroupID: groupComponents,
		RunE:    runs(func(ctx context.Context) error { return c.summaries(ctx, flags, database) }),
	}
	flags.register(cmd)
	cmd.Flags().StringVar(&database, "database", "summaries.db", "SQLite database `file`; created if it does not exist")
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
	api, err := rest.New(rest.Options{Summaries: summaries, Registerer: s.registry, Logger: s.log})
	if err != nil {
		return err
	}
	s.routes = []httpserver.Route{{Pattern: "/", Handler: api}}
	s.ready = []httpserver.Check{{Name: "database", Check: summaries.Ready}}
	s.work = func(ctx context.Context) error {
		<-ctx.Done() // after that, the HTTP server finishes the current requests
		return nil
	}
	return s.run(ctx)
}
