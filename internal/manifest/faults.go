package manifest

import (
	"fmt"
	"strings"
	"time"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/field"
	"github.com/parking-operator/parking-operator/internal/plan"
)

func (c *checks) faults(path field.Path, s *v1alpha1.ParkingSimulationSpec) {
	c.entries(path, len(s.Faults), plan.MaxFaults)
	names := make([]string, len(s.Faults))
	for i := range s.Faults {
		names[i] = s.Faults[i].Name
		c.fault(path.Index(i), &s.Faults[i], s)
	}
	c.FaultNames(path, names)
}

func (c *checks) fault(path field.Path, f *v1alpha1.Fault, s *v1alpha1.ParkingSimulationSpec) {
	c.faultTarget(path.Child("target"), f.Target, s)
	if f.Action == "" {
		c.required(path.Child("action"), "say what happens to the target: Kill, Restart, Evict, Pause or Isolate")
	} else {
		c.FaultAction(path.Child("action"), plan.FaultAction(f.Action))
		c.isolation(path.Child("action"), f, s)
	}
	if _, _, err := f.Pods.Parse(); err != nil {
		c.Invalid(path.Child("pods"), string(f.Pods), "%s", err)
	}
	if f.At == nil {
		c.required(path.Child("at"), `say when the fault first occurs, such as "2m"`)
	}
	before := len(c.Errors)
	var t plan.FaultTimes
	t.At, _ = c.length(path.Child("at"), f.At, true, "2m")
	t.Every, _ = c.length(path.Child("every"), f.Every, true, "5m")
	t.Jitter, _ = c.length(path.Child("jitter"), f.Jitter, true, "30s")
	t.For, _ = c.lengthUpTo(plan.MaxFaultLength, path.Child("for"), f.For, false, "20s")
	if s.Duration != nil {
		t.Simulation = plan.Length{Value: s.Duration.Value(), Text: string(*s.Duration)}
	}
	if len(c.Errors) == before && f.At != nil && f.Action != "" {
		c.FaultTimes(path, plan.FaultAction(f.Action), t)
	}
}

// faultTarget checks the target of a fault. The target must not be an external server.
func (c *checks) faultTarget(path field.Path, target v1alpha1.FaultTarget, s *v1alpha1.ParkingSimulationSpec) {
	if target == "" {
		c.required(path, "say what the fault hits, such as Redis or Processor")
		return
	}
	c.FaultTarget(path, plan.FaultTarget(target))
	c.FaultLeader(path, plan.FaultTarget(target), plan.QueueType(strings.ToLower(string(s.RabbitMQ.QueueType))), "rabbitmq.queueType")
	if external := externalServer(target, s); external != "" {
		c.Invalid(path, string(target), "a fault cannot target an external server: remove the fault, or remove %s to run a managed server", external)
	}
}

// isolation checks a fault with the action Isolate: the operator must be able to cut all connections of the target.
func (c *checks) isolation(path field.Path, f *v1alpha1.Fault, s *v1alpha1.ParkingSimulationSpec) {
	if f.Action != v1alpha1.FaultActionIsolate {
		return
	}
	switch f.Target {
	case v1alpha1.FaultTargetRabbitMQ, v1alpha1.FaultTargetRabbitMQLeader:
		if m := s.RabbitMQ.Managed; m != nil && *m.Replicas > 1 {
			c.Invalid(path, string(f.Action), "is not possible for RabbitMQ with several nodes, because an isolation does not cut the connections between nodes: "+
				"use Pause, or set rabbitmq.managed.replicas to 1")
		}
	case v1alpha1.FaultTargetProcessor, v1alpha1.FaultTargetEntryGenerator, v1alpha1.FaultTargetExitGenerator:
		for _, server := range []v1alpha1.FaultTarget{v1alpha1.FaultTargetRabbitMQ, v1alpha1.FaultTargetRedis, v1alpha1.FaultTargetSummaryAPI} {
			if external := externalServer(server, s); external != "" {
				c.Invalid(path, string(f.Action), "cannot cut connections to an external server: use Pause, or remove %s to run a managed server", external)
				return
			}
		}
	case v1alpha1.FaultTargetRedis, v1alpha1.FaultTargetSummaryAPI:
	}
}

// externalServer returns the path of the spec field that makes the target of a fault an external server. It returns ""
// if the operator runs the target.
func externalServer(target v1alpha1.FaultTarget, s *v1alpha1.ParkingSimulationSpec) string {
	switch target {
	case v1alpha1.FaultTargetRabbitMQ, v1alpha1.FaultTargetRabbitMQLeader:
		if s.RabbitMQ.ClusterRef != nil {
			return "rabbitmq.clusterRef"
		}
		if s.RabbitMQ.SecretRef != nil {
			return "rabbitmq.secretRef"
		}
	case v1alpha1.FaultTargetRedis:
		if s.Redis.SecretRef != nil {
			return "redis.secretRef"
		}
	case v1alpha1.FaultTargetSummaryAPI:
		if s.SummaryAPI.URL != "" {
			return "summaryAPI.url"
		}
	case v1alpha1.FaultTargetProcessor, v1alpha1.FaultTargetEntryGenerator, v1alpha1.FaultTargetExitGenerator:
	}
	return ""
}

// FaultsOf converts the faults of a spec. If pods is invalid, Instances and Percent of the fault are 0.
func FaultsOf(s *v1alpha1.ParkingSimulationSpec) []plan.Fault {
	var faults []plan.Fault
	for i := range s.Faults {
		f := &s.Faults[i]
		number, percent, _ := f.Pods.Parse() // the validation of the spec reports an invalid number of pods
		faults = append(faults, plan.Fault{
			Name: f.Name, Target: plan.FaultTarget(f.Target), Action: plan.FaultAction(f.Action),
			Instances: number, Percent: percent,
			At: durationOf(f.At), Every: durationOf(f.Every), Jitter: durationOf(f.Jitter), For: durationOf(f.For),
		})
	}
	return faults
}

// faults warns about faults that cannot be injected as declared, or whose recovery cannot be measured.
func (w *warner) faults() {
	if w.spec.Suspend {
		return // a suspended simulation injects no faults
	}
	for i := range w.spec.Faults {
		f := &w.spec.Faults[i]
		pods := w.podsOf(f.Target)
		number, percent, _ := f.Pods.Parse() // Parse succeeds, because the spec is valid
		if pods == 0 {
			w.warn("the fault %q will not be injected, and the verdict will be FAIL: %s has no pods", f.Name, f.Target)
			continue
		}
		if number > pods {
			w.warn("the fault %q is for %d pods, but %s has only %d: the fault hits all of them", f.Name, number, f.Target, pods)
		}
		w.contention(&w.plan.Faults[i])
		w.eviction(f, min(pods, max(number, (pods*percent+99)/100)))
		w.pause(f)
		w.dataLoss(f)
		w.idle(f)
		w.baseline(&w.plan.Faults[i])
		w.recovery(&w.plan.Faults[i])
	}
}

// contention warns if another fault may delay f too much. During a pause or isolation of a target, all other faults of
// the target must wait.
func (w *warner) contention(f *plan.Fault) {
	for i := range w.plan.Faults {
		other := &w.plan.Faults[i]
		if other.Name == f.Name || other.Target != f.Target || !other.Action.Lasts() {
			continue
		}
		if until, tooLate := w.waits(f, other); tooLate {
			w.warn("the fault %q is due while the fault %q may still affect %s (until %s after the start of the simulation): %[1]q then waits, "+
				"and if it cannot be injected in time, the verdict will be FAIL; leave more time between these faults",
				f.Name, other.Name, f.Target, *v1alpha1.NewDuration(until.D()))
		}
	}
}

// waits reports whether the fault f must wait too long for the fault blocker, which ends at the time until. It is too
// long if the next occurrence of f is already due, or if f would outlast the simulation. waits ignores the jitter of
// the faults. It compares the first occurrence of f at or after blocker.At with the last one of blocker until then.
func (w *warner) waits(f, blocker *plan.Fault) (until plan.Duration, tooLate bool) {
	due, begin := f.At, blocker.At
	if due < begin && f.Every > 0 {
		due += (begin - due + f.Every - 1) / f.Every * f.Every
	}
	if due > begin && blocker.Every > 0 {
		begin += (due - begin) / blocker.Every * blocker.Every
	}
	until, end := begin+blocker.For, w.plan.Duration
	isDuring := due > begin && due < until || due == begin && f.Name > blocker.Name
	takesPlace := end == 0 || due+f.For < end && begin+blocker.For < end
	isLate := f.Every > 0 && due+f.Every <= until || end > 0 && until+f.For > end
	return until, isDuring && takesPlace && isLate
}

// unmeasuredTime is the time before a fault that may be missing from the measurements. A timeline row covers 1 s and
// may be 1 s late.
const unmeasuredTime = 2 * time.Second

// baseline warns if there may be too few events before a fault to measure its recovery.
func (w *warner) baseline(f *plan.Fault) {
	// Do not count the events just before the fault, because they may be measured too late.
	isEnough := func(occurs time.Duration) bool {
		before := occurs - unmeasuredTime
		var due int64
		if before > 0 && w.plan.Entry.Replicas > 0 {
			due += w.plan.Entry.Events(before)
		}
		if before -= w.plan.ExitDelay(); before > 0 && w.plan.Exit.Replicas > 0 {
			due += w.plan.Exit.Events(before)
		}
		return due >= plan.MinEvents
	}
	earliest := max((f.At - f.Jitter).D(), 0)
	if isEnough(earliest) {
		return
	}
	const latest = time.Hour
	remedy, occurs := "raise the rates", earliest.Truncate(time.Second)
	for occurs < latest && !isEnough(occurs) {
		occurs += time.Second
	}
	if occurs < latest {
		remedy = `set "at" to ` + string(*v1alpha1.NewDuration(occurs + f.Jitter.D())) + " or later"
	}
	w.warn("the fault %q may occur as early as %s: the outcome may be NotRecovered, because recovery is measured by comparison with at least %d events before the fault; %s",
		f.Name, *v1alpha1.NewDuration(earliest), plan.MinEvents, remedy)
}

// recovery warns if the last occurrence of a fault ends so late that the rest of the simulation is too short to prove a
// recovery.
func (w *warner) recovery(f *plan.Fault) {
	end, last := w.plan.Duration.D(), f.LatestEnd()
	if every := f.Every.D(); every > 0 {
		last = end - 1 - (end-1-last)%every
	}
	if end == 0 || end-last >= plan.SteadyTime {
		return
	}
	margin := fmt.Sprintf(", which leaves %s to recover and %[1]s to prove the recovery", plan.SteadyTime)
	remedy := `set "duration" to ` + string(*v1alpha1.NewDuration(last + 2*plan.SteadyTime)) + margin + ", or let the fault end earlier"
	if f.Every > 0 && f.Every.D() <= 2*plan.SteadyTime {
		remedy = `raise "every" to more than ` + (2 * plan.SteadyTime).String() + margin
	}
	w.warn("the fault %q may end as late as %s, but the simulation ends after %s: the fault may be NotInjected, which makes the verdict FAIL, "+
		"or NotRecovered, because recovery is proved only by %s of normal operation; %s",
		f.Name, *v1alpha1.NewDuration(last), *w.spec.Duration, plan.SteadyTime, remedy)
}

// eviction warns if a fault evicts several pods at once. A PodDisruptionBudget allows only one eviction at a time.
func (w *warner) eviction(f *v1alpha1.Fault, pods int) {
	if f.Action != v1alpha1.FaultActionEvict || pods < 2 || !hasDisruptionBudget(f.Target) {
		return
	}
	w.warn("the fault %q evicts %d pods of %s: in Kubernetes, the disruption budget allows one eviction at a time; each further pod waits up to a minute, "+
		"and if it is not evicted by then, the verdict will be FAIL; use Restart to stop the pods together", f.Name, pods, f.Target)
}

// idle warns about a fault whose target has nothing to do.
func (w *warner) idle(f *v1alpha1.Fault) {
	entry, exit := &w.plan.Entry, &w.plan.Exit
	reason := ""
	switch f.Target {
	case v1alpha1.FaultTargetEntryGenerator:
		if !entry.Publishes() {
			reason = "entry.rate is 0"
		}
	case v1alpha1.FaultTargetExitGenerator:
		if !exit.Publishes() {
			reason = "exit.rate is 0"
		}
	case v1alpha1.FaultTargetSummaryAPI:
		if !entry.Publishes() || entry.Replicas == 0 || !exit.Publishes() || exit.Replicas == 0 || exit.MatchPercent == 0 {
			reason = "the generators publish no matched exits"
		}
	case v1alpha1.FaultTargetRabbitMQ, v1alpha1.FaultTargetRabbitMQLeader, v1alpha1.FaultTargetRedis, v1alpha1.FaultTargetProcessor:
	}
	if reason != "" {
		w.warn("the fault %q hits %s, which is idle because %s: the outcome may be Recovered although the fault affects nothing", f.Name, f.Target, reason)
	}
}

// dataLoss warns if a fault replaces a pod that contains the data of its server.
func (w *warner) dataLoss(f *v1alpha1.Fault) {
	var path string
	var storage v1alpha1.StorageSpec
	switch f.Target {
	case v1alpha1.FaultTargetRabbitMQ, v1alpha1.FaultTargetRabbitMQLeader:
		path, storage = "rabbitmq", w.spec.RabbitMQ.ManagedOrDefault().Storage
	case v1alpha1.FaultTargetRedis:
		path, storage = "redis", w.spec.Redis.ManagedOrDefault().Storage
	case v1alpha1.FaultTargetSummaryAPI:
		path, storage = "summaryAPI", w.spec.SummaryAPI.ManagedOrDefault().Storage
	case v1alpha1.FaultTargetProcessor, v1alpha1.FaultTargetEntryGenerator, v1alpha1.FaultTargetExitGenerator:
		return
	}
	replacesPod := f.Action == v1alpha1.FaultActionRestart || f.Action == v1alpha1.FaultActionEvict
	if size := storage.Size.Value(); replacesPod && size.IsZero() {
		w.warn("the fault %q replaces a pod of %s: in Kubernetes, the data in the pod is lost, because %s.managed.storage.size is %s; use Kill, or set the size, for example to 2Gi",
			f.Name, f.Target, path, *storage.Size)
	}
}

// hasDisruptionBudget reports whether a fault can hit several pods that share a PodDisruptionBudget.
func hasDisruptionBudget(target v1alpha1.FaultTarget) bool {
	switch target {
	case v1alpha1.FaultTargetRabbitMQ, v1alpha1.FaultTargetSummaryAPI, v1alpha1.FaultTargetProcessor:
		return true
	case v1alpha1.FaultTargetRabbitMQLeader, v1alpha1.FaultTargetRedis, v1alpha1.FaultTargetEntryGenerator, v1alpha1.FaultTargetExitGenerator:
	}
	return false
}

// maxProbedPause is the longest pause that causes no restart. The kubelet probes every 20 s and restarts a container at
// the third failure, 40 to 60 s after the pause begins.
const maxProbedPause = 40 * time.Second

// pause warns if the kubelet may restart the target during a pause, because the liveness probe of the target fails.
func (w *warner) pause(f *v1alpha1.Fault) {
	if f.Action != v1alpha1.FaultActionPause || f.For.Value() <= maxProbedPause || !w.isProbed(f.Target) {
		return
	}
	w.warn("the fault %q pauses %s for %s: in Kubernetes, unless the template sets a more tolerant livenessProbe, the container is restarted after 40 to 60 s, "+
		"the fault is Aborted, and the verdict will be FAIL; set \"for\" to 40s or less", f.Name, f.Target, *f.For)
}

// isProbed reports whether the target has a liveness probe that fails during a pause.
func (w *warner) isProbed(target v1alpha1.FaultTarget) bool {
	switch target {
	case v1alpha1.FaultTargetSummaryAPI, v1alpha1.FaultTargetProcessor, v1alpha1.FaultTargetEntryGenerator, v1alpha1.FaultTargetExitGenerator:
		return true
	case v1alpha1.FaultTargetRedis:
		m := w.spec.Redis.ManagedOrDefault()
		// Without TLS, the liveness probe of Redis only opens a TCP connection. The kernel accepts the connection even
		// while Redis is paused, so the probe does not fail.
		return m != nil && m.TLS != nil
	case v1alpha1.FaultTargetRabbitMQ, v1alpha1.FaultTargetRabbitMQLeader: // RabbitMQ has no liveness probe
	}
	return false
}

func (w *warner) podsOf(target v1alpha1.FaultTarget) int {
	switch target {
	case v1alpha1.FaultTargetEntryGenerator:
		return w.plan.Entry.Replicas
	case v1alpha1.FaultTargetExitGenerator:
		return w.plan.Exit.Replicas
	case v1alpha1.FaultTargetProcessor:
		return int(*w.spec.Processor.Replicas)
	case v1alpha1.FaultTargetRabbitMQ:
		return int(*w.spec.RabbitMQ.ManagedOrDefault().Replicas)
	case v1alpha1.FaultTargetSummaryAPI:
		return int(*w.spec.SummaryAPI.ManagedOrDefault().Replicas)
	case v1alpha1.FaultTargetRabbitMQLeader, v1alpha1.FaultTargetRedis:
	}
	return 1
}
