//go:build noservers

package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/summary"
	"github.com/parking-operator/parking-operator/internal/wiring"
)

// serverCommands returns no commands, because builds with the tag noservers contain no clients of servers.
func (c *cli) serverCommands() []*cobra.Command { return nil }

// discardRedisLogs does nothing, because this build contains no Redis client.
func discardRedisLogs() {}

// openSQLite returns an error, because this build does not contain SQLite.
func openSQLite(context.Context, string) (summary.Database, error) { return nil, wiring.ErrNoServers }

// privateServers is empty, because this build cannot start private servers.
type privateServers struct{}

func startPrivateServers(context.Context, *plan.Plan, io.Writer) (*privateServers, error) {
	return nil, badInput(fmt.Errorf("--%s: %w", flagServers, wiring.ErrNoServers))
}

func (*privateServers) sync() error { return nil }

func (*privateServers) targets(map[plan.FaultTarget][]fault.Instance) {}

// Close implements io.Closer.
func (*privateServers) Close() error { return nil }
