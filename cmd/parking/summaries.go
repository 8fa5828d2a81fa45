//go:build !noservers

package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/parking-operator/parking-operator/internal/httpserver"
	"github.com/parking-operator/parking-operator/internal/summary"
	"github.com/parking-operator/parking-operator/internal/summary/rest"
)

const summariesHelp = `Serve the REST API that stores the summaries of finished visits in an SQLite file or a PostgreSQL
database. Each summary is stored once, and is on disk before the API answers. Several processes can
share a PostgreSQL database. While PostgreSQL cannot be used, /readyz fails and says why. All
settings for PostgreSQL come from the URI and the directory of --database-secret: variables such as
PGPASSWORD, and files such as ~/.pgpass, are ignored.

Endpoints:
  POST /v1/summaries     store one summary (JSON) or many (application/x-ndjson)
  GET  /v1/summaries     list summaries by plate or time range, page by page
  GET  /v1/stats         number of summaries and durations of the visits
  GET  /openapi.json     OpenAPI description`

func (c *cli) summariesCommand() *cobra.Command {
	var flags serviceFlags
	var pg postgresFlags
	var database string
	cmd := &cobra.Command{
		Use:   "summaries",
		Short: "Serve the REST API that stores the summaries of finished visits",
		Long:  summariesHelp,
		Example: `  parking summaries --database summaries.db --http 127.0.0.1:8082
  curl -s 127.0.0.1:8082/v1/stats
  parking summaries --database-uri postgres://parking@127.0.0.1:5432/parking --database-secret /etc/parking/database`,
		GroupID: groupComponents,
		RunE:    runs(func(ctx context.Context) error { return c.summaries(ctx, flags, &pg, database) }),
	}
	flags.register(cmd)
	cmd.Flags().Lookup("http").Usage = "`address` for the API, /metrics, /healthz and /readyz"
	pg.register(cmd)
	cmd.Flags().StringVar(&database, flagDatabase, "summaries.db", "SQLite database `file`; created if it does not exist")
	_ = cmd.MarkFlagFilename(flagDatabase)
	cmd.AddCommand(c.migrateCommand())
	return cmd
}

func (c *cli) summaries(ctx context.Context, flags serviceFlags, pg *postgresFlags, file string) (err error) {
	if err := flags.check(); err != nil {
		return err
	}
	s := service{flags: flags, log: c.logger(flags.level.Level), registry: newRegistry()}
	db, err := c.openDatabaseOf(ctx, s, pg, file)
	if err != nil {
		return err
	}
	summaries, err := summary.New(db, s.registry, s.log)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	defer func() { err = errors.Join(err, summaries.Close()) }()
	api, err := rest.New(rest.Dependencies{Summaries: summaries, Registerer: s.registry, Logger: s.log})
	if err != nil {
		return err
	}
	s.routes = []httpserver.Route{{Pattern: "/", Handler: api}}
	s.ready = []httpserver.Check{{Name: "database", Check: summaries.Ready}}
	s.work = func(ctx context.Context) error {
		// The HTTP server does the work.
		<-ctx.Done()
		return nil
	}
	return s.run(ctx)
}
