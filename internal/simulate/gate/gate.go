// Package gate injects faults into the parts of a simulation that run in this process. A Gate stands in front of each
// part. The decorators Broker, Store and Poster pass every call through a gate, so that the part can be paused, cut off
// or crashed without its knowledge.
package gate

import (
	"context"
	"errors"
	"sync"
	"time"
)

var (
	// errCut is the error of calls to or from a part that is cut off.
	errCut = errors.New("the connection is refused")
	// errLost is the error of calls whose connection was cut before the answer. They may have taken effect.
	errLost = errors.New("the connection was lost before the answer")
	// errDead is the error of calls of a part that was killed. They have no effect.
	errDead = errors.New("the process was killed")
)

// state is what a gate does with calls.
type state int

const (
	open state = iota
	// paused holds calls and their answers until the gate is open.
	paused
	// mute passes calls, which take effect, and holds their answers.
	mute
	// cut rejects calls.
	cut
	// dead rejects calls for good.
	dead
)

// Gate is passed by every call of one part of the simulation to the others, or by every call to one part.
type Gate struct {
	mu    sync.Mutex
	state state
	// connection counts how often the connections were cut. A call fails if it changes before the answer.
	connection int
	changed    chan struct{} // closed at each change
	cuts       map[int]func()
	nextCut    int
}

// New returns an open gate.
func New() *Gate { return &Gate{changed: make(chan struct{}), cuts: make(map[int]func())} }

// set changes the state. A change to cut or dead cuts the connections.
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

// onCut calls f whenever the connections are cut, until the returned function is called.
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

// pass waits while hold returns true for the state. It returns the connection, or an error if calls are rejected or ctx
// has ended.
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

// enter passes a call. It waits while the gate is paused.
func (g *Gate) enter(ctx context.Context) (connection int, err error) {
	return g.pass(ctx, func(s state) bool { return s == paused })
}

// await is like enter, and also waits while the gate is cut.
func (g *Gate) await(ctx context.Context) (connection int, err error) {
	return g.pass(ctx, func(s state) bool { return s == paused || s == cut })
}

// answer passes the answer to a call. It fails if the connection was cut since enter.
func (g *Gate) answer(ctx context.Context, connection int) error {
	now, err := g.pass(ctx, func(s state) bool { return s == paused || s == mute })
	switch {
	case errors.Is(err, errCut), err == nil && now != connection:
		return errLost
	}
	return err
}

// answers reports whether an answer passes at once.
func (g *Gate) answers(connection int) bool {
	s, now, _ := g.now()
	return s == open && now == connection
}

// call calls f through the gate. After errLost, f may have taken effect.
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
	// muteTime is how long a server that is killed still executes calls without answering them.
	muteTime = 20 * time.Millisecond
	// DownTime is how long a server or a component takes to start again.
	DownTime = 500 * time.Millisecond
)

// Kill rejects all calls for good. Those in progress may take effect.
func (g *Gate) Kill() { g.set(dead) }

// Pause holds all calls and answers until it is released.
func (g *Gate) Pause(context.Context) (release func() error, err error) { return g.hold(paused) }

// Isolate cuts all connections, and rejects calls until it is released.
func (g *Gate) Isolate(context.Context) (release func() error, err error) { return g.hold(cut) }

func (g *Gate) hold(s state) (release func() error, err error) {
	g.set(s)
	return func() error {
		g.set(open)
		return nil
	}, nil
}

// Server is a server that runs in this process: a broker, a store or an API, behind a gate.
type Server struct {
	*Gate

	name  string
	crash func(draw uint64)
}

// NewServer returns a server of a name. crash loses what a crash of the server loses, and may be nil.
func NewServer(name string, g *Gate, crash func(draw uint64)) *Server {
	return &Server{name: name, Gate: g, crash: crash}
}

// Name returns the name.
func (s *Server) Name() string { return s.name }

// Stop restarts the server. When it crashes, the latest calls take effect and are not answered.
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
