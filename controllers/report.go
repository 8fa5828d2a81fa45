package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/apply"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/resources"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// writeReport writes the report to a ConfigMap and returns its name. After a permanent error, it records an event and
// returns "".
func (r *Reconciler) writeReport(ctx context.Context, s *scope, verdict ledger.Verdict, faults []fault.Account) (name string, err error) {
	document := r.report(ctx, s, verdict, faults)
	text, err := document.Bounded(resources.MaxReport)
	if err != nil { // a retry would fail in the same way, so only report the error
		r.reportNotWritten(s, err)
		return "", nil
	}
	_, err = r.applier.Apply(ctx, resources.ReportConfigMap(s.sim, text), s.children[reportKey(s)])
	_, taken := errors.AsType[*apply.NameTakenError](err)
	switch {
	case err == nil:
		return resources.ReportName(s.sim), nil
	case taken, apierrors.IsInvalid(err), apierrors.IsForbidden(err), apierrors.IsRequestEntityTooLargeError(err):
		r.reportNotWritten(s, err)
		return "", nil
	}
	return "", fmt.Errorf("write the report of %s: %w", s.key, err)
}

func (r *Reconciler) reportNotWritten(s *scope, why error) {
	r.event(s, corev1.EventTypeWarning, "ReportNotWritten", "Report", "The report is not written: %s", why)
}

func reportKey(s *scope) childKey { return childKey{"ConfigMap", resources.ReportName(s.sim)} }

// report returns the report of a simulation that becomes complete.
func (r *Reconciler) report(ctx context.Context, s *scope, verdict ledger.Verdict, faults []fault.Account) report.Document {
	rest := s.observation.Rest
	run := report.Run{
		Verdict:        verdict,
		Simulation:     s.plan.Simulation,
		Rates:          report.RatesOf(rest.Timeline),
		LatencySeconds: report.LatenciesOf(&rest.Latencies),
		Objectives:     s.plan.Objectives,
		Faults:         faults,
		FaultsOmitted:  s.faultHistory.Occurrences(),
		FaultTotals:    fault.Totals(s.faultHistory, faults),
		EndTime:        s.now.UTC().Truncate(time.Second),
	}
	if rest.Err == nil {
		run.Ledger = &rest.Report
	}
	if end, ends := endOf(s.sim); ends {
		run.StartTime = s.sim.Status.StartTime.UTC()
		run.ElapsedSeconds = end.Sub(run.StartTime).Seconds()
		run.DrainSeconds = max(run.EndTime.Sub(end), 0).Seconds()
	}
	rows := rest.Timeline
	scheduled := &ledger.Evidence{Report: rest.Report, Latencies: &rest.Latencies, Timeline: rows, Load: s.load()}
	run.Rates.Entry.Correct(scheduled.ScheduleOf(event.TypeEntry))
	run.Rates.Exit.Correct(scheduled.ScheduleOf(event.TypeExit))
	if len(rows) > 0 {
		// Add one second, so that the interval includes marks in the second in which the run ends, such as the end of a
		// fault.
		from, until := rows[0].Start(), run.EndTime.Add(time.Second)
		evidence := &ledger.Evidence{Objectives: s.plan.Objectives, Faults: faults, FaultHistory: s.faultHistory, Timeline: rows}
		missing := ledger.MissingMarks(evidence, &verdict, run.EndTime)
		rows = timeline.AddMarks(rows, from, until, r.failures.Marks(s.key, from, run.EndTime)...)
		rows = timeline.AddMarks(rows, from, until, missing...)
		rows = timeline.AddMarks(rows, from, until, fault.Marks(faults)...)
	}
	return report.New(run, r.environment(ctx, s), rows)
}

// environment describes the cluster and the servers for the report. It omits values that it cannot determine.
func (r *Reconciler) environment(ctx context.Context, s *scope) report.Environment {
	e := report.Environment{
		Parking:  r.options.Version,
		RabbitMQ: s.observation.Rest.BrokerVersion,
		Redis:    s.observation.Rest.StoreVersion,
		Manifest: report.ManifestOf(s.before),
	}
	if r.clusterVersion != nil {
		e.Kubernetes = r.clusterVersion(ctx)
	}
	e.Nodes = r.nodes(ctx, s)
	return e
}

const maxNodes = 50 // per simulation

// nodeTracker remembers on which nodes pods have run, because a pod may be gone when the report is written. The zero
// value is ready for concurrent use.
type nodeTracker struct {
	mu    sync.Mutex
	names map[client.ObjectKey][]string // the sorted names of the nodes, by simulation
}

// observe adds the nodes of the given pods to the nodes of the simulation.
func (t *nodeTracker) observe(simulation client.ObjectKey, pods ...*corev1.Pod) {
	t.mu.Lock()
	defer t.mu.Unlock()
	names := t.names[simulation]
	for _, pod := range pods {
		i, known := slices.BinarySearch(names, pod.Spec.NodeName)
		if pod.Spec.NodeName != "" && !known && len(names) < maxNodes {
			names = slices.Insert(names, i, pod.Spec.NodeName)
		}
	}
	if t.names == nil {
		t.names = map[client.ObjectKey][]string{}
	}
	if len(names) > 0 {
		t.names[simulation] = names
	}
}

func (t *nodeTracker) namesOf(simulation client.ObjectKey) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.names[simulation])
}

func (t *nodeTracker) evict(simulation client.ObjectKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.names, simulation)
}

// nodes describes the nodes on which pods of the simulation have run since this operator process started. It omits
// nodes that it cannot read.
func (r *Reconciler) nodes(ctx context.Context, s *scope) []report.Node {
	var nodes []report.Node
	for _, name := range r.nodeNames.namesOf(s.key) {
		node := &corev1.Node{}
		if r.direct.Get(ctx, client.ObjectKey{Name: name}, node) == nil {
			nodes = append(nodes, nodeOf(node))
		}
	}
	return nodes
}

func nodeOf(n *corev1.Node) report.Node {
	info := n.Status.NodeInfo
	return report.Node{
		Name: n.Name, CPUs: n.Status.Capacity.Cpu().Value(), MemoryBytes: n.Status.Capacity.Memory().Value(),
		Architecture: info.Architecture, System: strings.TrimSpace(info.OperatingSystem + " " + info.KernelVersion),
	}
}
