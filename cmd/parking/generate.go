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

const generateHelp = `Publish the events of a simulation on the schedule of its plan.

The schedule alone determines when an event is due, even if the broker is slow (open model).

The generator watches the plan file. A change of rates, stages, arrivals or match percentage
takes effect within a second; no event is lost or published twice. Changed server addresses
take effect at the next start. A plan with another seed or number of partitions is rejected.

When the duration in the plan is over, the generator stops publishing. It keeps running until
SIGTERM, because an edit of the plan file may extend the duration.`

func (c *cli) generateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "generate",
		Short:   "Publish the entry or exit events of a simulation",
		Long:    generateHelp,
		GroupID: groupComponents,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("the type of events is missing: use 'parking generate entry' or 'parking generate exit'")
		},
	}
	cmd.AddCommand(
		c.generateTypeCommand(event.TypeEntry, generator.NewEntry,
			"Publish the entry events of a simulation",
			`Each entry has a plate that is not parked. When the broker has confirmed the entry, its plate
becomes available to the exit generators.`),
		c.generateTypeCommand(event.TypeExit, generator.NewExit,
			"Publish the exit events of a simulation",
			`For each exit, the generator draws whether it is matched. In the plan, exit.matchPercent is the
percentage of matched exits. A matched exit has a plate that entered at least exit.minStay ago.
An unmatched exit has a plate that never entered. If no plate is available for a matched exit,
the generator publishes nothing and counts the draw as starved.`),
	)
	return cmd
}

// newGenerator is the type of the functions generator.NewEntry and generator.NewExit.
type newGenerator func(generator.Config, generator.Dependencies) (*generator.Generator, error)

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
			return c.generate(ctx, flags, planPath, t, create)
		}),
	}
	flags.register(cmd)
	planFlag(cmd, &planPath)
	return cmd
}

func (c *cli) generate(ctx context.Context, flags serviceFlags, planPath string, t event.Type, create newGenerator) error {
	s, err := c.openPlanned(ctx, "parking generate", flags, planPath)
	if err != nil {
		return err
	}
	defer s.close()
	g, err := create(
		generator.Config{Plan: s.plan, ShutdownTimeout: flags.workTime()},
		generator.Dependencies{
			Publisher:  s.adapters.broker,
			Store:      s.adapters.store,
			Logger:     s.log,
			Registerer: s.registry,
		})
	if err != nil {
		return err
	}
	s.work = func(ctx context.Context) error {
		defer s.watch(ctx, plan.RoleGenerator, g.Update)()
		stop := s.record(ctx, string(t)+" generator", g.Totals, t)
		defer stop()
		err := g.Run(ctx)
		done := g.Stats()
		s.log.Info("Generator stopped", "type", done.Type, "run", done.Run,
			"published", done.Published, "confirmed", done.Confirmed, "starved", done.Starved)
		return err
	}
	return s.run(ctx)
}
