// Package gate injects faults into the parts of a simulation that run in this process.
//
// All calls of a component, or all calls to an in-memory server, pass through a Gate. A fault can therefore pause,
// isolate or kill a part whose code does not know about faults.
package gate

import (
	"context"
	"errors"
	"sync"
	"time"
)

var (
	// errCut is returned by calls to or from an isolated or stopped part of the simulation.
	errCut = errors.New("the connection is refused")
	// errLost is returned by a call if the connection was cut during the call. The call may have taken effect.
	errLost = errors.New("the connection was lost before the reply")
	// errDead is returned by calls to or from a killed part of the simulation.
	errDead = errors.New("the process was killed")
)

type state int

const (
	open state = iota
	// paused is the state in which the gate blocks calls and their results until the state changes.
	paused
	// mute is the state in which the gate lets calls take effect, but blocks their results.
	mute
	// cut is the state in which the gate rejects calls, like an unreachable server.
	cut
	// dead is the final state. The gate rejects all calls, like a killed process.
	dead
)

// Gate controls calls. The gate of a component controls all calls that the component makes. The gate of a server
// controls all calls that the server receives.
type Gate struct {
	mu    sync.Mutex
	state state
	// connection counts the cuts of the connections. A call fails if the number changes during the call.
	connection int
	pinged     int           // the number of cuts at the end of the latest ping
	changed    chan struct{} // closed, and replaced by a new channel, when the state changes
	cuts       map[int]func()
	nextCut    int
}

// New returns a gate that lets all calls pass.
func New() *Gate { return &Gate{changed: make(chan struct{}), cuts: make(map[int]func())} }

// set changes the state of the gate. It cuts the connections if calls are rejected in the new state.
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

// onCut registers f. The gate calls f whenever it cuts the connections. The function remove unregisters f.
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

// pass blocks while the function hold returns true for the state of the gate. Then it returns the current connection
// number, or an error if the gate is cut or dead.
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

// enter begins a call. It blocks while the gate is paused, and fails if the gate is cut or dead. Pass the returned
// connection number to Gate.answer after the call.
func (g *Gate) enter(ctx context.Context) (connection int, err error) {
	return g.pass(ctx, func(s state) bool { return s == paused })
}

// await is like enter, but blocks instead of failing while the gate is cut.
func (g *Gate) await(ctx context.Context) (connection int, err error) {
	return g.pass(ctx, func(s state) bool { return s == paused || s == cut })
}

// answer waits while the gate withholds responses. connection is the number that Gate.enter or Gate.await returned. If
// this connection has been cut, answer returns errLost.
func (g *Gate) answer(ctx context.Context, connection int) error {
	now, err := g.pass(ctx, func(s state) bool { return s == paused || s == mute })
	switch {
	case errors.Is(err, errCut), err == nil && now != connection:
		return errLost
	}
	return err
}

// isUp reports whether the gate is neither paused nor cut. If isUp returns true, Gate.await returns without blocking.
func (g *Gate) isUp() bool {
	s, _, _ := g.now()
	return s != paused && s != cut
}

// answers reports whether Gate.answer would return nil without blocking.
func (g *Gate) answers(connection int) bool {
	s, now, _ := g.now()
	return s == open && now == connection
}

// call calls f between Gate.enter and Gate.answer. If call returns errLost, f may have taken effect.
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

// ping calls f through the gate. It returns the error of this call. If the call succeeds although the connections
// were cut since the previous ping, it returns errLost.
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
	// muteTime is the time before a crash in which calls take effect but get no reply, as can happen in the crash of a
	// real server.
	muteTime = 20 * time.Millisecond
	// DownTime is the time between the stop and the restart of a server or a component.
	DownTime = 500 * time.Millisecond
)

// Kill makes the gate reject all later calls. The effect is permanent. Calls in progress may still take effect.
func (g *Gate) Kill() { g.set(dead) }

// Pause blocks calls and their results until the function release is called.
func (g *Gate) Pause(context.Context) (release func() error, err error) { return g.hold(paused) }

// Isolate cuts all connections and rejects all calls until the function release is called.
func (g *Gate) Isolate(context.Context) (release func() error, err error) { return g.hold(cut) }

func (g *Gate) hold(s state) (release func() error, err error) {
	g.set(s)
	return func() error {
		g.set(open)
		return nil
	}, nil
}

// Server is an in-memory server behind a gate: a broker, a store or a summary API. Faults can be injected into the
// server.
type Server struct {
	*Gate

	name  string
	crash func(draw uint64)
}

// NewServer returns a server whose calls pass through the gate g. In a crash, the function crash discards the data that
// is not durable. crash may be nil.
func NewServer(name string, g *Gate, crash func(draw uint64)) *Server {
	return &Server{name: name, Gate: g, crash: crash}
}

// Name implements fault.Instance.
func (s *Server) Name() string { return s.name }

// Stop implements fault.Instance. It stops the server and starts it again after DownTime. Before a crash, the server
// is mute for muteTime.
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
