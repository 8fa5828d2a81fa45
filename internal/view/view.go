// Package view serves the live page of one simulation, and its data as JSON and as server-sent events.
//
// One loop polls the source while there are clients. A slow client receives every row, but not every state. A client
// too far behind is disconnected, and resumes after its last row.
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

// Source provides the data of the simulation. Its methods may be called concurrently.
type Source interface {
	// State returns the current state of the simulation.
	State(ctx context.Context) (State, error)
	// Timeline returns the measurements in the interval [from, to), in chronological order.
	Timeline(ctx context.Context, from, to time.Time) ([]timeline.Row, error)
}

// Config is the configuration of a View. Zero values select the defaults.
type Config struct {
	// Version is the version of the program. The page shows it if a state contains no version.
	Version string
	// Interval is the time between two updates that clients receive. The default is 500 ms.
	Interval time.Duration
	// MaxClients is the maximum number of clients that receive events at the same time. The default is 32.
	MaxClients int

	// TimelineTimeout is the timeout for reading a part of a timeline from the source. The default is 10 s.
	TimelineTimeout time.Duration

	// Only tests set these fields.
	heartbeat       time.Duration // a client that has received no event for this time receives a heartbeat
	writeTimeout    time.Duration // the timeout of each write to a client
	transferTimeout time.Duration // the timeout for sending a whole timeline
	reread          time.Duration // replaces rereadInterval
}

const (
	defaultInterval   = 500 * time.Millisecond
	defaultMaxClients = 32
	// defaultHeartbeat must be shorter than the time after which the page considers a silent connection broken. See
	// feed.js.
	defaultHeartbeat    = 5 * time.Second
	defaultWriteTimeout = 10 * time.Second
	// defaultTransferTimeout limits how long a timeline stays in memory for a slow client.
	defaultTransferTimeout = 5 * time.Minute
	defaultTimelineTimeout = 10 * time.Second
	// stateTimeout is the timeout for reading the state from the source.
	stateTimeout = 10 * time.Second
	// maxReads is the maximum number of concurrent reads of timelines, because a long timeline takes much memory.
	maxReads = 1
	// maxWait is the maximum time for which a request for a timeline waits for other requests to read theirs.
	maxWait = 5 * time.Second
	// MaxSilence is the longest time until the View begins to send a timeline of one part, with the default timeouts.
	// Each further part can add defaultTimelineTimeout.
	MaxSilence = maxWait + defaultTimelineTimeout
)

// Dependencies are the services that a View uses. All are required.
type Dependencies struct {
	Source Source
	Logger *slog.Logger
}

// View is the HTTP handler of the live page. Serve it behind httpserver.Guard, because a View checks neither host nor
// origin.
type View struct {
	config Config
	source Source
	log    *slog.Logger
	state  cachedState
	feed   *feed
	poller poller
	reads  *semaphore.Weighted
	// spooled limits the total size of the responses that are in memory until clients have received them. See
	// maxSpooled.
	spooled *semaphore.Weighted
	mux     *http.ServeMux
}

// New returns a View of one simulation.
func New(c Config, d Dependencies) *View {
	c.Interval = cmp.Or(c.Interval, defaultInterval)
	c.MaxClients = cmp.Or(c.MaxClients, defaultMaxClients)
	c.TimelineTimeout = cmp.Or(c.TimelineTimeout, defaultTimelineTimeout)
	c.heartbeat = cmp.Or(c.heartbeat, defaultHeartbeat)
	c.writeTimeout = cmp.Or(c.writeTimeout, defaultWriteTimeout)
	c.transferTimeout = cmp.Or(c.transferTimeout, defaultTransferTimeout)
	v := &View{config: c, source: d.Source, log: d.Logger, reads: semaphore.NewWeighted(maxReads), spooled: semaphore.NewWeighted(maxSpooled), mux: http.NewServeMux()}
	v.poller.reread = cmp.Or(c.reread, rereadInterval)
	v.state = cachedState{source: d.Source, version: c.Version, maxAge: c.Interval / 2}
	v.feed = &feed{poll: v.poll, start: v.poller.reset, interval: c.Interval, maxClients: c.MaxClients}
	for pattern, handler := range v.handlers() {
		v.mux.Handle(pattern, handler)
	}
	return v
}

const (
	pathPage     = "/{$}"
	pathAssets   = "/assets/{name}"
	pathState    = "/v1/state"
	pathTimeline = "/v1/timeline"
	pathEvents   = "/v1/events"
)

func (v *View) handlers() map[string]http.Handler {
	return map[string]http.Handler{
		pathPage:     v.guard(servePage),
		pathAssets:   v.guard(serveAsset),
		pathState:    v.guard(v.serveState),
		pathTimeline: v.guard(v.serveTimeline),
		pathEvents:   v.guard(v.serveEvents),
	}
}

// ServeHTTP implements http.Handler.
func (v *View) ServeHTTP(w http.ResponseWriter, r *http.Request) { v.mux.ServeHTTP(w, r) }

// Routes returns the paths of the page with their handlers, for a server that also serves other paths.
func (v *View) Routes() []httpserver.Route {
	var routes []httpserver.Route
	for pattern := range v.handlers() {
		routes = append(routes, httpserver.Route{Pattern: pattern, Handler: v})
	}
	slices.SortFunc(routes, func(a, b httpserver.Route) int { return cmp.Compare(a.Pattern, b.Pattern) })
	return routes
}

// Close sends the last state and rows to all clients, and then ends their event streams. The other paths still
// respond.
func (v *View) Close(ctx context.Context) {
	v.state.expire()
	v.feed.close(ctx)
}
