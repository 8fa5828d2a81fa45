//go:build nooperator

package main

import "github.com/spf13/cobra"

// operatorCommands returns no commands, because this build does not contain the Kubernetes libraries.
func (c *cli) operatorCommands() []*cobra.Command { return nil }

// pluginCommand returns nil, because builds without the operator do not contain the kubectl plugin.
func (c *cli) pluginCommand() *cobra.Command { return nil }

// discardClientLogs does nothing, because builds without the operator do not contain the Kubernetes libraries.
func discardClientLogs() {}
