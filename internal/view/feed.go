package view

import (
	"context"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/async"
)

// maxBehind is the maximum number of updates that are queued for a slow client. A client with a longer queue is
// disconnected.
const maxBehind = 20

// feed polls for updates while it has clients, and sends each update to all of them.
type feed struct {
	// poll returns the events of an update. It is never called concurrently.
	poll func(context.Context) []byte
	// start is called before the first poll after a time without clients. It may be nil.
	start      func()
	interval   time.Duration
	maxClients int

	polling sync.Mutex // held during poll

	mu      sync.Mutex
	clients map[chan []byte]bool
	stop    context.CancelFunc // stops the polls; nil while no poll runs
	closed  bool
}

// join adds a client. It returns ok = false if there are too many clients or the feed is closed. Otherwise the caller
// must call leave, and the channel receives the events. The feed closes the channel if the client is too slow, or when
// the feed itself is closed.
func (f *feed) join() (events <-chan []byte, leave func(), ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || len(f.clients) >= f.maxClients {
		return nil, nil, false
	}
	if f.clients == nil {
		f.clients = map[chan []byte]bool{}
	}
	client := make(chan []byte, maxBehind)
	f.clients[client] = true
	if f.stop == nil {
		if f.start != nil {
			f.start()
		}
		ctx, cancel := context.WithCancel(context.Background())
		f.stop = cancel
		go async.Every(ctx, f.interval, func() { f.update(ctx) })
	}
	return client, func() { f.leave(client) }, true
}

// leave removes a client. When the last client leaves, the feed stops polling.
func (f *feed) leave(client chan []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.clients, client)
	if len(f.clients) == 0 && f.stop != nil {
		f.stop()
		f.stop = nil
	}
}

// update polls once and sends the events to all clients.
func (f *feed) update(ctx context.Context) {
	f.polling.Lock()
	defer f.polling.Unlock()
	if ctx.Err() != nil {
		return
	}
	events := f.poll(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(events) == 0 || f.closed {
		return
	}
	for client := range f.clients {
		select {
		case client <- events:
		default:
			close(client)
			delete(f.clients, client)
		}
	}
}

// close sends a last update to all clients and closes their channels.
func (f *feed) close(ctx context.Context) {
	f.update(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.stop != nil {
		f.stop()
		f.stop = nil
	}
	for client := range f.clients {
		close(client)
	}
	f.clients = nil
}
