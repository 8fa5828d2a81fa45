package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/httpserver"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/processor"
	"github.com/parking-operator/parking-operator/internal/simulate"
	"github.com/parking-operator/parking-operator/internal/summary"
	"github.com/parking-operator/parking-operator/internal/summary/rest"
	"github.com/parking-operator/parking-operator/internal/summary/sqlite"
	"github.com/parking-operator/parking-operator/internal/wiring"
)

// session is everything that one invocation of simulate opens.
type session struct {
	flags      simulateFlags
	plan       *plan.Plan
	servers    backends
	summaries  *summaries
	http       *httpserver.Server
	simulation *simulate.Simulation
}

// openSession opens it all, so that whatever cannot work fails before the first event.
func openSession(ctx context.Context, f simulateFlags, p *plan.Plan, log *slog.Logger) (s *session, err error) {
	s = &session{flags: f, plan: p}
	defer func() {
		if err != nil {
			s.close(log)
		}
	}()
	registry := newRegistry()
	options := wiring.Options{Component: "parking simulate", Logger: log, Registerer: registry}
	if s.servers, err = open(p, options); err != nil {
		return s, err
	}
	if err := s.servers.reach(ctx); err != nil {
		return s, badInput(err)
	}
	if err := s.servers.usable(ctx); err != nil {
		return s, err
	}
	if err := s.servers.unused(ctx, p.Simulation); err != nil {
		return s, err
	}
	if s.summaries, err = openSummaries(ctx, p, f.summariesDB, options); err != nil {
		return s, badInput(err)
	}
	s.simulation, err = simulate.New(simulate.Options{
		Plan:          *p,
		Broker:        s.servers.broker,
		Store:         s.servers.store,
		Poster:        s.summaries.poster,
		SummariesHeld: s.summaries.held,
		DrainTimeout:  f.drainTimeout,
		Registerer:    registry,
		Logger:        log,
		// The broker in memory knows what is not settled, where RabbitMQ does not say.
		DepthsHoldInFlight: s.servers.broker.InMemory(),
	})
	if err != nil {
		return s, err
	}
	if err := s.listen(ctx, registry, log); err != nil {
		return s, err
	}
	// Last, so that whatever fails before leaves nothing on the servers.
	err = s.servers.reserve(ctx, p.Simulation)
	return s, err
}

// declare makes the queues, for which a user may lack the rights. If it cannot, it removes the simulation again.
func (s *session) declare(ctx context.Context) error {
	declaring, cancel := context.WithTimeout(ctx, purgeTimeout)
	defer cancel()
	err := s.servers.broker.Declare(declaring)
	if err == nil {
		return nil
	}
	err = badInput(fmt.Errorf("--%s: declare the queues: %w", flagRabbitMQ, err))
	left := s.purge(ctx)
	// Who may not declare may not delete either, but has nothing there.
	if left == nil || s.servers.unused(context.WithoutCancel(ctx), s.plan.Simulation) == nil {
		return err
	}
	if ctx.Err() != nil {
		return left // a signal's end is known; what it leaves is not
	}
	return errors.Join(err, left)
}

// listen takes the address for HTTP. The default address gives way to another port when it is taken; one
// that the user chose does not.
func (s *session) listen(ctx context.Context, registry *prometheus.Registry, log *slog.Logger) error {
	if s.flags.http == "" {
		return nil
	}
	handler := httpserver.Handler(httpserver.Options{
		Metrics: registry, Ready: s.servers.ready(), Rest: withProfiles(s.flags.pprof, s.summaries.api), Log: log,
	})
	var err error
	s.http, err = httpserver.Listen(ctx, s.flags.http, handler, log)
	if err != nil && !s.flags.httpChosen {
		host, _, _ := net.SplitHostPort(s.flags.http)
		s.http, err = httpserver.Listen(ctx, net.JoinHostPort(host, "0"), handler, log)
	}
	if err != nil {
		return badInput(fmt.Errorf("%w; choose another address with --http, or \"\" for none", err))
	}
	return nil
}

// describe says what is where.
func (s *session) describe() [][2]string {
	lines := [][2]string{
		{"broker", s.servers.broker.Address},
		{"store", s.servers.store.Address},
		{"summaries", s.summaries.where},
	}
	if s.http == nil {
		return lines
	}
	lines = append(lines, [2]string{"metrics", "http://" + s.http.Address() + "/metrics"})
	if s.summaries.api != nil {
		lines = append(lines, [2]string{"API", "http://" + s.http.Address() + "/v1/summaries"})
	}
	return lines
}

// run simulates, serves HTTP meanwhile, and shows the progress.
func (s *session) run(ctx context.Context, v *view) simulate.Result {
	aside, stop := context.WithCancel(context.WithoutCancel(ctx))
	var asides sync.WaitGroup
	if s.http != nil {
		asides.Go(func() {
			if err := s.http.Serve(aside); err != nil {
				_, _ = fmt.Fprintln(v, "parking: "+oneLine(err)) // the simulation goes on unwatched
			}
		})
	}
	asides.Go(func() { v.follow(aside, s.simulation.Progress) })
	result := s.simulation.Run(ctx)
	stop()
	asides.Wait()
	return result
}

// purge removes the simulation, which made everything that its servers have of it. It does so also when ctx
// has ended. Its error says what is left.
func (s *session) purge(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), purgeTimeout)
	defer cancel()
	if err := s.servers.reach(ctx); err != nil {
		return fmt.Errorf("%w: %w", s.leftBehind(), err)
	}
	if err := s.servers.remove(ctx, s.plan.Simulation); err != nil {
		return fmt.Errorf("%w: %w", s.leftBehind(), err)
	}
	return nil
}

// abandon removes what can be removed at once, and says what is left. It is for the end of the process.
func (s *session) abandon() error {
	s.summaries.discard()
	if left := s.leftBehind(); left != nil {
		return fmt.Errorf("ended without a verdict; %w", left)
	}
	return errors.New("ended without a verdict")
}

// leftBehind says what may be left on servers, and how to remove it; it is nil when there are none.
func (s *session) leftBehind() error {
	what, flags := s.onServers()
	if what == "" {
		return nil
	}
	return fmt.Errorf("%s may be left of %s; remove them with 'parking purge %s'", what, s.plan.Simulation, flags)
}

// kept says what --keep left on servers, and how to go on with it.
func (s *session) kept() string {
	what, flags := s.onServers()
	lines := []string{fmt.Sprintf("Kept %s of %s.", what, s.plan.Simulation)}
	if !s.servers.store.InMemory() {
		manifest := ""
		if s.flags.manifest.path != "" {
			manifest = "-f MANIFEST "
		}
		lines = append(lines, "  to audit it:   parking audit "+manifest+flags)
	}
	return strings.Join(append(lines, "  to remove it:  parking purge "+flags), "\n")
}

// onServers says what the simulation has on servers, "" for nothing, and the flags that name it there.
func (s *session) onServers() (what, flags string) {
	var parts []string
	flags = "--simulation " + s.plan.Simulation
	if b := s.servers.broker; !b.InMemory() {
		parts, flags = append(parts, "queues on "+b.Address), flags+" --rabbitmq-uri URI"
	}
	if k := s.servers.store; !k.InMemory() {
		parts, flags = append(parts, "keys on "+k.Address), flags+" --redis-uri URI"
	}
	return strings.Join(parts, " and "), flags
}

func (s *session) close(log *slog.Logger) {
	if s.servers.broker != nil {
		s.servers.close(log)
	}
	if s.summaries != nil {
		s.summaries.close(log)
	}
}

// summaries is where the summaries go: a service in this process, or an API of the user's own.
type summaries struct {
	poster processor.Poster
	// held counts the summaries of this invocation; nil when the API is not ours to ask.
	held func(context.Context) (int64, error)
	// api serves them over HTTP; nil likewise.
	api http.Handler
	// where says it to people.
	where string
	// discard removes what ends with the process anyway. It may be called at any time.
	discard func()
	close   func(*slog.Logger)
}

func openSummaries(ctx context.Context, p *plan.Plan, path string, o wiring.Options) (*summaries, error) {
	if p.SummaryAPI.External {
		return openExternal(ctx, p)
	}
	if path != "" {
		return openDatabase(ctx, sqlite.Options{Path: path}, path, func() error { return nil }, o)
	}
	dir, err := os.MkdirTemp("", "parking-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the summaries: %w; name a file with --summaries-db", err)
	}
	remove := func() error { return os.RemoveAll(dir) }
	// A file that goes with this process need not survive the machine.
	s, err := openDatabase(ctx, sqlite.Options{Path: filepath.Join(dir, "summaries.db"), NoSync: true}, "a file that is removed at the end", remove, o)
	if err != nil {
		return nil, errors.Join(err, remove())
	}
	return s, nil
}

// openExternal opens an API of the user's own, which must answer by now: later its silence would be an outage, which
// is waited out.
func openExternal(ctx context.Context, p *plan.Plan) (*summaries, error) {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	api, err := wiring.OpenExternal(p)
	if err == nil {
		err = api.Reach(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("--summary-url: %w", err)
	}
	return &summaries{
		poster: api, where: api.Address(), discard: func() {},
		close: func(log *slog.Logger) { closing(log, "the client of the summary API", api) },
	}, nil
}

// openDatabase opens the service of a database, whose file may hold the summaries of other simulations.
func openDatabase(ctx context.Context, db sqlite.Options, where string, remove func() error, o wiring.Options) (*summaries, error) {
	database, err := sqlite.Open(ctx, db)
	if err != nil {
		return nil, err
	}
	service, err := summary.New(database, o.Registerer, o.Logger)
	if err != nil {
		return nil, errors.Join(err, database.Close())
	}
	before, err := service.Stats(ctx)
	if err != nil {
		return nil, errors.Join(err, service.Close())
	}
	api, err := rest.New(rest.Options{Summaries: service, Registerer: o.Registerer, Logger: o.Logger})
	if err != nil {
		return nil, errors.Join(err, service.Close())
	}
	return &summaries{
		poster: service,
		held: func(ctx context.Context) (int64, error) {
			now, err := service.Stats(ctx)
			return now.Count - before.Count, err
		},
		api:     api,
		where:   where,
		discard: func() { _ = remove() }, // nobody waits for the outcome
		close: func(log *slog.Logger) {
			closing(log, "the database of summaries", service)
			if err := remove(); err != nil {
				log.Warn("cannot remove the summaries", "error", err)
			}
		},
	}, nil
}
