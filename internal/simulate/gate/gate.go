// Package gate injects faults into the parts of a simulation that run in this process, namely components and
// in-memory servers. Each part has a Gate. The functions Broker, Store and Poster wrap an interface so that
// every call passes through a Gate. In this way, a fault can pause, isolate or kill a part that knows nothing
// about faults.
package gate

import (
	"context"
	"errors"
	"sync"
	"time"
)

var (
	// errCut is returned by calls to or from an isolated part of the simulation.
	errCut = errors.New("the connection is refused")
	// errLost is returned by calls whose connection was cut before they returned. The call may have taken
	// effect.
	errLost = errors.New("the connection was lost before the reply")
	// errDead is returned by calls to or from a part of the simulation that was killed.
	errDead = errors.New("the process was killed")
)

// state determines what a gate does with calls.
type state int

const (
	open state = iota
	// paused is the state in which the gate blocks calls and their results until the state changes.
	paused
	// mute is the state in which calls take effect, but the gate blocks their results.
	mute
	// cut is the state in which the gate rejects calls, like a server that cannot be reached.
	cut
	// dead is the state in which the gate rejects calls for ever, like a process that was killed.
	dead
)

// Gate controls all calls that one part of the simulation makes, or all calls that one part receives.
type Gate struct {
	mu    sync.Mutex
	state state
	// connection is the number of the current connection, counted from 0. It increases whenever the connections are
	// cut. If it changes while a call is in progress, the call fails.
	connection int
	pinged     int           // the value of the field connection at the latest ping
	changed    chan struct{} // closed, and replaced by a new channel, when the state changes
	cuts       map[int]func()
	nextCut    int
}

// New returns an open gate.
func New() *Gate { return &Gate{changed: make(chan struct{}), cuts: make(map[int]func())} }

// set changes the state of the gate. If the new state is cut or dead, it also cuts the connections.
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

// onCut registers a function to be called whenever the connections are cut. To unregister it, call remove.
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

// pass blocks while hold returns true for the state of the gate. Then it returns the number of the current connection
// (see Gate.connection). It returns an error if the gate rejects calls, or if ctx ends.
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

// enter must be called before each request that the gate controls. It blocks while the gate is paused. It returns the
// number of the current connection. The caller passes this number to the method answer, which uses the number to detect
// whether the connection was cut during the request.
func (g *Gate) enter(ctx context.Context) (connection int, err error) {
	return g.pass(ctx, func(s state) bool { return s == paused })
}

// await is like enter, with one difference: while the gate is cut, await blocks, whereas enter returns an
// error.
func (g *Gate) await(ctx context.Context) (connection int, err error) {
	return g.pass(ctx, func(s state) bool { return s == paused || s == cut })
}

// answer must be called before the result of a request is returned. It blocks while the gate is paused or mute.
// The argument connection is the number that the method enter returned before the request. If that connection has been
// cut since then, answer returns an error.
func (g *Gate) answer(ctx context.Context, connection int) error {
	now, err := g.pass(ctx, func(s state) bool { return s == paused || s == mute })
	switch {
	case errors.Is(err, errCut), err == nil && now != connection:
		return errLost
	}
	return err
}

// isUp reports whether the gate lets calls through without blocking.
func (g *Gate) isUp() bool {
	s, _, _ := g.now()
	return s != paused && s != cut
}

// answers reports whether the gate lets the result of a request through without blocking.
func (g *Gate) answers(connection int) bool {
	s, now, _ := g.now()
	return s == open && now == connection
}

// call calls f through the gate: it calls enter before f, and answer after f. If it returns errLost, f may have
// taken effect.
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

// ping calls f through the gate. It also returns errLost if the gate has cut the connections since the last call.
func (g *Gate) ping(ctx context.Context, f func() error) error {
	err := g.call(ctx, f)
	g.mu.Lock()
	defer g.mu.Unlock()
	lost := g.connection != g.pinged
	g.pinged = g.connection
	if err == nil && lost {
		return errLost
	}
	return err
}

const (
	// muteTime is the time before a crash in which calls take effect, but return no result. It models that a real
	// server may crash after it has executed a request, but before it replies.
	muteTime = 20 * time.Millisecond
	// DownTime is the time from when a server or a component ends until it runs again.
	DownTime = 500 * time.Millisecond
)

// Kill makes the gate reject all further calls, permanently. Calls in progress may still take effect.
func (g *Gate) Kill() { g.set(dead) }

// Pause blocks all calls and their results until the caller calls release.
func (g *Gate) Pause(context.Context) (release func() error, err error) { return g.hold(paused) }

// Isolate cuts all connections and rejects all calls until the caller calls release.
func (g *Gate) Isolate(context.Context) (release func() error, err error) { return g.hold(cut) }

func (g *Gate) hold(s state) (release func() error, err error) {
	g.set(s)
	return func() error {
		g.set(open)
		return nil
	}, nil
}

// Server is an in-memory server into which faults can be injected. It is a broker, a store or a summary API
// behind a gate.
type Server struct {
	*Gate

	name  string
	crash func(draw uint64)
}

// NewServer returns the server with the given name behind the gate g. crash discards the data that a crash of the
// server would lose. It may be nil.
func NewServer(name string, g *Gate, crash func(draw uint64)) *Server {
	return &Server{name: name, Gate: g, crash: crash}
}

// Name implements fault.Instance.
func (s *Server) Name() string { return s.name }

// Stop implements fault.Instance. It stops the server, and starts it again after DownTime. The function that it returns
// waits until the server runs again. If crash is true, calls in the last muteTime before the crash take effect, but do
// not return a result.
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
