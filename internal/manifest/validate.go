package manifest

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/field"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// validate applies the API server's rules, except those that compare two versions of an object. Unlike the API server,
// it also checks pod templates. The caller must have set the defaults.
func validate(sim *v1alpha1.ParkingSimulation, source func(field.Path, any) any) field.ErrorList {
	c := checks{plan.Checks{Source: source}}
	c.metadata("metadata", &sim.ObjectMeta)
	if undecodable := sim.Spec.Undecodable; undecodable != nil {
		c.types("spec", undecodable)
	} else {
		c.spec("spec", &sim.Spec)
	}
	return c.Errors
}

// checks collects the errors of a simulation. The embedded plan.Checks validates the values that also occur in plans.
type checks struct{ plan.Checks }

// types reports values of the wrong type. An object has such values only if it was stored under another version of the
// CRD.
func (c *checks) types(path field.Path, spec []byte) {
	faults := format.Check(path, spec, reflect.TypeFor[v1alpha1.ParkingSimulationSpec]())
	if len(faults) == 0 {
		c.Invalid(path, field.Raw("{…}"), "cannot be decoded: apply a corrected manifest")
	}
	c.Errors = append(c.Errors, faults...)
}

// maxNameLength is the maximum length of a simulation's name. The names of its objects consist of this name and a
// suffix.
const maxNameLength = 40

func (c *checks) metadata(path field.Path, meta *metav1.ObjectMeta) {
	name := path.Child("name")
	switch {
	case meta.Name == "" && meta.GenerateName != "":
		c.required(name, "give the simulation a name: generateName needs an API server")
	case meta.Name == "":
		c.required(name, "give the simulation a name")
	case len(meta.Name) > maxNameLength || len(validation.IsDNS1035Label(meta.Name)) > 0:
		c.Invalid(name, meta.Name, "must have at most %d characters of a-z, 0-9 and '-', start with a letter and not end with '-'", maxNameLength)
	}
	if prefix := meta.GenerateName; prefix != "" && len(apivalidation.NameIsDNSSubdomain(prefix, true)) > 0 {
		c.Invalid(path.Child("generateName"), prefix, `must be the beginning of a name: at most 253 characters of a-z, 0-9, '-' and '.', such as "rush-hour-"`)
	}
	c.namespace(path.Child("namespace"), meta.Namespace)
	labels := path.Child("labels")
	for _, key := range slices.Sorted(maps.Keys(meta.Labels)) {
		c.label(labels, key, meta.Labels[key])
	}
	annotations(c, path.Child("annotations"), meta.Annotations, apivalidation.TotalAnnotationSizeLimitB)
}

func (c *checks) spec(path field.Path, s *v1alpha1.ParkingSimulationSpec) {
	c.length(path.Child("duration"), s.Duration, false, "30m")
	c.length(path.Child("drainTimeout"), s.DrainTimeout, false, "5m")
	if *s.Seed < 0 {
		c.Invalid(path.Child("seed"), *s.Seed, "must not be negative")
	}
	c.Rate(path.Child("entry", "rate"), int64(*s.Entry.Rate))
	c.generator(path.Child("entry"), &s.Entry.GeneratorSpec)
	c.Rate(path.Child("exit", "rate"), int64(*s.Exit.Rate))
	c.generator(path.Child("exit"), &s.Exit.GeneratorSpec)
	c.Number(path.Child("exit", "matchPercent"), int64(*s.Exit.MatchPercent), 0, 100, "percent")
	c.plates(path, s)
	c.processor(path.Child("processor"), &s.Processor)
	c.rabbitMQ(path.Child("rabbitmq"), &s.RabbitMQ)
	c.redis(path.Child("redis"), &s.Redis)
	c.summaryAPISpec(path.Child("summaryAPI"), &s.SummaryAPI)
	c.monitoring(path.Child("monitoring"), &s.Monitoring)
	c.faults(path.Child("faults"), s)
	c.objectivesSpec(path.Child("objectives"), &s.Objectives)
	c.OneOf(path.Child("deletionPolicy"), string(s.DeletionPolicy),
		string(v1alpha1.DeletionPolicyDelete), string(v1alpha1.DeletionPolicyRetain))
}

// plates checks exit.minStay and plates.maxStay. It also checks that there are enough plates for all vehicles that can
// be parked at the same time.
func (c *checks) plates(path field.Path, s *v1alpha1.ParkingSimulationSpec) {
	minStay, minStayValid := c.length(path.Child("exit", "minStay"), s.Exit.MinStay, true, "2s")
	maxStay, maxStayValid := c.length(path.Child("plates", "maxStay"), s.Plates.MaxStay, false, "1h")
	if !maxStayValid {
		return
	}
	if minStayValid {
		c.Stay(path.Child("exit", "minStay"), minStay, maxStay, "plates.maxStay")
	}
	entry := path.Child("entry")
	c.Capacity(entry.Child("rate"), int64(*s.Entry.Rate), maxStay, "plates.maxStay")
	for i, stage := range s.Entry.Stages {
		if stage.Rate != nil {
			c.Capacity(entry.Child("stages").Index(i).Child("rate"), int64(*stage.Rate), maxStay, "plates.maxStay")
		}
	}
}

func (c *checks) generator(path field.Path, g *v1alpha1.GeneratorSpec) {
	c.Number(path.Child("replicas"), int64(*g.Replicas), 0, plan.MaxGenerators, "pods")
	c.OneOf(path.Child("arrivals"), string(g.Arrivals), string(v1alpha1.ArrivalsUniform), string(v1alpha1.ArrivalsPoisson))
	stages := path.Child("stages")
	switch {
	case g.Stages != nil && len(g.Stages) == 0:
		c.Invalid(stages, field.Raw("[]"), "must have from 1 to %d items; for a constant rate, leave the field out", plan.MaxStages)
	case len(g.Stages) > plan.MaxStages:
		c.Add(field.TooMany(stages, len(g.Stages), plan.MaxStages))
	default:
		for i := range g.Stages {
			c.stage(stages.Index(i), &g.Stages[i])
		}
	}
	c.completeResources(path.Child("resources"), g.Resources)
	c.template(path.Child("template"), g.Template, parkingPod)
}

func (c *checks) stage(path field.Path, s *v1alpha1.Stage) {
	if s.Duration == nil {
		c.required(path.Child("duration"), `set the length of the stage, such as "5m"; to change the rate at once, use "1ms"`)
	} else {
		c.length(path.Child("duration"), s.Duration, false, "5m")
	}
	if s.Rate == nil {
		c.required(path.Child("rate"), "set the events per second at the end of the stage")
	} else {
		c.Rate(path.Child("rate"), int64(*s.Rate))
	}
}

func (c *checks) processor(path field.Path, p *v1alpha1.ProcessorSpec) {
	c.Number(path.Child("replicas"), int64(*p.Replicas), 0, 1000, "pods")
	c.Number(path.Child("concurrency"), int64(*p.Concurrency), 1, plan.MaxConcurrency, "messages")
	c.completeResources(path.Child("resources"), p.Resources)
	c.template(path.Child("template"), p.Template, parkingPod)
}

func (c *checks) rabbitMQ(path field.Path, r *v1alpha1.RabbitMQSpec) {
	c.atMostOne(path, map[string]bool{"managed": r.Managed != nil, "clusterRef": r.ClusterRef != nil, "secretRef": r.SecretRef != nil})
	c.OneOf(path.Child("queueType"), string(r.QueueType), string(v1alpha1.QueueTypeQuorum), string(v1alpha1.QueueTypeClassic))
	c.Number(path.Child("partitions"), int64(*r.Partitions), 1, plan.MaxPartitions, "partitions")
	if m := r.Managed; m != nil {
		managed := path.Child("managed")
		c.image(managed.Child("image"), m.Image, "rabbitmq:4")
		if n := *m.Replicas; n != 1 && n != 3 && n != 5 {
			c.Invalid(managed.Child("replicas"), n, "must be 1, 3 or 5, because quorum queues need a majority")
		}
		c.storage(managed.Child("storage"), &m.Storage)
		c.completeResources(managed.Child("resources"), m.Resources)
		c.tls(managed.Child("tls"), m.TLS)
		c.template(managed.Child("template"), m.Template, rabbitMQPod)
	}
	if ref := r.ClusterRef; ref != nil {
		cluster := path.Child("clusterRef")
		c.objectName(cluster.Child("name"), ref.Name, "RabbitmqCluster", "my-cluster")
		c.namespace(cluster.Child("namespace"), ref.Namespace)
	}
	c.secretRef(path.Child("secretRef"), r.SecretRef)
}

func (c *checks) redis(path field.Path, r *v1alpha1.RedisSpec) {
	c.atMostOne(path, map[string]bool{"managed": r.Managed != nil, "secretRef": r.SecretRef != nil})
	c.OneOf(path.Child("durability"), string(r.Durability), string(v1alpha1.DurabilityWritten), string(v1alpha1.DurabilitySynced))
	if m := r.Managed; m != nil {
		managed := path.Child("managed")
		c.image(managed.Child("image"), m.Image, "redis:8")
		c.storage(managed.Child("storage"), &m.Storage)
		c.completeResources(managed.Child("resources"), m.Resources)
		c.tls(managed.Child("tls"), m.TLS)
		c.template(managed.Child("template"), m.Template, redisPod)
	}
	c.secretRef(path.Child("secretRef"), r.SecretRef)
}

func (c *checks) summaryAPISpec(path field.Path, s *v1alpha1.SummaryAPISpec) {
	c.atMostOne(path, map[string]bool{"managed": s.Managed != nil, "url": s.URL != ""})
	if s.Managed != nil {
		c.managedSummaryAPI(path.Child("managed"), s.Managed)
	}
	if s.URL != "" {
		if len(s.URL) > 2048 {
			c.Add(field.TooLong(path.Child("url"), 2048))
		}
		c.HTTPURL(path.Child("url"), s.URL, "put the credentials into a Secret, and name the Secret in secretRef")
	} else if s.SecretRef != nil {
		c.Add(field.Forbidden(path.Child("secretRef"), "is for an external API: set url, or remove secretRef"))
	}
	c.secretRef(path.Child("secretRef"), s.SecretRef)
}

func (c *checks) managedSummaryAPI(path field.Path, m *v1alpha1.ManagedSummaryAPI) {
	c.Number(path.Child("replicas"), int64(*m.Replicas), 1, 16, "pods")
	if *m.Replicas > 1 && m.Database == nil {
		c.Invalid(path.Child("replicas"), *m.Replicas, "several replicas need a database that they share: set database.secretRef, or set replicas to 1")
	}
	if m.Database != nil {
		c.secretRef(path.Child("database", "secretRef"), &m.Database.SecretRef)
		if !m.Storage.IsDefault() {
			c.Add(field.Forbidden(path.Child("storage"), "cannot be set together with the field database, because the summaries are stored in PostgreSQL, not on a volume: remove storage, or remove database"))
		}
	}
	c.storage(path.Child("storage"), &m.Storage)
	c.completeResources(path.Child("resources"), m.Resources)
	c.tls(path.Child("tls"), m.TLS)
	c.template(path.Child("template"), m.Template, parkingPod)
}

func (c *checks) monitoring(path field.Path, m *v1alpha1.MonitoringSpec) {
	c.monitoringMode(path.Child("serviceMonitors"), m.ServiceMonitors)
	c.monitoringMode(path.Child("rules"), m.Rules)
	c.monitoringMode(path.Child("dashboards"), m.Dashboards)
	interval := path.Child("interval")
	if d, err := m.Interval.Parse(); !c.shorter(interval, m.Interval) && (err != nil || d < time.Second || d > time.Hour) {
		c.Invalid(interval, string(*m.Interval), `must be a duration from 1s to 1h, such as "15s"`)
	}
	c.labels(path.Child("labels"), m.Labels, 32)
	c.tls(path.Child("tls"), m.TLS)
}

func (c *checks) monitoringMode(path field.Path, mode v1alpha1.MonitoringMode) {
	c.OneOf(path, string(mode), string(v1alpha1.MonitoringAuto), string(v1alpha1.MonitoringDisabled))
}

func (c *checks) objectivesSpec(path field.Path, o *v1alpha1.ObjectivesSpec) {
	c.phaseObjectivesSpec(path, &o.PhaseObjectivesSpec)
	c.phaseObjectivesSpec(path.Child("withoutFaults"), &o.WithoutFaults)
	c.phaseObjectivesSpec(path.Child("underFaults"), &o.UnderFaults)
	c.length(path.Child("maxRecovery"), o.MaxRecovery, false, "30s")
	c.NotNegative(path.Child("maxLost"), *o.MaxLost)
	c.NotNegative(path.Child("maxUnexpected"), *o.MaxUnexpected)
}

func (c *checks) phaseObjectivesSpec(path field.Path, o *v1alpha1.PhaseObjectivesSpec) {
	c.length(path.Child("processingP99"), o.ProcessingP99, false, "5ms")
	c.length(path.Child("endToEndP99"), o.EndToEndP99, false, "1s")
	c.length(path.Child("maxLag"), o.MaxLag, false, "5s")
	if n := o.MinAchievedPercent; n != nil {
		c.Number(path.Child("minAchievedPercent"), int64(*n), 1, 100, "percent")
	}
}

// oneUnit matches a number with one unit, such as "1d", "5 s" or "1min".
var oneUnit = regexp.MustCompile(`^([0-9.]+)( *)(\pL+)$`)

// maxUnitText is the maximum number of characters of the number and of the unit. A longer text is not a typing error.
// In the pattern, this limit would cost 20 ms at each start of the program.
const maxUnitText = 32

// hasWrongUnit reports whether an invalid duration is a number with an unknown unit, or with a space before the unit.
func hasWrongUnit(text string) bool {
	parts := oneUnit.FindStringSubmatch(text)
	if len(parts) == 0 {
		return false
	}
	number, space, unit := parts[1], parts[2], parts[3]
	if len(number) > maxUnitText || utf8.RuneCountInString(unit) > maxUnitText {
		return false
	}
	units := []string{"h", "m", "s", "ms", "us", "µs", "μs", "ns"}
	return space != "" || !slices.Contains(units, unit)
}

// length checks an optional duration and returns it. The second result is false if the duration is not set or is
// invalid.
func (c *checks) length(path field.Path, d *v1alpha1.Duration, zeroAllowed bool, example string) (plan.Length, bool) {
	return c.lengthUpTo(plan.MaxDuration, path, d, zeroAllowed, example)
}

func (c *checks) lengthUpTo(limit time.Duration, path field.Path, d *v1alpha1.Duration, zeroAllowed bool, example string) (plan.Length, bool) {
	if d == nil {
		return plan.Length{}, false
	}
	if c.shorter(path, d) {
		return plan.Length{}, false
	}
	value, err := d.Parse()
	if err != nil && hasWrongUnit(string(*d)) {
		c.Invalid(path, string(*d), "must be numbers with the units h, m, s, ms, us or ns, without spaces, such as %q", example)
		return plan.Length{}, false
	}
	if err != nil {
		// Make DurationUpTo add an error.
		value = -1
	}
	length, before := plan.Length{Value: value, Text: string(*d)}, len(c.Errors)
	c.DurationUpTo(limit, path, length, zeroAllowed, example)
	return length, len(c.Errors) == before
}

// shorter reports whether a duration is invalid only because it has too many digits. If so, it adds an error.
func (c *checks) shorter(path field.Path, d *v1alpha1.Duration) bool {
	_, err := d.Parse()
	shorter := d.Shorter()
	if err == nil || shorter == "" {
		return false
	}
	c.Invalid(path, string(*d), `must be a duration such as "30s" or "1h30m": write %q`, shorter)
	return true
}

func (c *checks) required(path field.Path, remedy string) {
	c.Add(field.Required(path, remedy))
}

// atMostOne checks that at most one field is set. The keys of the map are the names of the fields.
func (c *checks) atMostOne(path field.Path, set map[string]bool) {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if set[name] {
			names = append(names, name)
		}
	}
	if len(names) > 1 {
		c.Invalid(path, field.Raw(strings.Join(names, ", ")), "at most one of %s may be set: remove all but one", strings.Join(slices.Sorted(maps.Keys(set)), ", "))
	}
}

var (
	imageSyntax    = regexp.MustCompile(v1alpha1.ImagePattern)
	imageLength    = regexp.MustCompile(v1alpha1.ImageLengthPattern)
	imageRefused   = regexp.MustCompile(v1alpha1.ImageRefusedPattern)
	imageID        = regexp.MustCompile(`^[0-9a-f]{64}$`)
	digestSyntax   = regexp.MustCompile(`^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$`)
	tagSyntax      = regexp.MustCompile(`^[A-Za-z0-9_][-A-Za-z0-9_.]{0,127}$`)
	registrySyntax = regexp.MustCompile(`^[a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?$`)
)

// image checks an optional image reference. Errors show the example, a valid reference without a registry.
func (c *checks) image(path field.Path, image, example string) {
	switch {
	case image == "":
	case len(image) > 512:
		c.Add(field.TooLong(path, 512))
	case !isImage(image):
		expected := fmt.Sprintf(`must be an image reference such as %q or "registry.example.com/team/%s"`, example, example)
		if trimmed := strings.TrimSpace(image); !isImage(trimmed) {
			expected += ": " + imageProblem(trimmed)
		}
		c.Invalid(path, image, "%s", expected)
	}
}

// isImage reports whether a text is an image reference that a node accepts.
func isImage(text string) bool {
	return imageSyntax.MatchString(text) && imageLength.MatchString(text) && !imageRefused.MatchString(text)
}

// imageProblem says which part of an invalid image reference is invalid. The result does not quote this part.
func imageProblem(image string) string {
	name, digest, hasDigest := strings.Cut(image, "@")
	switch {
	case imageID.MatchString(image):
		return "64 hexadecimal digits are the ID of an image: nodes pull images by name"
	case imageSyntax.MatchString(image):
		return `the repository must have at most 255 characters, including the "library/" that nodes prepend if a repository on Docker Hub has no "/"`
	case strings.Contains(name, "://"):
		return `remove the scheme, which ends with "://"`
	case hasDigest && strings.Contains(digest, "/"):
		return "remove the user name and the password: put the credentials into a Secret for pulling images"
	case hasDigest && !digestSyntax.MatchString(digest):
		return `the digest after "@" must be "sha256:" and 64 digits of 0-9 and a-f`
	case strings.ContainsFunc(name, unicode.IsSpace):
		return "remove the space"
	}
	if registry, repository, found := strings.Cut(name, "/"); found && strings.ContainsAny(registry, ".:") {
		if problem := registryProblem(registry); problem != "" {
			return problem
		}
		name = repository
	}
	return repositoryProblem(name)
}

// registryProblem says what is wrong with the registry of an image. A registry has the form <host> or <host>:<port>.
// The result is "" if the registry is valid.
func registryProblem(registry string) string {
	host, port, hasPort := strings.Cut(registry, ":")
	number, err := strconv.ParseUint(port, 10, 16)
	switch {
	case !registrySyntax.MatchString(host) || strings.Contains(host, ".."):
		return `the registry before the first "/" must be the name of a host: letters, digits, '-' and '.'`
	case hasPort && (err != nil || number == 0 || port[0] == '0'):
		return "the port of the registry must be from 1 to 65535"
	}
	return ""
}

// repositoryProblem says what is wrong with the repository and tag of an invalid image reference.
func repositoryProblem(name string) string {
	repository, tag, hasTag := strings.Cut(name, ":")
	switch {
	case hasTag && tag == "":
		return `the tag after ":" is empty`
	case hasTag && !tagSyntax.MatchString(tag):
		return `the tag after ":" must have at most 128 letters, digits, '-', '_' and '.'`
	case repository != strings.ToLower(repository):
		return "the repository must be in lower case"
	}
	return `the repository must consist of a-z and 0-9, with single separators '/', '.', '_' and '-' between them`
}

func (c *checks) secretRef(path field.Path, ref *v1alpha1.SecretReference) {
	if ref != nil {
		c.objectName(path.Child("name"), ref.Name, "Secret", "my-secret")
	}
}

// namespace checks the optional name of a namespace.
func (c *checks) namespace(path field.Path, name string) {
	if name != "" && len(validation.IsDNS1123Label(name)) > 0 {
		c.Invalid(path, name, `must be the name of a namespace: at most 63 characters of a-z, 0-9 and '-', such as "my-namespace"`)
	}
}

func (c *checks) tls(path field.Path, t *v1alpha1.TLSSpec) {
	if t != nil && t.SecretName != "" {
		c.objectName(path.Child("secretName"), t.SecretName, "Secret", "my-secret")
	}
}

// objectName checks the name of a Kubernetes object of the given kind. Errors show the example of a valid name.
func (c *checks) objectName(path field.Path, name, kind, example string) {
	switch {
	case name == "":
		c.required(path, "name the "+kind)
	case len(validation.IsDNS1123Subdomain(name)) > 0:
		c.Invalid(path, name, "must be the name of a %s, without its namespace: at most 253 characters of a-z, 0-9, '-' and '.', such as %q", kind, example)
	}
}

func (c *checks) storage(path field.Path, s *v1alpha1.StorageSpec) {
	if _, err := s.Size.ParseWhole(); err != nil {
		c.Invalid(path.Child("size"), string(*s.Size), "%s", expectedSize)
	}
	if name := s.StorageClassName; name != "" && len(validation.IsDNS1123Subdomain(name)) > 0 {
		c.Invalid(path.Child("storageClassName"), name, `must be the name of a StorageClass: at most 253 characters of a-z, 0-9, '-' and '.', such as "standard"`)
	}
}

// resources validates the requests and limits of a container by the rules that the API server applies when a pod is
// created.
func (c *checks) resources(path field.Path, r *v1alpha1.ResourceRequirements) {
	if r == nil {
		return
	}
	limits := c.quantities(path.Child("limits"), r.Limits)
	requests := c.quantities(path.Child("requests"), r.Requests)
	for _, name := range slices.Sorted(maps.Keys(requests)) {
		request := requests[name]
		limit, limited := limits[name]
		at := path.Child("requests").Key(name)
		switch {
		case limited && isReserved(name) && request.Cmp(limit) != 0:
			c.Invalid(at, string(r.Requests[name]), "must equal the limit of %s, because %s cannot be overcommitted: remove the request", r.Limits[name], name)
		case limited && request.Cmp(limit) > 0:
			c.Invalid(at, string(r.Requests[name]), "must not exceed the limit of %s", r.Limits[name])
		}
	}
}

// completeResources checks the requirements of a container that the operator creates. Unlike a patch in a pod template,
// they must be complete.
func (c *checks) completeResources(path field.Path, r *v1alpha1.ResourceRequirements) {
	if r == nil {
		return
	}
	c.resources(path, r)
	// Resources that cannot be overcommitted need a limit.
	for _, name := range slices.Sorted(maps.Keys(r.Requests)) {
		if _, limited := r.Limits[name]; isReserved(name) && !limited {
			c.required(path.Child("limits").Key(name), "the limit must equal the request, because "+name+" cannot be overcommitted: set only the limit, which is then also the request")
		}
	}
	names := slices.Concat(slices.Sorted(maps.Keys(r.Limits)), slices.Sorted(maps.Keys(r.Requests)))
	if slices.ContainsFunc(names, isHugePages) && !slices.Contains(names, string(corev1.ResourceCPU)) && !slices.Contains(names, string(corev1.ResourceMemory)) {
		c.Add(field.Forbidden(path, `huge pages require cpu or memory: add a limit for memory, such as "512Mi"`))
	}
}

const (
	expectedQuantity      = `must be a quantity such as "500m" or "2"`
	expectedWholeQuantity = `must be an integer quantity, such as "512Mi" for memory`
	expectedSize          = `must be a quantity of bytes such as "2Gi", or "0" for ephemeral storage`
)

// quantities checks a list of resources and returns the valid quantities.
func (c *checks) quantities(path field.Path, list v1alpha1.ResourceList) map[string]resource.Quantity {
	c.entries(path, len(list), 16)
	valid := make(map[string]resource.Quantity, len(list))
	for _, name := range slices.Sorted(maps.Keys(list)) {
		if !isResourceName(name) {
			c.Add(field.Forbidden(path.Key(name), `unknown resource: must be "cpu", "memory", "ephemeral-storage", huge pages such as "hugepages-2Mi", or an extended resource such as "example.com/gpu"`))
		}
		parse, expected := v1alpha1.Quantity.ParseWhole, expectedWholeQuantity
		if name == string(corev1.ResourceCPU) {
			parse, expected = v1alpha1.Quantity.Parse, expectedQuantity
		}
		quantity, err := parse(list[name])
		if err != nil {
			c.Invalid(path.Key(name), string(list[name]), "%s", expected)
			continue
		}
		if size, found := strings.CutPrefix(name, corev1.ResourceHugePagesPrefix); found && isHugePages(name) {
			page := resource.MustParse(size)
			if quantity.Value()%page.Value() != 0 {
				c.Invalid(path.Key(name), string(list[name]), "must be a multiple of the page size, %s", size)
			}
		}
		valid[name] = quantity
	}
	return valid
}

func isResourceName(name string) bool {
	switch corev1.ResourceName(name) {
	case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
		return true
	}
	return isHugePages(name) || isExtendedResource(name) ||
		strings.Contains(name, kubernetesPrefix) && len(validation.IsQualifiedName(name)) == 0
}

var hugePages = regexp.MustCompile(v1alpha1.HugePagesPattern) //nolint:gocritic // the CRD contains a copy of the pattern, in which \d would have to be escaped

func isHugePages(name string) bool { return hugePages.MatchString(name) }

const (
	kubernetesPrefix = "kubernetes.io/"
	quotaPrefix      = "requests." // in a ResourceQuota, the names of extended resources begin with this prefix
)

func isExtendedResource(name string) bool {
	return strings.Contains(name, "/") && !strings.Contains(name, kubernetesPrefix) && !strings.HasPrefix(name, quotaPrefix) &&
		len(validation.IsQualifiedName(quotaPrefix+name)) == 0
}

// isReserved reports whether a container's request for a resource must equal its limit. Kubernetes requires this for
// huge pages, and for extended resources such as GPUs.
func isReserved(name string) bool { return isHugePages(name) || isExtendedResource(name) }

func (c *checks) labels(path field.Path, labels map[string]v1alpha1.LabelValue, limit int) {
	c.entries(path, len(labels), limit)
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		c.label(path, key, string(labels[key]))
	}
}

func (c *checks) label(path field.Path, key, value string) {
	c.qualifiedName(path, key, key, "a label")
	if len(validation.IsValidLabelValue(value)) > 0 {
		c.Invalid(path.Key(key), value, "must be a valid label value: at most 63 letters, digits, dashes, underscores and dots")
	}
}

// annotations checks the keys of annotations. It also checks that the total size of the keys and values does not exceed
// the limit in bytes.
func annotations[V ~string](c *checks, path field.Path, values map[string]V, limit int) {
	size := 0
	for _, key := range slices.Sorted(maps.Keys(values)) {
		c.qualifiedName(path, key, strings.ToLower(key), "an annotation")
		size += len(key) + len(values[key])
	}
	if size > limit {
		c.Add(field.TooLong(path, limit))
	}
}

// qualifiedName checks the key of a label or an annotation. For an annotation, form is the key in lower case, because
// the API server ignores the case. For a label, form is the key.
func (c *checks) qualifiedName(path field.Path, key, form, kind string) {
	if len(validation.IsQualifiedName(form)) > 0 {
		c.Add(field.Invalid(path.Key(key), key, fmt.Sprintf(`must be the key of %s, such as "team" or "example.com/team"`, kind)))
	}
}

func (c *checks) entries(path field.Path, n, limit int) {
	if n > limit {
		c.Add(field.TooMany(path, n, limit))
	}
}
