package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/excerpt"
	"github.com/parking-operator/parking-operator/internal/httpserver"
	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/processor"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/simulate"
	"github.com/parking-operator/parking-operator/internal/summary"
	"github.com/parking-operator/parking-operator/internal/summary/memory"
	"github.com/parking-operator/parking-operator/internal/summary/rest"
	"github.com/parking-operator/parking-operator/internal/view"
	"github.com/parking-operator/parking-operator/internal/wiring"
)

// session holds the flags and the open resources of one run of 'parking simulate'.
type session struct {
	flags      simulateFlags
	plan       *plan.Plan
	adapters   adapters
	private    *privateServers // set only with --servers private
	summaries  *summaries
	http       *httpserver.Server
	page       *view.View
	simulation *simulate.Simulation
}

// openSession opens and checks everything that the simulation needs. It writes to out which private server is starting.
func openSession(ctx context.Context, f simulateFlags, resolved *manifest.Resolved, out io.Writer, log *slog.Logger) (s *session, err error) {
	p := resolved.Plan
	p.Owner = rand.Text()
	s = &session{flags: f, plan: p}
	defer func() {
		if err != nil {
			s.close(log)
		}
	}()
	registry := newRegistry()
	options := wiring.Options{Component: "parking simulate", Logger: log, Registerer: registry}
	if f.private != "" {
		if s.private, err = startPrivateServers(ctx, p, out); err != nil {
			return s, err
		}
	}
	if s.adapters, err = openAdapters(p, options, f.servers); err != nil {
		return s, err
	}
	if err := s.adapters.requireConnection(ctx); err != nil {
		return s, err
	}
	if err := s.adapters.checkStore(ctx); err != nil {
		return s, err
	}
	if err := s.adapters.checkUnused(ctx, p.Simulation); err != nil {
		return s, err
	}
	if s.summaries, err = openSummaries(ctx, p, f.summariesDB, options); err != nil {
		return s, err
	}
	config := simulate.Config{
		Plan:         *p,
		Processors:   int(*resolved.Simulation.Spec.Processor.Replicas),
		DrainTimeout: p.DrainTimeout.D(),
		// Unlike RabbitMQ, the in-memory broker includes unacknowledged deliveries in its queue depths.
		DepthsHoldInFlight: s.adapters.broker.InMemory(),
	}
	deps := simulate.Dependencies{
		Broker:        s.adapters.broker,
		Store:         s.adapters.store,
		Poster:        s.summaries.poster,
		SummariesHeld: s.summaries.countStored,
		Registerer:    registry,
		Logger:        log,
	}
	if len(p.Faults) > 0 {
		s.exposeServers(&deps)
	}
	if s.simulation, err = simulate.New(config, deps); err != nil {
		return s, badInput(err)
	}
	if err := s.listen(ctx, registry, log); err != nil {
		return s, err
	}
	// Write to the servers only after all other steps have succeeded, so that a failed step leaves no data on servers.
	err = s.adapters.reserve(ctx, p)
	return s, err
}

// declare declares the exchange and the queues. If the declaration fails, declare removes the simulation's queues and
// keys.
func (s *session) declare(ctx context.Context) error {
	declaring, cancel := context.WithTimeout(ctx, purgeTimeout)
	defer cancel()
	err := s.adapters.broker.Declare(declaring)
	if err == nil {
		return s.private.sync()
	}
	err = fmt.Errorf("%s: declare the queues: %w", s.adapters.brokerFlag, err)
	if errors.Is(err, broker.ErrConfig) {
		err = badInput(err)
	}
	left := s.purge(ctx)
	// A purge without permission to delete queues fails even if no queues exist. Ignore this failure if no data is
	// left.
	if left == nil || s.adapters.checkUnused(context.WithoutCancel(ctx), s.plan.Simulation) == nil {
		return err
	}
	if ctx.Err() != nil {
		return left // omit err, because the user has caused it with a signal
	}
	return errors.Join(err, left)
}

// listen opens the HTTP listener. It uses a free port if the default port is in use and the user has chosen no port.
func (s *session) listen(ctx context.Context, registry *prometheus.Registry, log *slog.Logger) error {
	if s.flags.http == "" {
		return nil
	}
	s.page = view.New(view.Config{Version: currentBuild().version}, view.Dependencies{Source: s.simulation, Logger: log})
	handler := httpserver.Guard(ownHosts(s.flags.http), httpserver.Handler(httpserver.Options{
		Metrics: registry, Ready: s.adapters.readyChecks(), Log: log,
		Routes: slices.Concat(profiles(s.flags.pprof), s.page.Routes(), s.summaries.routes),
	}))
	var err error
	s.http, err = httpserver.Listen(ctx, s.flags.http, handler, log)
	if err != nil && !s.flags.httpChosen {
		host, _, _ := net.SplitHostPort(s.flags.http)
		s.http, err = httpserver.Listen(ctx, net.JoinHostPort(host, "0"), handler, log)
	}
	if err != nil {
		return listenError(err, "choose another address with --http, or \"\" to serve no HTTP")
	}
	return nil
}

// describe returns the lines that the command prints at the start. Each line has a label and a value, such as an
// address.
func (s *session) describe() [][2]string {
	lines := [][2]string{
		{"broker", s.adapters.broker.Address},
		{"store", s.adapters.store.Address},
		{"summaries", s.summaries.destination},
	}
	if s.http == nil {
		return lines
	}
	page := pageURL(s.http.Address())
	lines = slices.Insert(lines, 0, [2]string{"live page", page})
	lines = append(lines, [2]string{"metrics", page + "metrics"})
	if len(s.summaries.routes) > 0 {
		lines = append(lines, [2]string{"API", page + "v1/summaries"})
	}
	return lines
}

// run runs the simulation. Meanwhile, it serves HTTP and shows the progress.
func (s *session) run(ctx context.Context, v *progressView) report.Run {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var helpers sync.WaitGroup
	if s.http != nil {
		helpers.Go(func() {
			if err := s.http.Serve(background); err != nil {
				_, _ = fmt.Fprintln(v, "parking: "+excerpt.OneLine(err.Error())) // the simulation continues without HTTP
			}
		})
	}
	helpers.Go(func() { v.showProgress(background, s.simulation.Progress) })
	faults := newFaultLog(v)
	if len(s.plan.Faults) > 0 {
		helpers.Go(func() { faults.watch(background, s.simulation.Occurrences, s.simulation.SoFar) })
	}
	if s.http != nil && s.flags.open {
		helpers.Go(func() { openPage(background, v, pageURL(s.http.Address())) })
	}
	result := s.simulation.Run(ctx)
	if s.page != nil {
		s.page.Close(background) // send the verdict to the browser, which shows it even after this process has ended
	}
	stop()
	helpers.Wait()
	faults.write(result)
	return result
}

// purge removes the queues and keys of the simulation, even if ctx has ended. It may remove both at the same time,
// because no running process of the simulation could create keys again.
func (s *session) purge(ctx context.Context) error {
	if s.private != nil {
		return nil // nothing to do, because private servers and their data are removed when this process ends
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), purgeTimeout)
	defer cancel()
	queues, keys := both(func() error {
		if err := s.adapters.reachBroker(ctx); err != nil {
			return err
		}
		return s.adapters.removeQueues(ctx, s.plan.Simulation)
	}, func() error {
		if err := s.adapters.reachStore(ctx); err != nil {
			return err
		}
		return s.adapters.removeKeys(ctx, s.plan.Simulation)
	})
	if err := errors.Join(queues, keys); err != nil {
		return fmt.Errorf("%w: %w", s.leftBehind(queues != nil, keys != nil), err)
	}
	return nil
}

// abandon returns the error of a simulation that was stopped before it had a verdict. The error lists the data that may
// remain on servers.
func (s *session) abandon() error {
	if left := s.leftBehind(true, true); left != nil {
		return fmt.Errorf("the simulation was stopped before it had a verdict; %w", left)
	}
	return errors.New("the simulation was stopped before it had a verdict")
}

// leftBehind returns an error about queues or keys that may remain on servers. It returns nil if all servers are
// private or in memory.
func (s *session) leftBehind(queues, keys bool) error {
	what, flags := s.onServers(queues, keys)
	if what == "" || s.private != nil {
		return nil
	}
	return fmt.Errorf("%s of %s may remain; remove them with 'parking purge %s'", what, s.plan.Simulation, flags)
}

// kept returns a message about the data that --keep leaves on servers. The message contains the commands that audit and
// remove the data.
func (s *session) kept() string {
	what, flags := s.onServers(true, true)
	lines := []string{fmt.Sprintf("Kept %s of %s.", what, s.plan.Simulation)}
	if !s.adapters.store.InMemory() {
		source := ""
		if s.flags.manifest.path != "" {
			source = "-f MANIFEST "
		}
		lines = append(lines, "  audit:   parking audit "+source+flags)
	}
	return strings.Join(append(lines, "  remove:  parking purge "+flags), "\n")
}

// onServers describes the simulation's data on servers, or returns "" if all adapters work in memory. It also returns
// the flags that select the data.
func (s *session) onServers(queues, keys bool) (what, flags string) {
	var parts []string
	var servers serverFlags
	if b := s.adapters.broker; queues && !b.InMemory() {
		parts = append(parts, "queues on "+b.Address)
		servers.rabbitmq = s.flags.servers.rabbitmq
	}
	if k := s.adapters.store; keys && !k.InMemory() {
		parts = append(parts, "keys on "+k.Address)
		servers.redis = s.flags.servers.redis
	}
	return strings.Join(parts, " and "), "--simulation " + s.plan.Simulation + " " + servers.selection()
}

func (s *session) close(log *slog.Logger) {
	if s.adapters.broker != nil {
		s.adapters.close(log)
	}
	if s.summaries != nil {
		s.summaries.close(log)
	}
	if s.private != nil {
		closeAndLog(log, "private servers", s.private)
	}
}

// summaries is the destination of visit summaries: a summary service in this process, or an external API.
type summaries struct {
	poster processor.Poster
	// countStored returns the number of summaries of this simulation that the summary service stores. countStored is
	// nil if the summaries are sent to an external API.
	countStored func(context.Context) (int64, error)
	routes      []httpserver.Route // of the summary service; empty if the API is external
	destination string             // an address, a path, or "in memory"
	close       func(*slog.Logger)
}

func openSummaries(ctx context.Context, p *plan.Plan, path string, o wiring.Options) (*summaries, error) {
	if p.SummaryAPI.External {
		return openExternal(ctx, p)
	}
	if path == "" {
		return serveSummaries(ctx, memory.New(), wiring.InMemory, o)
	}
	database, err := openSQLite(ctx, path)
	if err != nil {
		return nil, badInputUnlessNotReady(fmt.Errorf("--summaries-db: %w", err))
	}
	return serveSummaries(ctx, database, path, o)
}

// openExternal opens an external summary API. It returns an error if the API does not respond.
func openExternal(ctx context.Context, p *plan.Plan) (*summaries, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	api, err := wiring.OpenExternal(p)
	if err == nil {
		err = api.Reach(ctx)
	}
	if err != nil {
		return nil, badInputUnlessNotReady(fmt.Errorf("--summary-url: %w", err))
	}
	return &summaries{
		poster: api, destination: api.Address(),
		close: func(log *slog.Logger) { closeAndLog(log, "summary API client", api) },
	}, nil
}

// serveSummaries returns a summary service that uses a database. Closing the service closes the database.
func serveSummaries(ctx context.Context, database summary.Database, destination string, o wiring.Options) (*summaries, error) {
	service, err := summary.New(database, o.Registerer, o.Logger)
	if err != nil {
		return nil, errors.Join(err, database.Close())
	}
	before, err := service.Stats(ctx)
	if err != nil {
		return nil, errors.Join(err, service.Close())
	}
	api, err := rest.New(rest.Dependencies{Summaries: service, Registerer: o.Registerer, Logger: o.Logger})
	if err != nil {
		return nil, errors.Join(err, service.Close())
	}
	return &summaries{
		poster: service,
		countStored: func(ctx context.Context) (int64, error) {
			now, err := service.Stats(ctx)
			// Both counts may be too high. The database may get summaries of other processes, and service.Created()
			// includes summaries that the database has lost.
			return min(now.Count-before.Count, service.Created()), err
		},
		routes:      []httpserver.Route{{Pattern: "/", Handler: api}},
		destination: destination,
		close:       func(log *slog.Logger) { closeAndLog(log, "summary database", service) },
	}, nil
}
