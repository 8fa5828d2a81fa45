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
	"sync"
	"time"

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

const (
	// reachTimeout bounds how long a server may take to answer before anything is started.
	reachTimeout = 5 * time.Second
	// purgeTimeout bounds how long it may take to remove a simulation from its servers.
	purgeTimeout = 30 * time.Second
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
	})
	if err != nil {
		return s, err
	}
	err = s.listen(ctx, registry, log)
	return s, err
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
func (s *session) run(ctx context.Context, v *view) (simulate.Result, error) {
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
	result, err := s.simulation.Run(ctx)
	stop()
	asides.Wait()
	return result, err
}

// purge removes the simulation from servers that outlive this process, also when ctx has ended.
func (s *session) purge(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), purgeTimeout)
	defer cancel()
	var errs []error
	if s.servers.broker.Address != wiring.InMemory {
		if err := s.servers.broker.Delete(ctx); err != nil {
			errs = append(errs, fmt.Errorf("remove the queues of %s: %w", s.plan.Simulation, err))
		}
	}
	if s.servers.store.Address != wiring.InMemory {
		if err := s.servers.store.Purge(ctx); err != nil {
			errs = append(errs, fmt.Errorf("remove the keys of %s: %w", s.plan.Simulation, err))
		}
	}
	return errors.Join(errs...)
}

func (s *session) close(log *slog.Logger) {
	if s.servers.broker != nil {
		s.servers.close(log)
	}
	if s.summaries != nil {
		s.summaries.close(log)
	}
}

// reach connects to the servers that flags name. Its error names the one that does not answer, and the
// remedy.
func (s backends) reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	var errs [2]error
	var asking sync.WaitGroup
	asking.Go(func() {
		if err := s.broker.Check(ctx); err != nil {
			errs[0] = fmt.Errorf("--rabbitmq-uri: %w", err)
		}
	})
	asking.Go(func() {
		if err := s.store.Ping(ctx); err != nil {
			errs[1] = fmt.Errorf("--redis-uri: %w; start Redis there, or correct the address or the password", err)
		}
	})
	asking.Wait()
	return errors.Join(errs[:]...)
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
	close func(*slog.Logger)
}

func openSummaries(ctx context.Context, p *plan.Plan, path string, o wiring.Options) (*summaries, error) {
	if p.SummaryAPI.External {
		poster, address, err := wiring.OpenPoster(p)
		if err != nil {
			return nil, err
		}
		return &summaries{
			poster: poster, where: address,
			close: func(log *slog.Logger) { closing(log, "the client of the summary API", poster) },
		}, nil
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
		api:   api,
		where: where,
		close: func(log *slog.Logger) {
			closing(log, "the database of summaries", service)
			if err := remove(); err != nil {
				log.Warn("cannot remove the summaries", "error", err)
			}
		},
	}, nil
}
