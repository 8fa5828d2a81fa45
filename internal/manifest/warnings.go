package manifest

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// warnings returns one sentence for each valid setting that is probably a mistake. Field paths omit "spec.". Durations
// and quantities appear as the author wrote them.
func warnings(sim *v1alpha1.ParkingSimulation, p *plan.Plan) []string {
	w := warner{spec: &sim.Spec, plan: p}
	w.rates()
	w.durations()
	w.stays()
	w.drain()
	w.faults()
	w.objectives()
	w.summaryURL()
	w.replicas()
	w.sizes()
	w.images()
	w.monitoring()
	return w.list
}

type warner struct {
	spec *v1alpha1.ParkingSimulationSpec
	plan *plan.Plan
	list []string
}

func (w *warner) warn(format string, args ...any) {
	w.list = append(w.list, fmt.Sprintf(format, args...))
}

// rates warns if all rates are 0, or if more matched exits than entries are due per second.
func (w *warner) rates() {
	if !w.plan.Entry.Publishes() && !w.plan.Exit.Publishes() {
		w.warn("entry.rate and exit.rate are 0: nothing will be published")
		return
	}
	percent, entries, exits := int64(w.plan.Exit.MatchPercent), w.plan.Entry.FinalRate(), w.plan.Exit.FinalRate()
	if w.plan.Entry.Replicas == 0 || w.plan.Exit.Replicas == 0 || exits*percent <= entries*100 {
		return
	}
	w.warn("%d %% of %d exits per second are matched, but only %d entries per second are published: exits without a plate will "+
		"not be published, but counted as starved; raise entry.rate, or lower exit.rate or exit.matchPercent", percent, exits, entries)
}

// durations warns if the simulation ends before its first entry, its first exit, or the end of its last stage.
func (w *warner) durations() {
	end, exit := w.plan.Duration.D(), &w.plan.Exit
	if end == 0 {
		return
	}
	// Check the time of the first event only for uniform arrivals, because the times of random arrivals are unknown.
	if w.plan.Entry.Publishes() && w.plan.Entry.Arrivals == plan.ArrivalsUniform && w.plan.Entry.Events(end) == 0 {
		w.warn("the simulation ends after %s, before the first entry is due: no entry will be published; raise the duration or the rate of the entries", *w.spec.Duration)
	}
	switch {
	case !exit.Publishes():
	case w.plan.ExitDelay() < end && exit.Arrivals == plan.ArrivalsUniform && exit.Events(end-w.plan.ExitDelay()) == 0:
		w.warn("no exit will be published, because the simulation ends after %s, exits begin %s after the entries, and the rate of the exits is low; raise the duration or the rate of the exits",
			*w.spec.Duration, *v1alpha1.NewDuration(w.plan.ExitDelay()))
	case w.plan.ExitDelay() >= end:
		w.warn("exits begin %s after the entries (exit.minStay is %s), but the simulation ends after %s: no exit will be published",
			*v1alpha1.NewDuration(w.plan.ExitDelay()), *w.spec.Exit.MinStay, *w.spec.Duration)
	}
	for _, stages := range []struct {
		of     string
		length time.Duration
	}{{"entry", w.plan.Entry.Length()}, {"exit", w.plan.Exit.Length()}} {
		if stages.length > end {
			w.warn("%s.stages take %s, but the simulation ends after %s: the rest will have no effect",
				stages.of, *v1alpha1.NewDuration(stages.length), *w.spec.Duration)
		}
	}
}

// stays warns if plates.maxStay is only slightly longer than exit.minStay, so that vehicles have little time to exit.
func (w *warner) stays() {
	exit := &w.plan.Exit
	if exit.Publishes() && exit.MatchPercent > 0 && w.plan.MaxStay.D() <= w.plan.ExitDelay() {
		enough := plan.Duration(w.plan.ExitDelay() + 500*time.Millisecond)
		w.warn("plates.maxStay, %s, is only slightly longer than exit.minStay, %s: some plates may be forgotten before an exit can use them, and exits without a plate will "+
			"not be published, but counted as starved; set plates.maxStay to %s or more", *w.spec.Plates.MaxStay, *w.spec.Exit.MinStay, enough)
	}
}

// leastDrain is the time that even a few events need to drain. It includes the time to stop the generators, and to
// check that the queues are empty.
const leastDrain = 10 * time.Second

// drain warns if drainTimeout is shorter than the time that a simulation usually needs to drain.
func (w *warner) drain() {
	if w.plan.Duration > 0 && w.plan.DrainTimeout.D() < leastDrain {
		w.warn("drainTimeout is %s: in Kubernetes, stopping the generators and emptying the queues takes longer, so the verdict will be FAIL; "+
			"set drainTimeout to %s or more, such as 5m", *w.spec.DrainTimeout, *v1alpha1.NewDuration(leastDrain))
	}
}

// objectives warns about objectives that are never checked, that the simulation cannot meet, or that have no effect.
func (w *warner) objectives() {
	o := &w.spec.Objectives
	var noPhase v1alpha1.PhaseObjectivesSpec
	underFaults := o.UnderFaults != noPhase
	if w.spec.Duration == nil && (o.PhaseObjectivesSpec != noPhase || o.WithoutFaults != noPhase || underFaults || o.MaxRecovery != nil || o.AbortOnFailure) {
		w.warn("objectives are set, but duration is not: in Kubernetes, the simulation does not end and has no verdict; set duration, such as 30m")
	}
	if underFaults && len(w.spec.Faults) == 0 {
		w.warn("objectives.underFaults is set, but there are no faults: the verdict will be FAIL; add faults, or remove objectives.underFaults")
	}
	if o.MaxRecovery != nil && len(w.spec.Faults) == 0 {
		w.warn("objectives.maxRecovery is set, but there are no faults: the verdict will be FAIL; add faults, or remove objectives.maxRecovery")
	}
	w.phaseObjectives("objectives", &o.PhaseObjectivesSpec)
	w.phaseObjectives("objectives.withoutFaults", &o.WithoutFaults)
	w.phaseObjectives("objectives.underFaults", &o.UnderFaults)
}

// No simulation reaches p99 latencies below these limits, not even with the in-memory broker and the in-memory store.
const (
	leastEndToEnd   = 100 * time.Microsecond
	leastProcessing = time.Microsecond
)

func (w *warner) phaseObjectives(path string, o *v1alpha1.PhaseObjectivesSpec) {
	for _, objective := range []struct {
		name    string
		limit   *v1alpha1.Duration
		least   time.Duration
		example string
	}{{"endToEndP99", o.EndToEndP99, leastEndToEnd, "1s"}, {"processingP99", o.ProcessingP99, leastProcessing, "5ms"}} {
		if objective.limit != nil && objective.limit.Value() < objective.least {
			w.warn("%s.%s is %s: no simulation is that fast, so the verdict will be FAIL; raise it, for example to %s", path, objective.name, *objective.limit, objective.example)
		}
	}
	if o.EndToEndP99 != nil && o.ProcessingP99 != nil && o.EndToEndP99.Value() < o.ProcessingP99.Value() {
		w.warn("%[1]s.endToEndP99, %[2]s, is below %[1]s.processingP99, %[3]s: the end-to-end latency includes "+
			"the processing latency, so processingP99 has no effect", path, *o.EndToEndP99, *o.ProcessingP99)
	}
}

// summaryURL warns if the URL of an external summary API has a loopback host. A pod that uses such a URL connects to
// itself.
func (w *warner) summaryURL() {
	u, err := url.Parse(w.spec.SummaryAPI.URL)
	if err != nil {
		return
	}
	if isLoopback(u.Hostname()) {
		w.warn("the host of summaryAPI.url is %s: in Kubernetes, this is the pod itself; use the name of a Service or of another host", u.Hostname())
	}
}

// isLoopback reports whether a pod that connects to the host connects to itself.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	name := "." + strings.ToLower(strings.TrimSuffix(host, "."))
	return strings.HasSuffix(name, ".localhost") || err == nil && (ip.Unmap().IsLoopback() || ip.Unmap().IsUnspecified())
}

// replicas warns if a component that is needed has no pods, or if additional RabbitMQ nodes give no redundancy.
func (w *warner) replicas() {
	if w.plan.Entry.Replicas == 0 && w.plan.Entry.Publishes() {
		w.warn("entry.replicas is 0: no entries will be published")
		if w.plan.Exit.Replicas > 0 && w.plan.Exit.Publishes() && w.plan.Exit.MatchPercent > 0 {
			w.warn("exit.matchPercent is %d, but entry.replicas is 0: matched exits will have no plate, so they will not be published, but counted as starved; set "+
				"exit.matchPercent to 0, or entry.replicas to 1", w.plan.Exit.MatchPercent)
		}
	}
	if w.plan.Exit.Replicas == 0 && w.plan.Exit.Publishes() {
		w.warn("exit.replicas is 0: no exits will be published")
	}
	if *w.spec.Processor.Replicas == 0 {
		w.warn("processor.replicas is 0: events will stay in their queues")
	}
	if m := w.spec.RabbitMQ.Managed; m != nil && *m.Replicas > 1 && w.spec.RabbitMQ.QueueType == v1alpha1.QueueTypeClassic {
		w.warn("rabbitmq.queueType is Classic: each queue is on one of the %d nodes, and its events are unavailable while that "+
			"node is unavailable; Quorum replicates the events", *m.Replicas)
	}
}

// These are the minimum sizes with which servers and components usually work, and the maximum sizes that nodes and
// volumes usually have.
const (
	leastStorage        = "100Mi"
	leastMemory         = "32Mi"
	leastRabbitMQMemory = "256Mi"
	leastSidecarMemory  = "6Mi" // with a smaller memory limit, the container runtime cannot start the container
	leastCPU            = "10m"
	mostCPU             = "256"
	mostMemory          = "16Ti"
	mostStorage         = "64Ti"
)

// sizes warns about amounts that are suspiciously small or large. The usual cause is a missing or wrong unit.
func (w *warner) sizes() {
	s := w.spec
	w.amounts("entry", s.Entry.Resources, s.Entry.Template, parkingPod, leastMemory)
	w.amounts("exit", s.Exit.Resources, s.Exit.Template, parkingPod, leastMemory)
	w.amounts("processor", s.Processor.Resources, s.Processor.Template, parkingPod, leastMemory)
	if m := s.RabbitMQ.Managed; m != nil {
		w.storage("rabbitmq.managed", m.Storage)
		w.amounts("rabbitmq.managed", m.Resources, m.Template, rabbitMQPod, leastRabbitMQMemory)
	}
	if m := s.Redis.Managed; m != nil {
		w.storage("redis.managed", m.Storage)
		w.amounts("redis.managed", m.Resources, m.Template, redisPod, leastMemory)
	}
	if m := s.SummaryAPI.Managed; m != nil {
		w.storage("summaryAPI.managed", m.Storage)
		w.amounts("summaryAPI.managed", m.Resources, m.Template, parkingPod, leastMemory)
	}
}

func (w *warner) storage(path string, s v1alpha1.StorageSpec) {
	size := s.Size.Value()
	if size.IsZero() && s.StorageClassName != "" {
		w.warn("%[1]s.storage.storageClassName has no effect, because %[1]s.storage.size is %[2]s: the data is in the pod; set the size, for example to 2Gi", path, *s.Size)
	}
	if !size.IsZero() && size.Cmp(resource.MustParse(leastStorage)) < 0 {
		w.warn("%s.storage.size is %s: the volume will soon be full; give it %s or more, such as 2Gi", path, *s.Size, leastStorage)
	}
	if size.Cmp(resource.MustParse(mostStorage)) > 0 {
		w.warn("%s.storage.size is %s: few storage systems provide such a large volume, and the pod may stay Pending; reduce it, for example to 2Gi", path, *s.Size)
	}
}

// amounts warns about suspicious CPU and memory values in the resources r and in the pod template t. A main container
// with less than leastMemory causes a warning.
func (w *warner) amounts(path string, r *v1alpha1.ResourceRequirements, t *v1alpha1.PodTemplate, of pod, leastMemory string) {
	if r != nil {
		w.resources(path+".resources", r, leastMemory)
	}
	var patch podPatch
	if t == nil || t.Spec == nil || json.Unmarshal(t.Spec.Raw, &patch) != nil {
		return
	}
	for i, container := range patch.Containers {
		least := leastSidecarMemory
		if container.Name == of[0] {
			least = leastMemory
		}
		w.resources(fmt.Sprintf("%s.template.spec.containers[%d].resources", path, i), container.Resources.requirements(), least)
	}
}

func (w *warner) resources(path string, r *v1alpha1.ResourceRequirements, leastMemory string) {
	for _, of := range []struct{ name, least, most, example, tooLittle string }{
		{"cpu", leastCPU, mostCPU, "500m", "the container gets almost no CPU time"},
		{"memory", leastMemory, mostMemory, "512Mi", "the container will be killed"},
	} {
		text, limited := r.Limits[of.name]
		limit := text.Value()
		if limited && limit.IsZero() {
			w.warn("%s.limits.%s is %s, which means no limit; remove this field, or set it to %s or more, such as %s", path, of.name, text, of.least, of.example)
		} else if limited && limit.Cmp(resource.MustParse(of.least)) < 0 {
			w.warn("%s.limits.%s is %s: %s; give it %s or more, such as %s", path, of.name, text, of.tooLittle, of.least, of.example)
		}
		request, requested := r.Requests[of.name]
		if amount := request.Value(); requested && amount.Cmp(resource.MustParse(of.most)) > 0 {
			w.warn("%s.requests.%s is %s: few nodes have that much, and the pod may stay Pending; reduce it, for example to %s", path, of.name, request, of.example)
		} else if !requested && limit.Cmp(resource.MustParse(of.most)) > 0 {
			w.warn("%s.limits.%s is %s, which is also the request: few nodes have that much, and the pod may stay Pending; reduce it, for example to %s", path, of.name, text, of.example)
		}
	}
}

// images warns about valid image references of managed servers if nodes probably cannot pull the images.
func (w *warner) images() {
	if m := w.spec.RabbitMQ.Managed; m != nil {
		w.image("rabbitmq.managed.image", m.Image)
	}
	if m := w.spec.Redis.Managed; m != nil {
		w.image("redis.managed.image", m.Image)
	}
}

func (w *warner) image(path, image string) {
	registry, repository, hasRegistry := strings.Cut(image, "/")
	host, _, hasPort := strings.Cut(registry, ":")
	if hasRegistry && !hasPort && host != strings.ToLower(host) && !strings.Contains(host, ".") {
		w.warn("%[1]s has upper-case letters before the first slash, so container runtimes read %[2]s as the host of a registry: if %[2]s is part of the repository, write %[3]s/%[4]s", path, host, strings.ToLower(host), repository)
	}
}

// monitoring warns about labels for monitoring objects if all of these objects are disabled.
func (w *warner) monitoring() {
	m := &w.spec.Monitoring
	isDisabled := m.ServiceMonitors == v1alpha1.MonitoringDisabled && m.Rules == v1alpha1.MonitoringDisabled && m.Dashboards == v1alpha1.MonitoringDisabled
	if isDisabled && len(m.Labels) > 0 {
		w.warn("monitoring.labels have no effect, because serviceMonitors, rules and dashboards are Disabled; remove the labels, or set serviceMonitors, rules or dashboards to Auto")
	}
}
