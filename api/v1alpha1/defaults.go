package v1alpha1

// Default sets the fields that the spec omits to the same values as the +default markers, so that a manifest means the
// same with and without a cluster.
func (s *ParkingSimulation) Default() {
	spec := &s.Spec
	setDefault(&spec.DrainTimeout, Duration("5m"))
	setDefault(&spec.Seed, 1)
	setDefault(&spec.Entry.Rate, 200)
	spec.Entry.GeneratorSpec.setDefaults()
	setDefault(&spec.Exit.Rate, 180)
	setDefault(&spec.Exit.MatchPercent, 20)
	setDefault(&spec.Exit.MinStay, Duration("2s"))
	spec.Exit.GeneratorSpec.setDefaults()
	setDefault(&spec.Plates.MaxStay, Duration("1h"))
	setDefault(&spec.Processor.Replicas, 2)
	setDefault(&spec.Processor.Concurrency, 256)
	spec.RabbitMQ.setDefaults()
	spec.Redis.setDefaults()
	spec.SummaryAPI.Managed.setDefaults()
	spec.Monitoring.setDefaults()
	for i := range spec.Faults {
		setDefaultText(&spec.Faults[i].Pods, "1")
	}
	setDefault(&spec.Objectives.MaxLost, 0)
	setDefault(&spec.Objectives.MaxUnexpected, 0)
	setDefaultText(&spec.DeletionPolicy, DeletionPolicyDelete)
}

func (g *GeneratorSpec) setDefaults() {
	setDefault(&g.Replicas, 1)
	setDefaultText(&g.Arrivals, ArrivalsUniform)
}

func (r *RabbitMQSpec) setDefaults() {
	setDefaultText(&r.QueueType, QueueTypeQuorum)
	setDefault(&r.Partitions, 1)
	r.Managed.setDefaults()
}

func (m *ManagedRabbitMQ) setDefaults() {
	if m == nil {
		return
	}
	setDefault(&m.Replicas, 1)
	m.Storage.setDefaults()
}

func (r *RedisSpec) setDefaults() {
	setDefaultText(&r.Durability, DurabilityWritten)
	r.Managed.setDefaults()
}

func (m *ManagedRedis) setDefaults() {
	if m != nil {
		m.Storage.setDefaults()
	}
}

func (m *ManagedSummaryAPI) setDefaults() {
	if m == nil {
		return
	}
	setDefault(&m.Replicas, 1)
	m.Storage.setDefaults()
}

// defaultSize is the default size of volumes.
const defaultSize Quantity = "2Gi"

func (s *StorageSpec) setDefaults() {
	setDefault(&s.Size, defaultSize)
}

// IsDefault reports whether all fields have their default values.
func (s *StorageSpec) IsDefault() bool {
	return (s.Size == nil || *s.Size == defaultSize) && s.StorageClassName == ""
}

func (m *MonitoringSpec) setDefaults() {
	setDefaultText(&m.ServiceMonitors, MonitoringAuto)
	setDefault(&m.Interval, Duration("15s"))
	setDefaultText(&m.Rules, MonitoringAuto)
	setDefaultText(&m.Dashboards, MonitoringAuto)
}

// ManagedOrDefault returns the settings of the managed RabbitMQ, with defaults for omitted fields. It returns nil if
// the spec selects an external RabbitMQ.
func (r *RabbitMQSpec) ManagedOrDefault() *ManagedRabbitMQ {
	if r.ClusterRef != nil || r.SecretRef != nil {
		return nil
	}
	managed := orNew(r.Managed.DeepCopy())
	managed.setDefaults()
	return managed
}

// ManagedOrDefault returns the settings of the managed Redis, with defaults for omitted fields. It returns nil if the
// spec selects an external Redis.
func (r *RedisSpec) ManagedOrDefault() *ManagedRedis {
	if r.SecretRef != nil {
		return nil
	}
	managed := orNew(r.Managed.DeepCopy())
	managed.setDefaults()
	return managed
}

// ManagedOrDefault returns the settings of the managed summary API, with defaults for omitted fields. It returns nil
// if the spec has the URL of an external API.
func (s *SummaryAPISpec) ManagedOrDefault() *ManagedSummaryAPI {
	if s.URL != "" {
		return nil
	}
	managed := orNew(s.Managed.DeepCopy())
	managed.setDefaults()
	return managed
}

func orNew[T any](p *T) *T {
	if p == nil {
		return new(T)
	}
	return p
}

func setDefault[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}

func setDefaultText[T ~string](field *T, value T) {
	if *field == "" {
		*field = value
	}
}
