package controllers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/apply"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// writeReport writes the report of a simulation that becomes complete. It stores the report in a ConfigMap and
// returns the name of the ConfigMap. If the API server rejects the report, writeReport records an event and returns
// an empty name, because the verdict does not depend on the report. Other errors cause a retry.
func (r *Reconciler) writeReport(ctx context.Context, s *scope, verdict ledger.Verdict, faults []fault.Account) (name string, err error) {
	document := r.report(ctx, s, verdict, faults)
	text, err := document.Bounded(resources.MaxReport)
	if err == nil {
		object := resources.ReportConfigMap(s.sim, text)
		_, err = r.applier.Apply(ctx, object, s.children[reportKey(s)])
	}
	_, taken := errors.AsType[*apply.NameTakenError](err)
	switch {
	case err == nil:
		return resources.ReportName(s.sim), nil
	case taken, apierrors.IsInvalid(err), apierrors.IsForbidden(err), apierrors.IsRequestEntityTooLargeError(err):
		r.event(s, corev1.EventTypeWarning, "ReportNotWritten", "Report", "The report is not written: %s", err)
		return "", nil
	}
	return "", fmt.Errorf("write the report of %s: %w", s.key, err)
}

// reportKey returns the key of the ConfigMap with the report.
func reportKey(s *scope) childKey { return childKey{"ConfigMap", resources.ReportName(s.sim)} }

// report builds the report of a simulation that becomes complete.
func (r *Reconciler) report(ctx context.Context, s *scope, verdict ledger.Verdict, faults []fault.Account) report.Document {
	rest := s.observation.Rest
	run := report.Run{
		Verdict:        verdict,
		Simulation:     s.plan.Simulation,
		Rates:          report.RatesOf(rest.Timeline),
		LatencySeconds: report.LatenciesOf(&rest.Latencies),
		Objectives:     s.plan.Objectives,
		Faults:         faults,
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
	return report.New(run, r.environment(ctx, s), rest.Timeline)
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

// maxNodes is the maximum number of nodes in a report.
const maxNodes = 50

// nodes describes the nodes that run pods of the simulation. It omits nodes that it cannot read.
func (r *Reconciler) nodes(ctx context.Context, s *scope) []report.Node {
	names := map[string]bool{}
	for _, pod := range s.pods {
		if pod.Spec.NodeName != "" {
			names[pod.Spec.NodeName] = true
		}
	}
	var nodes []report.Node
	for _, name := range slices.Sorted(maps.Keys(names)) {
		node := &corev1.Node{}
		if len(nodes) < maxNodes && r.direct.Get(ctx, client.ObjectKey{Name: name}, node) == nil {
			nodes = append(nodes, nodeOf(node))
		}
	}
	return nodes
}

// nodeOf describes the size and the operating system of a node.
func nodeOf(n *corev1.Node) report.Node {
	info := n.Status.NodeInfo
	return report.Node{
		Name: n.Name, CPUs: n.Status.Capacity.Cpu().Value(), MemoryBytes: n.Status.Capacity.Memory().Value(),
		Architecture: info.Architecture, System: strings.TrimSpace(info.OperatingSystem + " " + info.KernelVersion),
	}
}
