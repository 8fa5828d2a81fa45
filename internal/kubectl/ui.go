package kubectl

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/httpserver"
	"github.com/parking-operator/parking-operator/internal/view"
)

const uiHelp = `Serve the live page of a simulation on 127.0.0.1 until Ctrl-C.

The data comes from a processor pod, through the API server and with your own permissions: nothing is
exposed in the cluster. If that pod ends, the data comes from another one. The verdict comes
from the status of the simulation, its faults from the ConfigMap NAME-faults, and failures of
processes from the status of its pods. A complete simulation without processors is shown from its
report.

This needs the rights of parkingsimulation-viewer-role, and this rule of parkingsimulation-ui-role:
{apiGroups: [""], resources: ["pods/portforward"], verbs: ["get", "create"]}.`

// pageInterval is the time between two updates of the live page. It is 1 s, because the timeline has one row per
// second.
const pageInterval = time.Second

// timelineTimeout is long, because a timeline may have several megabytes and the connection may be slow.
const timelineTimeout = 5 * time.Minute

type uiFlags struct {
	port int
	open bool
}

func (p *Plugin) uiCommand() *cobra.Command {
	var f uiFlags
	cmd := &cobra.Command{
		Use:               "ui NAME",
		Short:             "Serve the live page of a simulation on a local port",
		Long:              uiHelp,
		Example:           "  kubectl parking ui rush-hour --open",
		Args:              nameArgs(1, 1),
		ValidArgsFunction: p.CompleteNames(1),
		RunE: p.connected(func(ctx context.Context, c *cluster, args []string) error {
			return p.ui(ctx, c, args[0], f)
		}),
	}
	cmd.Flags().IntVarP(&f.port, "port", "p", 0, "local `port` (default: any free port)")
	cmd.Flags().BoolVar(&f.open, "open", false, "open the page in a browser")
	return cmd
}

// ui serves the live page until ctx ends.
func (p *Plugin) ui(ctx context.Context, c *cluster, name string, f uiFlags) error {
	const maxPort = 65535
	if f.port < 0 || f.port > maxPort {
		return inputErrorf("--port: must be from 0 to %d, got %d", maxPort, f.port)
	}
	sim, err := c.simulation(ctx, name)
	if err != nil {
		return err
	}
	live := c.source(sim, func(pod string) { p.notef("connected to pod %s\n", pod) })
	defer live.pages.Close()
	live.faults = c.liveFaults(live, func(err error) { p.notef("the page cannot show the faults: %s\n", err) })
	if err := p.tryPage(ctx, live); err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	go c.watchPods(watching, client.ObjectKeyFromObject(sim), &live.failures, live.now, func(err error) {
		p.notef("some failures of pods may be missing from the page: %s\n", err)
	})
	log := slog.New(slog.DiscardHandler) // discard the log, because the page itself warns if its data is old
	page := view.New(view.Config{Version: p.Version, Interval: pageInterval, TimelineTimeout: timelineTimeout}, view.Dependencies{Source: live, Logger: log})
	server, err := httpserver.Listen(ctx, net.JoinHostPort("127.0.0.1", strconv.Itoa(f.port)), httpserver.Guard(nil, page), log)
	if err != nil {
		return inputErrorf("%w; choose another port with --port", err)
	}
	url := "http://" + server.Address() + "/"
	fmt.Fprintf(p.Out, "Live page of %s/%s: %s (Ctrl-C ends it)\n", c.namespace, name, url)
	if f.open {
		go p.OpenPage(ctx, url)
	}
	// When ctx ends, end the streams of server-sent events.
	context.AfterFunc(ctx, func() { page.Close(context.WithoutCancel(ctx)) })
	return server.Serve(ctx)
}

// tryPage returns an error if the page cannot work, for example because the user lacks a permission. It tolerates an
// outage of a server, whose recovery the user may watch.
func (p *Plugin) tryPage(ctx context.Context, live *source) error {
	_, err := live.State(ctx)
	if answer, ok := errors.AsType[*answerError](err); ok {
		p.notef("there is no data yet: %s\n", answer)
		return nil
	}
	return err
}
