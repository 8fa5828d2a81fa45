//go:build nooperator

package main

import "github.com/spf13/cobra"

// operatorCommands returns no commands. A binary without the operator builds much faster: the Kubernetes libraries are
// larger than everything else together.
func (c *cli) operatorCommands() []*cobra.Command { return nil }

// pluginCommand returns nil, for the same reason.
func (c *cli) pluginCommand() *cobra.Command { return nil }
