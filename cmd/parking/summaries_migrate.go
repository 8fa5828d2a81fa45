//go:build !noservers

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/parking-operator/parking-operator/internal/summary"
	"github.com/parking-operator/parking-operator/internal/summary/sqlite"
)

const migrateHelp = `Copy all summaries from an SQLite file to a PostgreSQL database. Stop the process that writes to
the file first. The file is not changed.

Never copy into the schema of a running simulation: its summary API counts all summaries in the
schema, so the verdict would be FAIL. Select another schema with --database-schema.

If the command is interrupted, run it again: it skips the summaries that are already in PostgreSQL.
At the end, it compares the number of copied summaries with the number in the file. It exits with 1
if they differ, or if PostgreSQL has different summaries under the same ids.`

func (c *cli) migrateCommand() *cobra.Command {
	var pg postgresFlags
	var from string
	cmd := &cobra.Command{
		Use:     "migrate",
		Short:   "Copy summaries from SQLite to PostgreSQL",
		Long:    migrateHelp,
		Example: `  parking summaries migrate --from summaries.db --database-secret /etc/parking/database`,
		RunE:    runs(func(ctx context.Context) error { return c.migrate(ctx, &pg, from) }),
	}
	pg.register(cmd)
	cmd.Flags().StringVar(&from, "from", "", "SQLite database `file` to read (required)")
	_ = cmd.MarkFlagRequired("from") // MarkFlagRequired and MarkFlagFilename fail only for an unknown flag
	_ = cmd.MarkFlagFilename("from")
	return cmd
}

func (c *cli) migrate(ctx context.Context, pg *postgresFlags, from string) (err error) {
	pg.fromEnvironment(c.getenv)
	if !pg.any() {
		return badInput(fmt.Errorf("--%s or --%s is required: it selects the PostgreSQL database", flagDatabaseURI, flagDatabaseSecret))
	}
	// If the file is missing, the error of SQLite does not say so.
	if _, err := os.Stat(from); err != nil {
		return badInput(fmt.Errorf("--from: %w", err))
	}
	source, err := sqlite.Open(ctx, sqlite.Config{Path: from, ReadOnly: true})
	if err != nil {
		return badInputUnlessNotReady(fmt.Errorf("--from: %w", err))
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	target, err := pg.open(ctx)
	if target != nil {
		defer func() { err = errors.Join(err, target.Close()) }()
	}
	if err != nil {
		return badInputUnlessNotReady(err)
	}
	result, err := summary.Copy(ctx, source, target, c.copyProgress())
	if err != nil {
		return fmt.Errorf("copy summaries: %w (%d copied so far; the command can be repeated)", err, result.Created)
	}
	_, err = fmt.Fprintf(c.stdout, "%d summaries are in PostgreSQL: %d copied now, %d stored before\n", result.Read(), result.Created, result.Known)
	return err
}

// copyProgress returns a function that prints the progress of a copy every few seconds.
func (c *cli) copyProgress() func(summary.CopyResult) {
	const interval = 5 * time.Second
	last := time.Now()
	return func(r summary.CopyResult) {
		if time.Since(last) < interval {
			return
		}
		last = time.Now()
		// If writing the progress fails, the copy continues.
		_, _ = fmt.Fprintf(c.stderr, "%d summaries read, %d copied\n", r.Read(), r.Created)
	}
}
