//go:build !noservers

package main

import (
	"context"

	"github.com/redis/go-redis/v9/logging"
	"github.com/spf13/cobra"

	"github.com/parking-operator/parking-operator/internal/summary"
	"github.com/parking-operator/parking-operator/internal/summary/sqlite"
)

// serverCommands returns the commands that connect to servers. A build with the tag noservers omits them.
func (c *cli) serverCommands() []*cobra.Command {
	return []*cobra.Command{
		c.auditCommand(), c.purgeCommand(), c.generateCommand(), c.processCommand(), c.summariesCommand(),
	}
}

// discardRedisLogs discards the logs of the Redis client, which are unstructured. The store adapter logs what matters.
func discardRedisLogs() { logging.Disable() }

// openSQLite opens a summary database in an SQLite file. It creates the file if it does not exist.
func openSQLite(ctx context.Context, path string) (summary.Database, error) {
	return sqlite.Open(ctx, sqlite.Config{Path: path})
}
