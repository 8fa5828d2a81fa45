package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/generator"
	"github.com/parking-operator/parking-operator/internal/plan"
)

const generateHelp = `generate publishes the events of a simulation, on the schedule of its plan: an open model, in
which events are due when the schedule says so, whatever the speed of the broker.

Edits of the plan file take effect within a second: rates, stages, arrivals and the match
percentage change, and no event is lost or published twice. Where the servers are takes
effect at the next start; another seed or number of partitions is refused.

When the plan's duration is over a generator publishes nothing more, but runs on until SIGTERM,
as a Deployment would start it anew and an edit of the plan may prolong the duration.`

func (c *cli) generateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "generate",
		Short:   "Publish the entry events or the exit events of a simulation",
		Long:    generateHelp,
		GroupID: groupParts,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("say which events to generate: 'parking generate entry' or 'parking generate exit'")
		},
	}
	cmd.AddCommand(
		c.generateTypeCommand(event.TypeEntry, generator.NewEntry,
			"Publish the entry events of a simulation",
			`Each entry has a plate that is not parked. Once the broker has confirmed it, the plate is
available to the exit generators.`),
		c.generateTypeCommand(event.TypeExit, generator.NewExit,
			"Publish the exit events of a simulation",
			`A drawn share of the exits, exit.matchPercent of the plan, leaves with a plate that entered
at least exit.minStay ago. The others have plates that never entered. A draw that finds no
plate available is counted as starved and publishes nothing.`),
	)
	return cmd
}

// newGenerator is one of the constructors of package generator.
type newGenerator func(generator.Options) (*generator.Generator, error)

func (c *cli) generateTypeCommand(t event.Type, create newGenerator, short, long string) *cobra.Command {
	var flags serviceFlags
	var planPath string
	cmd := &cobra.Command{
		Use:                   string(t) + " --plan FILE [flags]",
		DisableFlagsInUseLine: true,
		Short:                 short,
		Long:                  short + ".\n\n" + long,
		Example:               fmt.Sprintf("  parking generate %s --plan /etc/parking/plan.json --http 127.0.0.1:8080", t),
		RunE: runs(func(ctx context.Context) error {
			return c.generate(ctx, flags, planPath, create)
		}),
	}
	flags.register(cmd)
	planFlag(cmd, &planPath)
	return cmd
}

func (c *cli) generate(ctx context.Context, flags serviceFlags, planPath string, create newGenerator) error {
	s, err := c.openPlanned("parking generate", flags, planPath)
	if err != nil {
		return err
	}
	defer s.close()
	g, err := create(generator.Options{
		Plan:            s.plan,
		Publisher:       s.servers.broker,
		Store:           s.servers.store,
		Logger:          s.log,
		Registerer:      s.registry,
		ShutdownTimeout: flags.workTime(),
	})
	if err != nil {
		return err
	}
	s.work = func(ctx context.Context) error {
		defer s.watch(ctx, plan.RoleGenerator, g.Update)()
		err := g.Run(ctx)
		done := g.Stats()
		s.log.Info("the generator has stopped", "type", done.Type, "run", done.Run,
			"published", done.Published, "confirmed", done.Confirmed, "starved", done.Starved)
		return err
	}
	return s.run(ctx)
}
