//go:build !noservers

package main

import (
	"github.com/redis/go-redis/v9/logging"
	"github.com/spf13/cobra"
)

// serverCommands returns the commands that connect to servers. A build with the tag noservers omits them.
func (c *cli) serverCommands() []*cobra.Command {
	return []*cobra.Command{
		c.auditCommand(), c.purgeCommand(), c.generateCommand(), c.processCommand(), c.summariesCommand(),
	}
}

// discardRedisLogs discards the unstructured logs that the Redis client writes to one global logger. The store adapter
// logs what matters.
func discardRedisLogs() { logging.Disable() }
