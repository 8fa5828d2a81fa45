package controllers

import (
	"context"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// endOf returns when the duration of a simulation is over; ok is false when it has none or has not started.
func endOf(sim *v1alpha1.ParkingSimulation) (end time.Time, ok bool) {
	if sim.Spec.Duration == nil || sim.Spec.Duration.Duration == 0 || sim.Status.StartTime == nil {
		return time.Time{}, false
	}
	return sim.Status.StartTime.Add(sim.Spec.Duration.Duration), true
}

// generatorsAreDone reports whether the generators are to be stopped for good.
func (r *Reconciler) generatorsAreDone(s *scope) bool {
	end, ok := endOf(s.sim)
	return s.sim.Status.CompletionTime != nil || ok && !s.now.Before(end)
}

// observe makes findings of what there is of the workloads.
func (r *Reconciler) observe(_ context.Context, s *scope) error {
	s.findings.suspended = s.sim.Spec.Suspend
	s.findings.complete = s.sim.Status.CompletionTime != nil
	s.findings.warnings = manifest.Warnings(s.sim)
	s.findings.broker = s.judgeServer(s.broker, resources.ComponentRabbitMQ, "RabbitMQ")
	s.findings.store = s.judgeServer(s.store, resources.ComponentRedis, "Redis")
	s.findings.monitoring = monitoringFinding(s.sim.Spec.Monitoring, s.served)
	var all []finding
	for _, part := range []struct {
		component resources.Component
		name      string
	}{
		{resources.ComponentProcessor, "processors"},
		{resources.ComponentEntry, "entry generators"},
		{resources.ComponentExit, "exit generators"},
	} {
		all = append(all, s.workloads[part.component].judge(part.name))
	}
	s.findings.workloads = judgeAll(all)
	processors := s.workloads[resources.ComponentProcessor]
	s.sim.Status.Replicas = &processors.ready
	s.sim.Status.Selector = metav1.FormatLabelSelector(&metav1.LabelSelector{
		MatchLabels: resources.Selector(s.sim, resources.ComponentProcessor),
	})
	return nil
}

// judgeServer says how a server fares, as far as its pods or its Secret tell.
func (s *scope) judgeServer(server server, c resources.Component, name string) finding {
	switch {
	case server.finding.state != unchecked:
		return server.finding
	case server.managed:
		return s.workloads[c].judge(name)
	}
	return found(progressing, reasonConnecting, "%s, which Secret %s names, is being connected to", name, server.secret)
}

// checkSummaryAPI finds out whether the summary API can be used. One of the user's own is only known to be
// so by those who post to it.
func (r *Reconciler) checkSummaryAPI(ctx context.Context, s *scope) error {
	spec := s.sim.Spec.SummaryAPI
	if spec.URL == "" {
		s.findings.summaryAPI = s.workloads[resources.ComponentSummaries].judge("summary API")
		return nil
	}
	s.findings.summaryAPI = found(good, reasonExternal, "Summaries are posted to %s", spec.URL)
	if spec.SecretRef == nil {
		return nil
	}
	secret, err := r.readSecret(ctx, s.key.Namespace, spec.SecretRef.Name)
	switch {
	case err != nil:
		return err
	case secret == nil:
		s.findings.summaryAPI = found(stalled, reasonSecretMissing,
			"Secret %s/%s, with the credentials for %s, does not exist: create it with the key token, or username and password",
			s.key.Namespace, spec.SecretRef.Name, spec.URL)
	default:
		s.summaryAPIVersion = secret.ResourceVersion
	}
	return nil
}

// monitoringFinding says which monitoring objects there are.
func monitoringFinding(spec v1alpha1.MonitoringSpec, s served) finding {
	var created, missing []string
	note := func(mode v1alpha1.MonitoringMode, isServed bool, what string) {
		switch {
		case mode == v1alpha1.MonitoringDisabled:
		case isServed:
			created = append(created, what)
		default:
			missing = append(missing, what)
		}
	}
	note(spec.ServiceMonitors, s.serviceMonitors, "ServiceMonitors")
	note(spec.Rules, s.prometheusRules, "PrometheusRule")
	note(spec.Dashboards, s.serviceMonitors || s.prometheusRules, "dashboard ConfigMap")
	has := "none"
	if len(created) > 0 {
		has = strings.Join(created, ", ")
	}
	switch {
	case len(missing) > 0:
		return found(progressing, reasonKindNotServed,
			"Created: %s. Not created: %s, because this cluster has no Prometheus Operator that serves their kinds; they follow as soon as one is installed",
			has, strings.Join(missing, ", "))
	case len(created) == 0:
		return found(good, reasonDisabled, "spec.monitoring disables every object")
	default:
		return found(good, reasonCreated, "Created: %s", has)
	}
}

// followLedger has the ledger read, and notes what the latest reading says.
func (r *Reconciler) followLedger(_ context.Context, s *scope) error {
	if s.findings.complete {
		r.ledgers.forget(s.key)
		return nil
	}
	s.findings.ledger = found(progressing, reasonNotRead, "The ledger was not read yet")
	if s.broker.address == nil || s.store.address == nil || s.findings.store.state != good && s.store.managed {
		return nil
	}
	p, err := manifest.Plan(s.sim)
	if err != nil {
		return err
	}
	// What changes while it runs is of no account to who reads it.
	p.StartTime, p.Suspended = time.Time{}, false
	r.ledgers.track(s.key, Target{Plan: p, Broker: *s.broker.address, Store: *s.store.address}, r.draining(s))
	latest, _ := r.ledgers.latest(s.key)
	if latest == nil {
		return nil
	}
	s.judgeReading(latest)
	if latest.storeErr == nil && latest.brokerErr == nil {
		s.sim.Status.Ledger = ledgerStatus(latest)
		s.findings.objectives = foresee(latest, p.Objectives)
	}
	r.conclude(s, latest)
	return nil
}

// judgeReading makes findings of a reading. A server that is not managed is ready if it could be read.
func (s *scope) judgeReading(latest *reading) {
	s.findings.ledger = found(good, reasonRead, "The ledger can be read")
	switch {
	case latest.storeErr != nil:
		s.findings.ledger = found(stalled, reasonUnreadable, "%s", latest.storeErr)
	case latest.brokerErr != nil:
		s.findings.ledger = found(stalled, reasonUnreadable, "%s", latest.brokerErr)
	}
	if !s.store.managed {
		s.findings.store = reached("Redis", s.store.secret, latest.storeErr)
	}
	if !s.broker.managed && latest.brokerTried {
		s.findings.broker = reached("RabbitMQ", s.broker.secret, latest.brokerErr)
	}
}

func reached(name, secret string, err error) finding {
	if err != nil {
		return found(progressing, reasonUnreachable, "%s, which Secret %s names, cannot be used: %s. Mend the server, the network or the Secret", name, secret, err)
	}
	return found(good, reasonReady, "%s, which Secret %s names, answers", name, secret)
}

// start notes the start of the schedules, once everything that generators need is ready for the first time.
func (r *Reconciler) start(_ context.Context, s *scope) error {
	if s.sim.Status.StartTime != nil || s.sim.Spec.Suspend {
		return nil
	}
	waitsFor := worstOf(s.findings.broker, s.findings.store, s.findings.summaryAPI,
		s.workloads[resources.ComponentProcessor].judge("processors"))
	if waitsFor.state != good {
		return nil
	}
	start := metav1.NewTime(s.now.Truncate(time.Second))
	s.sim.Status.StartTime = &start
	s.wakeAfter(0) // the plan gets the start once it is written down
	return nil
}

// isDraining reports whether the generators have stopped for good and their pods are gone, so that what is
// queued is all there is.
func (r *Reconciler) isDraining(s *scope) bool {
	if !r.generatorsAreDone(s) || s.findings.complete {
		return false
	}
	for _, c := range []resources.Component{resources.ComponentEntry, resources.ComponentExit} {
		if w := s.workloads[c]; w.wanted > 0 || !w.current || w.pods > 0 || len(s.podsOf(c)) > 0 {
			return false
		}
	}
	return true
}

// draining returns the pods to ask for their measurements once the simulation has come to rest; nil as long
// as it is not to.
func (r *Reconciler) draining(s *scope) *Endpoints {
	if !r.isDraining(s) {
		return nil
	}
	pods := &Endpoints{Processors: s.addressesOf(resources.ComponentProcessor)}
	if summaries := s.addressesOf(resources.ComponentSummaries); len(summaries) > 0 {
		pods.Summaries = summaries[0]
	}
	return pods
}

// follow says how far the simulation has come on its way to completion, and when to look again.
func (r *Reconciler) follow(_ context.Context, s *scope) error {
	end, ends := endOf(s.sim)
	var f finding
	switch {
	case s.sim.Status.CompletionTime != nil:
		f = found(good, reasonComplete, "The duration is over and the queues are empty")
		s.findings.objectives = verdictFinding(&s.sim.Status)
	case s.sim.Spec.Duration == nil:
		f = found(progressing, reasonNoDuration, "The simulation runs until it is deleted: spec.duration is not set")
	case s.sim.Status.StartTime == nil:
		f = found(progressing, reasonNotStarted, "The simulation has not started")
	case ends && s.now.Before(end):
		f = found(progressing, reasonRunning, "The generators stop at %s", end.UTC().Format(time.RFC3339))
		s.wakeAfter(end.Sub(s.now))
	case !r.isDraining(s):
		f = found(progressing, reasonStopping, "The duration is over; the generators are stopping")
	case *s.sim.Spec.Processor.Replicas == 0:
		f = found(progressing, reasonDraining, "The duration is over, but nobody empties the queues: spec.processor.replicas is 0")
	default:
		f = found(progressing, reasonDraining, "The generators have stopped; the processors empty the queues")
	}
	s.findings.completion = f
	if s.findings.objectives.state == unchecked && !meta.IsStatusConditionFalse(s.before.Status.Conditions, v1alpha1.ConditionObjectivesMet) {
		s.findings.objectives = awaited()
	}
	return nil
}
