//go:build nooperator

package main

import "github.com/spf13/cobra"

// operatorCommands are none in a binary without the operator, which takes much less time to build: the
// libraries for the Kubernetes API are larger than all else together.
func (c *cli) operatorCommands() []*cobra.Command { return nil }
