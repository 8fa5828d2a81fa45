package view

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/async"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// maxBehind is the maximum number of rows that wait for one client. Beyond it, the client is disconnected. It exceeds
// the rows of one hour, which is the most that a poll adds after an outage.
const maxBehind = maxRows

// update contains what one poll of the source has read.
type update struct {
	state State
	// wasRead is true if the timeline was read. In this case, rows contains the rows that are new or have changed since
	// the previous read.
	wasRead bool
	rows    []timeline.Row
}

// client collects what must still be sent to one client: every row, but only the latest state. The mutex of the feed
// guards all fields.
type client struct {
	// wake receives a value when there is something to send, or when the client must be disconnected.
	wake chan struct{}

	isBehind bool // whether an update is waiting to be sent to this client
	state    State
	wasRead  bool
	rows     map[int64]timeline.Row // the keys are the seconds in which the rows begin
	hasEnded bool
}

// add adds an update to the data that the client must still receive. It returns false if this data has more than
// maxBehind rows.
func (c *client) add(u *update) bool {
	// The page drops all rows when the run changes.
	if c.rows == nil || c.state.Run != u.state.Run {
		c.rows = map[int64]timeline.Row{}
	}
	c.isBehind, c.state, c.wasRead = true, u.state, c.wasRead || u.wasRead
	for i := range u.rows {
		c.rows[u.rows[i].Second] = u.rows[i]
	}
	return len(c.rows) <= maxBehind
}

func (c *client) notify() {
	select {
	case c.wake <- struct{}{}:
	default: // the channel still contains a value, which will wake the client
	}
}

// feed polls for updates while it has clients, and sends each update to all of them.
type feed struct {
	// The function poll returns an update, or nil if there is no update. It is never called concurrently.
	poll func(context.Context) *update
	// start is called before the first poll after a time without clients. It may be nil.
	start      func()
	interval   time.Duration
	maxClients int

	polling sync.Mutex // locked during a poll, so that only one poll runs at a time

	mu      sync.Mutex
	clients map[*client]bool
	stop    context.CancelFunc // stops the polling of the source; nil while the feed does not poll
	closed  bool
}

// join adds a client, which the caller must later remove with the method leave. It returns nil if there are too many
// clients or the feed is closed.
func (f *feed) join() *client {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || len(f.clients) >= f.maxClients {
		return nil
	}
	if f.clients == nil {
		f.clients = map[*client]bool{}
	}
	c := &client{wake: make(chan struct{}, 1)}
	f.clients[c] = true
	if f.stop == nil {
		if f.start != nil {
			f.start()
		}
		ctx, cancel := context.WithCancel(context.Background())
		f.stop = cancel
		go async.Every(ctx, f.interval, func() { f.update(ctx) })
	}
	return c
}

// leave removes a client. When the last client leaves, the feed stops polling.
func (f *feed) leave(c *client) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.clients, c)
	if len(f.clients) == 0 && f.stop != nil {
		f.stop()
		f.stop = nil
	}
}

// take returns the data that must still be sent to a client, or nil. If ended is true, the caller must disconnect the
// client afterwards.
func (f *feed) take(c *client) (u *update, ended bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.isBehind {
		u = &update{state: c.state, wasRead: c.wasRead}
		for _, second := range slices.Sorted(maps.Keys(c.rows)) {
			u.rows = append(u.rows, c.rows[second])
		}
		c.isBehind, c.wasRead, c.rows = false, false, nil
	}
	return u, c.hasEnded
}

// update polls the source once, and sends the result to all clients.
func (f *feed) update(ctx context.Context) {
	f.polling.Lock()
	defer f.polling.Unlock()
	if ctx.Err() != nil {
		return
	}
	u := f.poll(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	if u == nil || f.closed {
		return
	}
	for c := range f.clients {
		if !c.add(u) {
			c.rows, c.isBehind, c.hasEnded = nil, false, true
			delete(f.clients, c)
		}
		c.notify()
	}
}

// close polls once more and disconnects all clients after they have received the last update.
func (f *feed) close(ctx context.Context) {
	f.update(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.stop != nil {
		f.stop()
		f.stop = nil
	}
	for c := range f.clients {
		c.hasEnded = true
		c.notify()
	}
	f.clients = nil
}
