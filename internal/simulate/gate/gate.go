// Package gate injects faults into the parts of a simulation that run in this process: components, and in-memory
// servers. Each part has a Gate. The decorators Broker, Store and Poster make every call pass through a gate, so
// that a fault can pause, isolate or kill the part without its cooperation.
package gate

import (
	"context"
	"errors"
	"sync"
	"time"
)

var (
	// errCut is the error of calls to or from a part that is isolated.
	errCut = errors.New("the connection is refused")
	// errLost is the error of calls whose connection was cut before they returned. They may have taken effect.
	errLost = errors.New("the connection was lost before the reply")
	// errDead is the error of calls by a part that was killed. They have no effect.
	errDead = errors.New("the process was killed")
)

// state determines what a gate does with calls.
type state int

const (
	open state = iota
	// paused blocks calls and their results until the state changes.
	paused
	// mute executes calls but blocks their results.
	mute
	// cut rejects calls.
	cut
	// dead rejects all calls permanently.
	dead
)

// Gate controls either all calls that one part of the simulation makes, or all calls that it receives.
type Gate struct {
	mu    sync.Mutex
	state state
	// connection is the number of times that the connections were cut. A call fails if this number changes while
	// the call is in progress.
	connection int
	changed    chan struct{} // closed at each change
	cuts       map[int]func()
	nextCut    int
}

// New returns an open gate.
func New() *Gate { return &Gate{changed: make(chan struct{}), cuts: make(map[int]func())} }

// set changes the state of the gate. A change to cut or dead also cuts the connections.
func (g *Gate) set(s state) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == dead {
		return
	}
	if s >= cut && g.state < cut {
		g.connection++
		for _, f := range g.cuts {
			go f()
		}
	}
	g.state = s
	close(g.changed)
	g.changed = make(chan struct{})
}

// onCut registers f to be called whenever the connections are cut. The returned function unregisters it.
func (g *Gate) onCut(f func()) (remove func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	id := g.nextCut
	g.nextCut++
	g.cuts[id] = f
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.cuts, id)
	}
}

func (g *Gate) now() (s state, connection int, changed <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state, g.connection, g.changed
}

// pass blocks while hold returns true for the state of the gate. It returns the number of the current connection.
// It returns an error if the gate rejects calls or if ctx has ended.
func (g *Gate) pass(ctx context.Context, hold func(state) bool) (connection int, err error) {
	for {
		s, connection, changed := g.now()
		switch {
		case s == dead:
			return 0, errDead
		case !hold(s) && s == cut:
			return 0, errCut
		case !hold(s):
			return connection, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// enter must be called before a call. It blocks while the gate is paused.
func (g *Gate) enter(ctx context.Context) (connection int, err error) {
	return g.pass(ctx, func(s state) bool { return s == paused })
}

// await is like enter, but also blocks while the connections are cut.
func (g *Gate) await(ctx context.Context) (connection int, err error) {
	return g.pass(ctx, func(s state) bool { return s == paused || s == cut })
}

// answer must be called before the result of a call is returned. It blocks while the gate holds results. It returns
// an error if the connection was cut since enter.
func (g *Gate) answer(ctx context.Context, connection int) error {
	now, err := g.pass(ctx, func(s state) bool { return s == paused || s == mute })
	switch {
	case errors.Is(err, errCut), err == nil && now != connection:
		return errLost
	}
	return err
}

// answers reports whether the gate lets the result of a call through at once.
func (g *Gate) answers(connection int) bool {
	s, now, _ := g.now()
	return s == open && now == connection
}

// call calls f and lets the call and its result pass through the gate. If it returns errLost, f may have taken
// effect.
func (g *Gate) call(ctx context.Context, f func() error) error {
	connection, err := g.enter(ctx)
	if err != nil {
		return err
	}
	err = f()
	if lost := g.answer(ctx, connection); lost != nil {
		return lost
	}
	return err
}

const (
	// muteTime is how long a killed server still executes calls without returning their results.
	muteTime = 20 * time.Millisecond
	// DownTime is how long it takes to start a server or a component again.
	DownTime = 500 * time.Millisecond
)

// Kill rejects all further calls permanently. Calls in progress may take effect.
func (g *Gate) Kill() { g.set(dead) }

// Pause blocks all calls and their results until the returned function is called.
func (g *Gate) Pause(context.Context) (release func() error, err error) { return g.hold(paused) }

// Isolate cuts all connections and rejects calls until the returned function is called.
func (g *Gate) Isolate(context.Context) (release func() error, err error) { return g.hold(cut) }

func (g *Gate) hold(s state) (release func() error, err error) {
	g.set(s)
	return func() error {
		g.set(open)
		return nil
	}, nil
}

// Server is an in-memory server that faults can hit: a broker, a store or a summary API behind a gate.
type Server struct {
	*Gate

	name  string
	crash func(draw uint64)
}

// NewServer returns a server with a name. The function crash discards what a crash of the server would lose. It may
// be nil.
func NewServer(name string, g *Gate, crash func(draw uint64)) *Server {
	return &Server{name: name, Gate: g, crash: crash}
}

// Name implements fault.Instance.
func (s *Server) Name() string { return s.name }

// Stop implements fault.Instance: it restarts the server. If crash is true, the last calls before the crash take
// effect but return no result.
func (s *Server) Stop(ctx context.Context, crash bool, draw uint64) (started func(context.Context) error, err error) {
	if crash {
		s.set(mute)
		dying := time.NewTimer(muteTime)
		defer dying.Stop()
		select {
		case <-dying.C:
		case <-ctx.Done():
		}
	}
	s.set(cut)
	if crash && s.crash != nil {
		s.crash(draw)
	}
	up := make(chan struct{})
	time.AfterFunc(DownTime, func() {
		s.set(open)
		close(up)
	})
	return func(ctx context.Context) error {
		select {
		case <-up:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}, nil
}
