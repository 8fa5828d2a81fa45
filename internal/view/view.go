// Package view serves the live page of one simulation, and its data as JSON and as server-sent events.
//
// The page polls nothing: it receives events. All its clients share one poll of the source, which runs only while
// there are clients. A client that is too slow loses its connection and resumes after the last row that it received.
package view

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/parking-operator/parking-operator/internal/httpserver"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// Source is the simulation that the page shows. Its methods may be called concurrently.
type Source interface {
	// State returns what the simulation has done so far.
	State(ctx context.Context) (State, error)
	// Timeline returns what was measured in the interval [from, to), in the order of time.
	Timeline(ctx context.Context, from, to time.Time) ([]timeline.Row, error)
}

// Config configures New. Zero values select the defaults.
type Config struct {
	// Hosts are the names under which the page may be requested, in addition to localhost and IP addresses. A request
	// for another name is rejected: a web site may have made its name resolve to this machine (DNS rebinding).
	Hosts []string
	// Version is the version of the program, for states without one.
	Version string
	// Interval is the time between two updates of the page. The default is 500 ms.
	Interval time.Duration
	// MaxClients bounds the clients that receive events at a time. The default is 32.
	MaxClients int

	// heartbeat is the longest time without an event. writeTimeout bounds each write to a client. Tests shorten both.
	heartbeat, writeTimeout time.Duration
}

const (
	defaultInterval   = 500 * time.Millisecond
	defaultMaxClients = 32
	// defaultHeartbeat is below the time after which the page gives up a silent connection; see feed.js.
	defaultHeartbeat    = 5 * time.Second
	defaultWriteTimeout = 10 * time.Second
	// sourceTimeout bounds each call of the source.
	sourceTimeout = 10 * time.Second
	// maxReads bounds the timelines that are read and sent at a time. Further requests wait up to maxWait.
	maxReads = 4
	maxWait  = time.Second
)

// Dependencies are what a View works with. All are required.
type Dependencies struct {
	Source Source
	Logger *slog.Logger
}

// View is the handler of the page and its data.
type View struct {
	config Config
	source Source
	log    *slog.Logger
	state  cachedState
	feed   *feed
	poller poller // used by poll only
	reads  *semaphore.Weighted
	mux    *http.ServeMux
}

// New returns the handler of the page of a simulation.
func New(c Config, d Dependencies) *View {
	c.Interval = cmp.Or(c.Interval, defaultInterval)
	c.MaxClients = cmp.Or(c.MaxClients, defaultMaxClients)
	c.heartbeat = cmp.Or(c.heartbeat, defaultHeartbeat)
	c.writeTimeout = cmp.Or(c.writeTimeout, defaultWriteTimeout)
	v := &View{config: c, source: d.Source, log: d.Logger, reads: semaphore.NewWeighted(maxReads), mux: http.NewServeMux()}
	v.state = cachedState{source: d.Source, version: c.Version, maxAge: c.Interval / 2}
	v.feed = &feed{poll: v.poll, interval: c.Interval, maxClients: c.MaxClients}
	for pattern, handler := range v.handlers() {
		v.mux.Handle(pattern, handler)
	}
	return v
}

// The paths of the page and its data.
const (
	pathPage     = "/{$}"
	pathAssets   = "/assets/{name}"
	pathState    = "/v1/state"
	pathTimeline = "/v1/timeline"
	pathEvents   = "/v1/events"
)

// handlers returns the handler of each path.
func (v *View) handlers() map[string]http.Handler {
	return map[string]http.Handler{
		pathPage:     v.guard(navigation, servePage),
		pathAssets:   v.guard(sameOrigin, serveAsset),
		pathState:    v.guard(sameOrigin, v.serveState),
		pathTimeline: v.guard(sameOrigin, v.serveTimeline),
		pathEvents:   v.guard(sameOrigin, v.serveEvents),
	}
}

// ServeHTTP implements http.Handler.
func (v *View) ServeHTTP(w http.ResponseWriter, r *http.Request) { v.mux.ServeHTTP(w, r) }

// Routes returns the paths that the handler serves, to be served next to others.
func (v *View) Routes() []httpserver.Route {
	var routes []httpserver.Route
	for pattern := range v.handlers() {
		routes = append(routes, httpserver.Route{Pattern: pattern, Handler: v})
	}
	slices.SortFunc(routes, func(a, b httpserver.Route) int { return cmp.Compare(a.Pattern, b.Pattern) })
	return routes
}

// Close sends the last state and the last rows to all clients that receive events, and ends their connections. No
// further client can connect. The other paths continue to answer.
func (v *View) Close(ctx context.Context) {
	v.state.expire()
	v.feed.close(ctx)
}
