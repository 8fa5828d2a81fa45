//go:build nooperator

package main

import "github.com/spf13/cobra"

// operatorCommands returns no commands in a build without the operator. Such a build is much faster, because it does
// not need the Kubernetes libraries.
func (c *cli) operatorCommands() []*cobra.Command { return nil }

// pluginCommand returns nil in a build without the operator.
func (c *cli) pluginCommand() *cobra.Command { return nil }
