package rehearsal_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/agent"
	"github.com/parking-operator/parking-operator/internal/agent/agenttest"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// mortal is the client of an operator that is killed while it writes to the journal. After the kill, all its
// methods fail without an effect.
type mortal struct {
	client.Client

	// The operator is killed when it writes a record whose state is the value of at. If after is true, that
	// write still takes effect.
	at    fault.State
	after bool
	// kill ends the context of the operator.
	kill context.CancelFunc

	dead    atomic.Bool
	deletes atomic.Int64
}

var errDead = errors.New("the operator was killed")

func (m *mortal) Patch(ctx context.Context, object client.Object, patch client.Patch, options ...client.PatchOption) error {
	if m.dead.Load() {
		return errDead
	}
	dies := stateIn(object) == m.at
	if dies && !m.after {
		m.die()
		return errDead
	}
	err := m.Client.Patch(ctx, object, patch, options...)
	if dies && err == nil {
		m.die()
	}
	return err
}

func (m *mortal) die() {
	m.dead.Store(true)
	m.kill()
}

// stateIn returns the state of the only record in a journal, or "" if the journal has no record.
func stateIn(object client.Object) fault.State {
	config, ok := object.(*corev1.ConfigMap)
	if !ok {
		return ""
	}
	var content struct{ Records []fault.Record }
	if err := json.Unmarshal([]byte(config.Data["journal.json"]), &content); err != nil || len(content.Records) == 0 {
		return ""
	}
	return content.Records[0].State
}

func (m *mortal) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	if m.dead.Load() {
		return errDead
	}
	return m.Client.Get(ctx, key, object, options...)
}

func (m *mortal) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	if m.dead.Load() {
		return errDead
	}
	return m.Client.List(ctx, list, options...)
}

func (m *mortal) Delete(ctx context.Context, object client.Object, options ...client.DeleteOption) error {
	if m.dead.Load() {
		return errDead
	}
	m.deletes.Add(1)
	return m.Client.Delete(ctx, object, options...)
}

// The operator is killed in each phase of a fault, and another operator takes over. In the end, the fault must
// have been injected exactly once, must have ended, and must be recorded.
func TestRehearsals_OperatorIsKilled_NewOperatorFinishesTheFault(t *testing.T) {
	phases := []struct {
		name  string
		at    fault.State
		after bool
	}{
		{"before the record", fault.Injecting, false},
		{"after the record, before the injection", fault.Injecting, true},
		{"after the injection, before its record", fault.Active, false},
		{"while the fault is in effect", fault.Active, true},
		{"after the end, before its record", fault.Healed, false},
		{"after the record of the end", fault.Healed, true},
	}
	number := 0
	for _, action := range []plan.FaultAction{plan.ActionPause, plan.ActionKill, plan.ActionRestart} {
		for _, phase := range phases {
			number++
			ip := fmt.Sprintf("127.77.6.%d", number)
			t.Run(fmt.Sprint(action, " ", phase.name), func(t *testing.T) {
				f := plan.Fault{Name: "fault", Target: plan.TargetRedis, Action: action, Instances: 1}
				if action.Lasts() {
					f.For = plan.Duration(500 * time.Millisecond)
				}
				w := newWorld(t, f)
				executed := w.cluster(t, ip)
				ctx, kill := context.WithCancel(t.Context())
				defer kill()
				first := &mortal{Client: w.Client, at: phase.at, after: phase.after, kill: kill}
				_, stop := w.leadWith(first, ctx)
				<-ctx.Done()
				stop()
				next := &mortal{Client: w.Client, kill: func() {}}
				second, _ := w.leadWith(next, context.Background())
				record := w.await(second, fault.Healed)
				if records, _ := second.Records(w.key()); len(records) != 1 {
					t.Errorf("there are %d records", len(records))
				}
				if record.InjectedAt.IsZero() || record.HealedAt.Before(record.InjectedAt) || len(record.Hit) != 1 {
					t.Errorf("the record is %+v", record)
				}
				if n := executed() + first.deletes.Load() + next.deletes.Load(); n != 1 {
					t.Errorf("the fault was injected %d times", n)
				}
			})
		}
	}
}

// cluster creates a pod of Redis with an agent. It also does what the kubelet and the workload controller would
// do: it reports that a killed container runs again, and it replaces a deleted pod. It returns a function that
// counts the faults that the agent has injected.
func (w *world) cluster(t *testing.T, ip string) (executed func() int64) {
	t.Helper()
	process := agenttest.Start(t, "sleep", "300")
	a := agent.New(agent.Config{Target: process.Path}, slog.New(slog.DiscardHandler))
	t.Cleanup(a.Close)
	var known sync.Map // the instants of the faults, one for each that the agent has executed
	handler := agent.Handler(a, func() (string, error) { return w.agents.Token, nil })
	w.handle(t, ip, http.HandlerFunc(func(response http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(response, r)
		if f, ok := a.Fault("fault/0"); ok {
			known.Store(f.At, true)
		}
	}))
	status := func(s *corev1.PodStatus) {
		ready(time.Now().Add(-time.Hour))(s)
		s.PodIP, s.PodIPs = ip, []corev1.PodIP{{IP: ip}}
	}
	pod := w.Pod(w.sim, resources.ComponentRedis, status)
	stop := make(chan struct{})
	var working sync.WaitGroup
	working.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-process.Ended():
				w.restarted(pod)
				return
			case <-time.After(50 * time.Millisecond):
			}
			err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), &corev1.Pod{})
			if client.IgnoreNotFound(err) == nil && err != nil {
				w.Pod(w.sim, resources.ComponentRedis, ready(time.Now()))
				return
			}
		}
	})
	t.Cleanup(func() {
		close(stop)
		working.Wait()
	})
	return func() (n int64) {
		known.Range(func(any, any) bool {
			n++
			return true
		})
		return n
	}
}
