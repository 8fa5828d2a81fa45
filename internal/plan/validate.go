package plan

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/generator/sequence"
)

// Validate checks whatever can be known of a simulation without looking elsewhere, after filling in its
// defaults: everything that the API server checks but for changes, and what it cannot check, such as the
// fields of a pod template. Each message says what is expected. The simulation is not changed.
func Validate(sim *v1alpha1.ParkingSimulation) field.ErrorList {
	sim = defaulted(sim)
	var f faults
	f.metadata(field.NewPath("metadata"), &sim.ObjectMeta)
	f.spec(field.NewPath("spec"), &sim.Spec)
	return f.list
}

func defaulted(sim *v1alpha1.ParkingSimulation) *v1alpha1.ParkingSimulation {
	sim = sim.DeepCopy()
	sim.Default()
	return sim
}

// maxNameLength leaves room for what the names of a simulation's objects append.
const maxNameLength = 40

func (f *faults) metadata(path *field.Path, meta *metav1.ObjectMeta) {
	name := path.Child("name")
	switch {
	case meta.Name == "":
		f.required(name, "give the simulation a name")
	case len(meta.Name) > maxNameLength || len(validation.IsDNS1035Label(meta.Name)) > 0:
		f.invalid(name, meta.Name, "must have at most %d characters of a-z, 0-9 and '-', start with a letter and not end with '-'", maxNameLength)
	}
	if meta.Namespace != "" && len(validation.IsDNS1123Label(meta.Namespace)) > 0 {
		f.invalid(path.Child("namespace"), meta.Namespace, "must be the name of a namespace: at most 63 characters of a-z, 0-9 and '-'")
	}
}

func (f *faults) spec(path *field.Path, s *v1alpha1.ParkingSimulationSpec) {
	f.optionalDuration(path.Child("duration"), s.Duration, "30m")
	if *s.Seed < 0 {
		f.invalid(path.Child("seed"), *s.Seed, "must not be negative")
	}
	f.rate(path.Child("entry", "rate"), int64(*s.Entry.Rate))
	f.generator(path.Child("entry"), &s.Entry.GeneratorSpec)
	f.rate(path.Child("exit", "rate"), int64(*s.Exit.Rate))
	f.generator(path.Child("exit"), &s.Exit.GeneratorSpec)
	f.number(path.Child("exit", "matchPercent"), int64(*s.Exit.MatchPercent), 0, 100, "percent")
	f.duration(path.Child("exit", "minStay"), s.Exit.MinStay.Duration, true, "2s")
	f.plates(path, s)
	f.processor(path.Child("processor"), &s.Processor)
	f.rabbitMQ(path.Child("rabbitmq"), &s.RabbitMQ)
	f.redis(path.Child("redis"), &s.Redis)
	f.summaryAPISpec(path.Child("summaryAPI"), &s.SummaryAPI)
	f.monitoring(path.Child("monitoring"), &s.Monitoring)
	f.objectivesSpec(path.Child("objectives"), &s.Objectives)
	f.oneOf(path.Child("deletionPolicy"), string(s.DeletionPolicy),
		string(v1alpha1.DeletionPolicyDelete), string(v1alpha1.DeletionPolicyRetain))
}

// plates checks how long cars stay, and that there are plates enough for those that do.
func (f *faults) plates(path *field.Path, s *v1alpha1.ParkingSimulationSpec) {
	maxStay := s.Plates.MaxStay.Duration
	f.duration(path.Child("plates", "maxStay"), maxStay, false, "1h")
	f.stays(path.Child("exit", "minStay"), s.Exit.MinStay.Duration, maxStay, "plates.maxStay")
	entry := path.Child("entry")
	f.capacity(entry.Child("rate"), int64(*s.Entry.Rate), maxStay, "plates.maxStay")
	for i, stage := range s.Entry.Stages {
		if stage.Rate != nil {
			f.capacity(entry.Child("stages").Index(i).Child("rate"), int64(*stage.Rate), maxStay, "plates.maxStay")
		}
	}
}

// capacity checks that there are plates enough for the cars that enter at a rate and stay.
func (f *faults) capacity(path *field.Path, rate int64, maxStay time.Duration, maxStayName string) {
	if rate > MaxRate || maxStay > MaxDuration { // has been refused for that
		return
	}
	if rate*int64(maxStay/time.Second) > sequence.PlateCapacity {
		f.invalid(path, rate, "times %s, %s, must not exceed %d, the number of plates: lower the rate or %s",
			maxStayName, maxStay, sequence.PlateCapacity, maxStayName)
	}
}

func (f *faults) generator(path *field.Path, g *v1alpha1.GeneratorSpec) {
	f.number(path.Child("replicas"), int64(*g.Replicas), 0, MaxGenerators, "pods")
	f.oneOf(path.Child("arrivals"), string(g.Arrivals), string(v1alpha1.ArrivalsUniform), string(v1alpha1.ArrivalsPoisson))
	stages := path.Child("stages")
	if g.Stages != nil && (len(g.Stages) == 0 || len(g.Stages) > MaxStages) {
		f.invalid(stages, len(g.Stages), "must have from 1 to %d items; leave it out for a constant rate", MaxStages)
	} else {
		for i := range g.Stages {
			f.stage(stages.Index(i), &g.Stages[i])
		}
	}
	f.resources(path.Child("resources"), g.Resources)
	f.template(path.Child("template"), g.Template)
}

func (f *faults) stage(path *field.Path, s *v1alpha1.Stage) {
	if s.Duration == nil {
		f.required(path.Child("duration"), `say how long the ramp takes, such as "5m"; for a jump take "1ms"`)
	} else {
		f.duration(path.Child("duration"), s.Duration.Duration, false, "5m")
	}
	if s.Rate == nil {
		f.required(path.Child("rate"), "say how many events a second are reached at the end of the stage")
	} else {
		f.rate(path.Child("rate"), int64(*s.Rate))
	}
}

func (f *faults) processor(path *field.Path, p *v1alpha1.ProcessorSpec) {
	f.number(path.Child("replicas"), int64(*p.Replicas), 0, 1000, "pods")
	f.number(path.Child("concurrency"), int64(*p.Concurrency), 1, MaxConcurrency, "messages")
	f.resources(path.Child("resources"), p.Resources)
	f.template(path.Child("template"), p.Template)
}

func (f *faults) rabbitMQ(path *field.Path, r *v1alpha1.RabbitMQSpec) {
	f.atMostOne(path, map[string]bool{"managed": r.Managed != nil, "clusterRef": r.ClusterRef != nil, "secretRef": r.SecretRef != nil})
	f.oneOf(path.Child("queueType"), string(r.QueueType), string(v1alpha1.QueueTypeQuorum), string(v1alpha1.QueueTypeClassic))
	f.number(path.Child("partitions"), int64(*r.Partitions), 1, MaxPartitions, "partitions")
	if m := r.Managed; m != nil {
		managed := path.Child("managed")
		f.image(managed.Child("image"), m.Image)
		if n := *m.Replicas; n != 1 && n != 3 && n != 5 {
			f.invalid(managed.Child("replicas"), n, "must be 1, 3 or 5, as quorum queues need a majority")
		}
		f.storage(managed.Child("storage"), &m.Storage)
		f.resources(managed.Child("resources"), m.Resources)
		f.template(managed.Child("template"), m.Template)
	}
	if ref := r.ClusterRef; ref != nil {
		cluster := path.Child("clusterRef")
		f.objectName(cluster.Child("name"), ref.Name, "RabbitmqCluster")
		if ref.Namespace != "" && len(validation.IsDNS1123Label(ref.Namespace)) > 0 {
			f.invalid(cluster.Child("namespace"), ref.Namespace, "must be the name of a namespace, in lower case")
		}
	}
	f.secretRef(path.Child("secretRef"), r.SecretRef)
}

func (f *faults) redis(path *field.Path, r *v1alpha1.RedisSpec) {
	f.atMostOne(path, map[string]bool{"managed": r.Managed != nil, "secretRef": r.SecretRef != nil})
	if m := r.Managed; m != nil {
		managed := path.Child("managed")
		f.image(managed.Child("image"), m.Image)
		f.storage(managed.Child("storage"), &m.Storage)
		f.resources(managed.Child("resources"), m.Resources)
		f.template(managed.Child("template"), m.Template)
	}
	f.secretRef(path.Child("secretRef"), r.SecretRef)
}

func (f *faults) summaryAPISpec(path *field.Path, s *v1alpha1.SummaryAPISpec) {
	f.atMostOne(path, map[string]bool{"managed": s.Managed != nil, "url": s.URL != ""})
	if m := s.Managed; m != nil {
		managed := path.Child("managed")
		f.storage(managed.Child("storage"), &m.Storage)
		f.resources(managed.Child("resources"), m.Resources)
		f.template(managed.Child("template"), m.Template)
	}
	if s.URL != "" {
		f.length(path.Child("url"), s.URL, 2048)
		f.httpURL(path.Child("url"), s.URL, "a Secret and name it in secretRef")
	} else if s.SecretRef != nil {
		f.list = append(f.list, field.Forbidden(path.Child("secretRef"), "is for an API of your own: set url, or remove secretRef"))
	}
	f.secretRef(path.Child("secretRef"), s.SecretRef)
}

func (f *faults) monitoring(path *field.Path, m *v1alpha1.MonitoringSpec) {
	f.monitoringMode(path.Child("serviceMonitors"), m.ServiceMonitors)
	f.monitoringMode(path.Child("rules"), m.Rules)
	f.monitoringMode(path.Child("dashboards"), m.Dashboards)
	if d := m.Interval.Duration; d < time.Second || d > time.Hour {
		f.invalid(path.Child("interval"), d.String(), `must be a duration from 1s to 1h, such as "15s"`)
	}
	f.labels(path.Child("labels"), m.Labels, 32)
}

func (f *faults) monitoringMode(path *field.Path, mode v1alpha1.MonitoringMode) {
	f.oneOf(path, string(mode), string(v1alpha1.MonitoringAuto), string(v1alpha1.MonitoringDisabled))
}

func (f *faults) objectivesSpec(path *field.Path, o *v1alpha1.ObjectivesSpec) {
	f.optionalDuration(path.Child("processingP99"), o.ProcessingP99, "5ms")
	f.optionalDuration(path.Child("endToEndP99"), o.EndToEndP99, "1s")
	f.notNegative(path.Child("maxLost"), *o.MaxLost)
	f.notNegative(path.Child("maxUnexpected"), *o.MaxUnexpected)
}

// optionalDuration checks a duration that must be positive where it is set.
func (f *faults) optionalDuration(path *field.Path, d *metav1.Duration, example string) {
	if d != nil {
		f.duration(path, d.Duration, false, example)
	}
}

func (f *faults) required(path *field.Path, remedy string) {
	f.list = append(f.list, field.Required(path, remedy))
}

// atMostOne checks the members of a union.
func (f *faults) atMostOne(path *field.Path, set map[string]bool) {
	var names []string
	for _, name := range sortedKeys(set) {
		if set[name] {
			names = append(names, name)
		}
	}
	if len(names) > 1 {
		f.invalid(path, strings.Join(names, ", "), "at most one of %s may be set: remove the others", strings.Join(sortedKeys(set), ", "))
	}
}

func (f *faults) length(path *field.Path, text string, limit int) {
	if len(text) > limit {
		f.list = append(f.list, field.TooLong(path, text, limit))
	}
}

func (f *faults) image(path *field.Path, image string) {
	f.length(path, image, 512)
}

func (f *faults) secretRef(path *field.Path, ref *v1alpha1.SecretReference) {
	if ref != nil {
		f.objectName(path.Child("name"), ref.Name, "Secret")
	}
}

// objectName checks the name of another object; kind says of which.
func (f *faults) objectName(path *field.Path, name, kind string) {
	switch {
	case name == "":
		f.required(path, "name the "+kind)
	case len(validation.IsDNS1123Subdomain(name)) > 0:
		f.invalid(path, name, "must be the name of a %s, in lower case, without its namespace", kind)
	}
}

func (f *faults) storage(path *field.Path, s *v1alpha1.StorageSpec) {
	if s.Size.Sign() < 0 {
		f.invalid(path.Child("size"), s.Size.String(), `must be a quantity of bytes such as "2Gi", or "0" for ephemeral storage`)
	}
	if name := s.StorageClassName; name != "" && len(validation.IsDNS1123Subdomain(name)) > 0 {
		f.invalid(path.Child("storageClassName"), name, "must be the name of a StorageClass, in lower case")
	}
}

// resources checks what the API server will check of the containers.
func (f *faults) resources(path *field.Path, r *corev1.ResourceRequirements) {
	if r == nil {
		return
	}
	f.quantities(path.Child("limits"), r.Limits)
	f.quantities(path.Child("requests"), r.Requests)
	for _, name := range sortedKeys(r.Requests) {
		request := r.Requests[name]
		if limit, limited := r.Limits[name]; limited && request.Cmp(limit) > 0 {
			f.invalid(path.Child("requests").Key(string(name)), request.String(), "must not exceed the limit of %s", limit.String())
		}
	}
}

func (f *faults) quantities(path *field.Path, list corev1.ResourceList) {
	for _, name := range sortedKeys(list) {
		quantity := list[name]
		if len(validation.IsQualifiedName(string(name))) > 0 {
			f.invalid(path.Key(string(name)), string(name), `must be the name of a resource such as "cpu" or "memory"`)
		}
		if quantity.Cmp(resource.Quantity{}) < 0 {
			f.invalid(path.Key(string(name)), quantity.String(), "must not be negative")
		}
	}
}

// template checks that what is merged over a pod template consists of fields that a pod has.
func (f *faults) template(path *field.Path, t *v1alpha1.PodTemplate) {
	if t == nil {
		return
	}
	metadata := path.Child("metadata")
	f.labels(metadata.Child("labels"), t.Metadata.Labels, 64)
	annotations := metadata.Child("annotations")
	f.entries(annotations, len(t.Metadata.Annotations), 64)
	for _, key := range sortedKeys(t.Metadata.Annotations) {
		f.qualifiedName(annotations, key, "an annotation")
	}
	if t.Spec != nil {
		f.list = append(f.list, findPatchFaults(path.Child("spec"), t.Spec.Raw, corev1.PodSpec{})...)
	}
}

func (f *faults) labels(path *field.Path, labels map[string]v1alpha1.LabelValue, limit int) {
	f.entries(path, len(labels), limit)
	for _, key := range sortedKeys(labels) {
		f.qualifiedName(path, key, "a label")
		if value := string(labels[key]); len(validation.IsValidLabelValue(value)) > 0 {
			f.invalid(path.Key(key), value, "must be a label's value: at most 63 letters, digits, dashes, underscores and dots")
		}
	}
}

func (f *faults) qualifiedName(path *field.Path, key, kind string) {
	if len(validation.IsQualifiedName(strings.ToLower(key))) > 0 {
		f.invalid(path.Key(key), key, `must be %s's key such as "team" or "example.com/team"`, kind)
	}
}

func (f *faults) entries(path *field.Path, n, limit int) {
	if n > limit {
		f.list = append(f.list, field.TooMany(path, n, limit))
	}
}
