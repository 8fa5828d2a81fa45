package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// ParkingSimulation is an event-driven parking simulation on RabbitMQ and Redis that accounts for every event.
// Generators publish the entries and exits of vehicles. Processors match each exit with its entry and post a summary of
// the visit to a REST API. A ledger shows whether any event was lost or counted twice.
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=psim,categories=parking,scope=Namespaced
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.processor.replicas,statuspath=.status.replicas,selectorpath=.status.selector
// +kubebuilder:printcolumn:name="Entry/s",type=integer,JSONPath=`.status.targetRates.entry`,description="Current target rate of entries per second"
// +kubebuilder:printcolumn:name="Exit/s",type=integer,JSONPath=`.status.targetRates.exit`,description="Current target rate of exits per second"
// +kubebuilder:printcolumn:name="Match%",type=integer,JSONPath=`.spec.exit.matchPercent`,description="Percentage of exits that have the plate of a parked vehicle"
// +kubebuilder:printcolumn:name="Processors",type=integer,JSONPath=`.status.replicas`,description="Processor pods"
// +kubebuilder:printcolumn:name="Ready",type=integer,JSONPath=`.status.readyReplicas`,description="Processor pods that are ready"
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,description="Reason of the condition Ready"
// +kubebuilder:printcolumn:name="Processed",type=integer,JSONPath=`.status.ledger.processed`,description="Events that took effect"
// +kubebuilder:printcolumn:name="Lost",type=integer,JSONPath=`.status.ledger.lost`,description="Confirmed events that did not take effect"
// +kubebuilder:printcolumn:name="Faults",type=string,JSONPath=`.status.faults.active`,description="Faults in effect"
// +kubebuilder:printcolumn:name="Verdict",type=string,JSONPath=`.status.verdict`,description="PASS or FAIL, once the simulation is complete",priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name must have at most 40 characters of a-z, 0-9 and '-', start with a letter and not end with '-': Services are named after it"
type ParkingSimulation struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the object metadata. The name starts with a letter and has at most 40 characters of a-z, 0-9 and
	// '-', because names of Services and pods contain it.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the desired simulation. An empty spec publishes 200 entries and 180 exits per second, and the operator
	// runs RabbitMQ, Redis and a summary API for it.
	// +default={}
	// +optional
	Spec ParkingSimulationSpec `json:"spec,omitzero"`

	// status is the observed state of the simulation. The operator writes it.
	// +default={"observedGeneration": -1}
	// +optional
	Status ParkingSimulationStatus `json:"status,omitzero"`
}

// ParkingSimulationList is a list of simulations.
//
// +kubebuilder:object:root=true
type ParkingSimulationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []ParkingSimulation `json:"items"`
}

// ParkingSimulationSpec is the desired simulation.
//
// +kubebuilder:validation:XValidation:rule="!has(self.exit) || !has(self.exit.minStay) || !has(self.plates) || !has(self.plates.maxStay) || !self.exit.minStay.matches('^([0-9]{1,5}h|[0-9]{1,6}m|[0-9]{1,9}[nuµμm]?s|[0-9]{0,5}[.]([0-9]{1,9}[hms]|[0-9]{1,6}ms|[0-9]{1,3}[uµμ]s))+$') || !self.plates.maxStay.matches('^([0-9]{1,5}h|[0-9]{1,6}m|[0-9]{1,9}[nuµμm]?s|[0-9]{0,5}[.]([0-9]{1,9}[hms]|[0-9]{1,6}ms|[0-9]{1,3}[uµμ]s))+$') || duration(self.exit.minStay) < duration(self.plates.maxStay)",message="exit.minStay must be less than plates.maxStay, or every vehicle is forgotten before it may leave: lower exit.minStay or raise plates.maxStay",fieldPath=".exit.minStay"
// +kubebuilder:validation:XValidation:rule="!has(self.entry) || !has(self.entry.rate) || !has(self.plates) || !has(self.plates.maxStay) || !self.plates.maxStay.matches('^([0-9]{1,5}h|[0-9]{1,6}m|[0-9]{1,9}[nuµμm]?s|[0-9]{0,5}[.]([0-9]{1,9}[hms]|[0-9]{1,6}ms|[0-9]{1,3}[uµμ]s))+$') || self.entry.rate * duration(self.plates.maxStay).getSeconds() <= 87880000",message="entry.rate times plates.maxStay in seconds must not exceed 87880000, the number of plates: lower entry.rate or plates.maxStay",fieldPath=".entry.rate"
// +kubebuilder:validation:XValidation:rule="!has(self.entry) || !has(self.entry.stages) || !has(self.plates) || !has(self.plates.maxStay) || !self.plates.maxStay.matches('^([0-9]{1,5}h|[0-9]{1,6}m|[0-9]{1,9}[nuµμm]?s|[0-9]{0,5}[.]([0-9]{1,9}[hms]|[0-9]{1,6}ms|[0-9]{1,3}[uµμ]s))+$') || self.entry.stages.all(stage, stage.rate * duration(self.plates.maxStay).getSeconds() <= 87880000)",message="the rate of each stage in entry.stages, multiplied by plates.maxStay in seconds, must not exceed 87880000, the number of plates: lower the rate or plates.maxStay",fieldPath=".entry.stages"
// +kubebuilder:validation:XValidation:rule="!has(self.faults) || !has(self.duration) || !self.duration.matches('^([0-9]{1,5}h|[0-9]{1,6}m|[0-9]{1,9}[nuµμm]?s|[0-9]{0,5}[.]([0-9]{1,9}[hms]|[0-9]{1,6}ms|[0-9]{1,3}[uµμ]s))+$') || self.faults.all(fault, ![fault.at, has(fault.__for__) ? fault.__for__ : '0s', has(fault.jitter) ? fault.jitter : '0s'].all(d, d.matches('^([0-9]{1,5}h|[0-9]{1,6}m|[0-9]{1,9}[nuµμm]?s|[0-9]{0,5}[.]([0-9]{1,9}[hms]|[0-9]{1,6}ms|[0-9]{1,3}[uµμ]s))+$')) || duration(fault.at) + duration(has(fault.__for__) ? fault.__for__ : '0s') + duration(has(fault.jitter) ? fault.jitter : '0s') < duration(self.duration))",message="the sum of \"at\", \"for\" and \"jitter\" of each fault must be less than \"duration\", or the simulation ends before the fault does: raise \"duration\" or lower \"at\"",fieldPath=".faults"
// +kubebuilder:validation:XValidation:rule="!has(self.faults) || !has(self.rabbitmq) || !has(self.rabbitmq.clusterRef) && !has(self.rabbitmq.secretRef) || self.faults.all(fault, !(fault.target in ['RabbitMQ', 'RabbitMQLeader']))",message="a fault cannot target an external server: remove the faults of RabbitMQ, or remove rabbitmq.clusterRef and rabbitmq.secretRef to run a managed RabbitMQ",fieldPath=".faults"
// +kubebuilder:validation:XValidation:rule="!has(self.faults) || !has(self.redis) || !has(self.redis.secretRef) || self.faults.all(fault, fault.target != 'Redis')",message="a fault cannot target an external server: remove the faults of Redis, or remove redis.secretRef to run a managed Redis",fieldPath=".faults"
// +kubebuilder:validation:XValidation:rule="!has(self.faults) || !has(self.summaryAPI) || !has(self.summaryAPI.url) || self.faults.all(fault, fault.target != 'SummaryAPI')",message="a fault cannot target an external server: remove the faults of SummaryAPI, or remove summaryAPI.url to run a managed summary API",fieldPath=".faults"
// +kubebuilder:validation:XValidation:rule="!has(self.faults) || !has(self.rabbitmq) || !has(self.rabbitmq.queueType) || self.rabbitmq.queueType != 'Classic' || self.faults.all(fault, fault.target != 'RabbitMQLeader')",message="the target RabbitMQLeader requires quorum queues, because classic queues have no leader: set the target to RabbitMQ, or rabbitmq.queueType to Quorum",fieldPath=".faults"
// +kubebuilder:validation:XValidation:rule="!has(self.faults) || !has(self.rabbitmq) || !has(self.rabbitmq.managed) || !has(self.rabbitmq.managed.replicas) || self.rabbitmq.managed.replicas < 2 || self.faults.all(fault, fault.action != 'Isolate' || !(fault.target in ['RabbitMQ', 'RabbitMQLeader']))",message="the action Isolate is not possible for RabbitMQ with several nodes, because an isolation does not cut the connections between nodes: use Pause, or set rabbitmq.managed.replicas to 1",fieldPath=".faults"
// +kubebuilder:validation:XValidation:rule="!has(self.faults) || !(has(self.rabbitmq) && (has(self.rabbitmq.clusterRef) || has(self.rabbitmq.secretRef)) || has(self.redis) && has(self.redis.secretRef) || has(self.summaryAPI) && has(self.summaryAPI.url)) || self.faults.all(fault, fault.action != 'Isolate' || !(fault.target in ['Processor', 'EntryGenerator', 'ExitGenerator']))",message="the action Isolate cannot cut connections to an external server: use Pause, or run managed servers only",fieldPath=".faults"
type ParkingSimulationSpec struct {
	// suspend stops the generators until it is false again. The processors finish the queued events and keep running,
	// no data is deleted, and the time counts towards spec.duration.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// duration is how long the generators publish events, such as "1h30m", at most 8760h. The verdict follows once the
	// queues are empty. If duration is omitted, the simulation runs until it is deleted.
	// +kubebuilder:validation:XValidation:rule="self.matches('[1-9]')",message="must be above 0s"
	// +optional
	Duration *Duration `json:"duration,omitempty"`

	// drainTimeout is how long the processors may take to finish after the end of spec.duration, such as "5m". If
	// events are still unprocessed then, the verdict is FAIL.
	// +kubebuilder:validation:XValidation:rule="self.matches('[1-9]')",message="must be above 0s"
	// +default="5m"
	// +optional
	DrainTimeout *Duration `json:"drainTimeout,omitempty"`

	// seed determines the order of plates and the matching exits: runs with the same seed and spec publish the same
	// events. It is immutable, because another seed could draw parked plates again.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="is immutable, because parked plates could be drawn again: create another simulation for another seed"
	// +default=1
	// +optional
	Seed *int64 `json:"seed,omitempty"`

	// entry configures the entries that are published.
	// +default={}
	// +optional
	Entry EntrySpec `json:"entry,omitzero"`

	// exit configures the exits that are published.
	// +default={}
	// +optional
	Exit ExitSpec `json:"exit,omitzero"`

	// plates configures how long the simulation remembers parked vehicles.
	// +default={}
	// +optional
	Plates PlatesSpec `json:"plates,omitzero"`

	// processor configures the pods that process the events.
	// +default={}
	// +optional
	Processor ProcessorSpec `json:"processor,omitzero"`

	// rabbitmq configures the RabbitMQ that carries the events. Set at most one of managed, clusterRef and secretRef;
	// by default, the operator runs a RabbitMQ.
	// +default={}
	// +optional
	RabbitMQ RabbitMQSpec `json:"rabbitmq,omitzero"`

	// redis configures the Redis or Valkey that stores the visits and the ledger. Set at most one of managed and
	// secretRef; by default, the operator runs a Redis.
	// +default={}
	// +optional
	Redis RedisSpec `json:"redis,omitzero"`

	// summaryAPI configures the REST API that receives the summaries of finished visits. Set at most one of managed
	// and url; by default, the operator runs a summary API.
	// +default={}
	// +optional
	SummaryAPI SummaryAPISpec `json:"summaryAPI,omitzero"`

	// monitoring configures the objects for the Prometheus Operator and Grafana.
	// +default={}
	// +optional
	Monitoring MonitoringSpec `json:"monitoring,omitzero"`

	// faults are failures to inject while events are published, such as a crash of Redis. Status and report describe
	// their effects. An edit affects only future occurrences.
	// +kubebuilder:validation:MaxItems=20
	// +listType=map
	// +listMapKey=name
	// +optional
	Faults []Fault `json:"faults,omitempty"`

	// objectives are the conditions for the verdict PASS.
	// +default={}
	// +optional
	Objectives ObjectivesSpec `json:"objectives,omitzero"`

	// deletionPolicy is what happens to queues and keys on external servers when the simulation is deleted. Retain
	// keeps them until you run `parking purge`. Managed servers are always deleted.
	// +default="Delete"
	// +optional
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`

	// Undecodable is the JSON text of the spec if a value in it has the wrong type. Otherwise it is nil.
	// UnmarshalJSON sets it.
	Undecodable []byte `json:"-"`
}

// DeletionPolicy is what happens to queues and keys on external servers when a simulation is deleted.
// +kubebuilder:validation:Enum=Delete;Retain
type DeletionPolicy string

// The deletion policies.
const (
	DeletionPolicyDelete DeletionPolicy = "Delete"
	DeletionPolicyRetain DeletionPolicy = "Retain"
)

// Arrivals is an arrival process. It says how events are spaced in time at a given rate.
// +kubebuilder:validation:Enum=Uniform;Poisson
type Arrivals string

// The values of Arrivals say how events are distributed over time.
const (
	// ArrivalsUniform spaces events evenly.
	ArrivalsUniform Arrivals = "Uniform"
	// ArrivalsPoisson makes each event independent of the others, with exponentially distributed gaps.
	ArrivalsPoisson Arrivals = "Poisson"
)

// EntrySpec configures the entries that are published.
type EntrySpec struct {
	// rate is the number of entries per second that all replicas publish together; with stages, at the start of the
	// first stage. An edit takes effect within seconds, without a restart.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	// +default=200
	// +optional
	Rate *int32 `json:"rate,omitempty"`

	GeneratorSpec `json:",inline"`
}

// ExitSpec configures the exits that are published.
type ExitSpec struct {
	// rate is the number of exits per second, matched or not, that all replicas publish together; with stages, at the
	// start of the first stage. An edit takes effect within seconds, without a restart.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	// +default=180
	// +optional
	Rate *int32 `json:"rate,omitempty"`

	// matchPercent is the percentage of exits with the plate of a parked vehicle; the others have a plate that never
	// entered. If no parked vehicle is available, a matched exit is not published, and counts as starved.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	// +default=20
	// +optional
	MatchPercent *int32 `json:"matchPercent,omitempty"`

	// minStay is the minimum time between the entry and the exit of a vehicle, such as "2s" or "0s". It must be less
	// than plates.maxStay.
	// +default="2s"
	// +optional
	MinStay *Duration `json:"minStay,omitempty"`

	GeneratorSpec `json:",inline"`
}

// GeneratorSpec has the fields that entry and exit generators have in common.
type GeneratorSpec struct {
	// replicas is the number of generator pods that share the rate. One pod can publish about 10,000 events per second.
	// With 0 pods, no events are published.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=64
	// +default=1
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`

	// arrivals is how events are spaced in time. Uniform spaces them evenly; Poisson spaces them at random, like
	// independent vehicles. Both publish the same number of events.
	// +default="Uniform"
	// +optional
	Arrivals Arrivals `json:"arrivals,omitempty"`

	// stages change the rate linearly, one after the other, from the field "rate" at the start of the simulation.
	// After the last, its final rate stays in effect.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	// +listType=atomic
	// +optional
	Stages []Stage `json:"stages,omitempty"`

	// resources are the compute resources of the container of each generator. If they are omitted, the operator's
	// defaults apply.
	// +optional
	Resources *ResourceRequirements `json:"resources,omitempty"`

	// template is a patch for the pod template of the generators. An edit restarts the pods.
	// +optional
	Template *PodTemplate `json:"template,omitempty"`
}

// Stage is a linear change of a rate.
type Stage struct {
	// duration is the length of the stage, as a Go duration such as "5m". Use "1ms" to change the rate at once.
	// +kubebuilder:validation:XValidation:rule="self.matches('[1-9]')",message="must be above 0s"
	// +required
	Duration *Duration `json:"duration,omitempty"`

	// rate is the number of events per second at the end of the stage.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	// +required
	Rate *int32 `json:"rate,omitempty"`
}

// PlatesSpec configures how long the simulation remembers parked vehicles.
type PlatesSpec struct {
	// maxStay is how long the simulation remembers a vehicle that does not leave, such as "1h". Redis stores up to
	// entry.rate times maxStay (in seconds) visits, of some 330 bytes each. This number must be at most 87880000, the
	// number of possible plates.
	// +kubebuilder:validation:XValidation:rule="self.matches('[1-9]')",message="must be above 0s"
	// +default="1h"
	// +optional
	MaxStay *Duration `json:"maxStay,omitempty"`
}

// ProcessorSpec configures the pods that process the events.
type ProcessorSpec struct {
	// replicas is the number of processor pods, which `kubectl scale psim` or a HorizontalPodAutoscaler can change.
	// Each pod consumes all queues; with 0, the events stay queued.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	// +default=2
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`

	// concurrency is how many messages of each queue a pod processes at once: the prefetch count. A higher number
	// helps with a slow Redis or summary API, but needs memory.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +default=256
	// +optional
	Concurrency *int32 `json:"concurrency,omitempty"`

	// resources are the compute resources of the container of each processor. If they are omitted, the operator's
	// defaults apply.
	// +optional
	Resources *ResourceRequirements `json:"resources,omitempty"`

	// template is a patch for the pod template of the processors. An edit restarts the pods.
	// +optional
	Template *PodTemplate `json:"template,omitempty"`
}

// PodTemplate is a strategic merge patch for a pod template.
type PodTemplate struct {
	// metadata has labels and annotations to add to the pods.
	// +optional
	Metadata PodMetadata `json:"metadata,omitzero"`

	// spec is a strategic merge patch for the PodSpec that the operator generates, such as {"nodeSelector": {"disk":
	// "ssd"}} or {"containers": [{"name": "parking", "env": [...]}]}. Lists are merged by name; a container with a name
	// other than "parking" is added, and needs an image. Invalid fields make the simulation Stalled, as do fields that
	// give access to Secrets or rights beyond the restricted Pod Security Standard, unless the operator runs with
	// --allow-privileged-templates.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +optional
	Spec *runtime.RawExtension `json:"spec,omitempty"`
}

// PodMetadata has labels and annotations to add to pods.
type PodMetadata struct {
	// labels are added to the labels of the pods. A label that the operator itself sets keeps the operator's value.
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(key, !format.qualifiedName().validate(key).hasValue())",message="must have keys such as \"team\" or \"example.com/team\""
	// +optional
	Labels map[string]LabelValue `json:"labels,omitempty"`

	// annotations are added to the annotations of the pods. Their keys and values have at most 255 KiB in total.
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.map(key, size(key) + size(bytes(self[key]))).sum() <= 261120",message="must have at most 261120 bytes in total"
	// +kubebuilder:validation:XValidation:rule="self.all(key, !format.qualifiedName().validate(key.lowerAscii()).hasValue())",message="must have keys such as \"team\" or \"example.com/team\""
	// +optional
	Annotations map[string]AnnotationValue `json:"annotations,omitempty"`
}

// LabelValue is the value of a label.
//
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:XValidation:rule="!format.labelValue().validate(self).hasValue()",message="must be a valid label value: at most 63 letters, digits, dashes, underscores and dots"
type LabelValue string

// AnnotationValue is the value of an annotation of pods. Its length is limited, because the API server limits the cost
// of the CEL rule that adds up the lengths of all values.
//
// +kubebuilder:validation:MaxLength=261120
type AnnotationValue string

// RabbitMQSpec configures the RabbitMQ that carries the events.
//
// +kubebuilder:validation:XValidation:rule="[has(self.managed), has(self.clusterRef), has(self.secretRef)].filter(set, set).size() <= 1",message="at most one of managed, clusterRef and secretRef may be set: remove all but one"
// +kubebuilder:validation:XValidation:rule="has(self.clusterRef) == has(oldSelf.clusterRef) && has(self.secretRef) == has(oldSelf.secretRef)",message="cannot change between managed, clusterRef and secretRef, as queued events would be left behind: create another simulation"
// +kubebuilder:validation:XValidation:rule="has(self.secretRef) != has(oldSelf.secretRef) || has(self.clusterRef) != has(oldSelf.clusterRef) || (has(self.managed) ? self.managed.replicas : 1) == (has(oldSelf.managed) ? oldSelf.managed.replicas : 1)",message="is immutable, because queues keep the members that they were declared with: create another simulation",fieldPath=".managed.replicas"
// +kubebuilder:validation:XValidation:rule="has(self.secretRef) != has(oldSelf.secretRef) || has(self.clusterRef) != has(oldSelf.clusterRef) || (has(self.managed) && string(self.managed.storage.size).matches('^[0.]+([^0-9.]|$)')) == (has(oldSelf.managed) && string(oldSelf.managed.storage.size).matches('^[0.]+([^0-9.]|$)'))",message="cannot change from or to \"0\", because the data would be lost: restore the previous size, or create another simulation",fieldPath=".managed.storage.size"
// +kubebuilder:validation:XValidation:rule="has(self.secretRef) != has(oldSelf.secretRef) || has(self.clusterRef) != has(oldSelf.clusterRef) || (has(self.managed) && has(self.managed.storage.storageClassName) ? [self.managed.storage.storageClassName] : []) == (has(oldSelf.managed) && has(oldSelf.managed.storage.storageClassName) ? [oldSelf.managed.storage.storageClassName] : [])",message="is immutable, because the volume exists: create another simulation",fieldPath=".managed.storage.storageClassName"
// +kubebuilder:validation:XValidation:rule="!has(self.managed) || !has(oldSelf.managed) || self.managed.replicas == 1 || has(self.managed.tls) == has(oldSelf.managed.tls)",message="cannot be added or removed with several nodes, because a node with TLS cannot talk to one without: create another simulation",fieldPath=".managed.tls"
type RabbitMQSpec struct {
	// managed makes the operator run a RabbitMQ for this simulation only, with generated credentials. This is the
	// default. The RabbitMQ is deleted with the simulation.
	// +optional
	Managed *ManagedRabbitMQ `json:"managed,omitempty"`

	// clusterRef names a RabbitmqCluster of the RabbitMQ Cluster Operator. The simulation connects as the default
	// user of the cluster.
	// +optional
	ClusterRef *ClusterReference `json:"clusterRef,omitempty"`

	// secretRef names a Secret in the simulation's namespace with the keys of the Service Binding specification: uri,
	// or host, port, username and password. Optional keys are vhost, ca.crt (for TLS) and uris: the URIs of several
	// nodes, separated by commas. If the Secret changes, the operator uses the new values.
	// +optional
	SecretRef *SecretReference `json:"secretRef,omitempty"`

	// queueType is the type of the event queues. Quorum queues are replicated; Classic queues exist on one node only.
	// This field is immutable.
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="is immutable, because RabbitMQ cannot change a queue's type: create another simulation"
	// +default="Quorum"
	// +optional
	QueueType QueueType `json:"queueType,omitempty"`

	// partitions is the number of entry queues and of exit queues; several spread the load over a RabbitMQ cluster and
	// a Redis Cluster. It is immutable, because exits must find their entries in the same partition.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=64
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="is immutable, because parked vehicles would be looked up in another partition: create another simulation"
	// +default=1
	// +optional
	Partitions *int32 `json:"partitions,omitempty"`
}

// QueueType is the type of the queues in RabbitMQ.
// +kubebuilder:validation:Enum=Quorum;Classic
type QueueType string

// The types of the queues that a simulation declares in RabbitMQ.
const (
	QueueTypeQuorum  QueueType = "Quorum"
	QueueTypeClassic QueueType = "Classic"
)

// ManagedRabbitMQ is a RabbitMQ that the operator runs.
//
// +kubebuilder:validation:XValidation:rule="!has(self.image) || self.image.matches('^([a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?([.][a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)*(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?/)?[a-z0-9]+(([.]|__?|-+)[a-z0-9]+)*(/[a-z0-9]+(([.]|__?|-+)[a-z0-9]+)*)*(:[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?(@sha256:[0-9a-f]{64}|@sha512:[0-9a-f]{128})?$') && self.image.matches('^((localhost|[^/]*[.:A-Z][^/]*)/)?[^:@]{1,255}([:@][^/]*)?$') && !self.image.matches('^([0-9a-f]{64}$|((index[.])?docker[.]io/)?[^/:@]{248}[^/]*$)')",message="must be an image reference such as \"rabbitmq:4\" or \"registry.example.com/team/rabbitmq:4\", not an image ID; the repository must have at most 255 characters, including the \"library/\" that nodes prepend if a repository on Docker Hub has no '/'",fieldPath=".image"
type ManagedRabbitMQ struct {
	// image is a container image of RabbitMQ 3.10 or later with the management and prometheus plugins. If it is
	// omitted, the operator's default image is used.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Image string `json:"image,omitempty"`

	// replicas is the number of nodes: 1, 3 or 5. It is immutable, because RabbitMQ chooses the nodes of a queue when
	// the queue is declared.
	// +kubebuilder:validation:XValidation:rule="self in [1, 3, 5]",message="must be 1, 3 or 5, because quorum queues need a majority"
	// +default=1
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`

	// storage is the volume of each node.
	// +default={}
	// +optional
	Storage StorageSpec `json:"storage,omitzero"`

	// resources are the compute resources of the container of each node. If they are omitted, the operator's defaults
	// apply.
	// +optional
	Resources *ResourceRequirements `json:"resources,omitempty"`

	// tls encrypts the connections of clients and between nodes. With several nodes, it cannot be added or removed
	// later, because nodes with and without TLS cannot connect.
	// +optional
	TLS *TLSSpec `json:"tls,omitempty"`

	// template is a patch for the pod template of the nodes. The container is named "rabbitmq". An edit
	// restarts the nodes one after the other.
	// +optional
	Template *PodTemplate `json:"template,omitempty"`
}

// RedisSpec configures the Redis or Valkey that stores the visits and the ledger.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.managed) && has(self.secretRef))",message="at most one of managed and secretRef may be set: remove all but one"
// +kubebuilder:validation:XValidation:rule="has(self.secretRef) == has(oldSelf.secretRef)",message="cannot change between managed and secretRef, as visits and ledger would be left behind: create another simulation"
// +kubebuilder:validation:XValidation:rule="has(self.secretRef) != has(oldSelf.secretRef) || (has(self.managed) && string(self.managed.storage.size).matches('^[0.]+([^0-9.]|$)')) == (has(oldSelf.managed) && string(oldSelf.managed.storage.size).matches('^[0.]+([^0-9.]|$)'))",message="cannot change from or to \"0\", because the data would be lost: restore the previous size, or create another simulation",fieldPath=".managed.storage.size"
// +kubebuilder:validation:XValidation:rule="has(self.secretRef) != has(oldSelf.secretRef) || (has(self.managed) && has(self.managed.storage.storageClassName) ? [self.managed.storage.storageClassName] : []) == (has(oldSelf.managed) && has(oldSelf.managed.storage.storageClassName) ? [oldSelf.managed.storage.storageClassName] : [])",message="is immutable, because the volume exists: create another simulation",fieldPath=".managed.storage.storageClassName"
type RedisSpec struct {
	// managed makes the operator run a Redis for this simulation, which is the default. The Redis has an append-only
	// file and a generated password, and is deleted with the simulation.
	// +optional
	Managed *ManagedRedis `json:"managed,omitempty"`

	// secretRef names a Secret in the simulation's namespace with the keys of the Service Binding specification: uri,
	// or host, port, username and password. Optional keys are ca.crt (for TLS), uris (several nodes of a Redis Cluster,
	// separated by commas) and sentinel-master (the name of a primary, if the addresses are those of Redis Sentinels).
	// If the Secret changes, the operator uses the new values.
	// +optional
	SecretRef *SecretReference `json:"secretRef,omitempty"`

	// durability says when the effect of an event counts as durable; only then is its message acknowledged. Written:
	// the primary has written the effect to its append-only file, and all connected replicas have received it; a power
	// failure may lose one or two seconds. Synced: all have flushed it to disk, so that nothing is lost; this needs
	// Redis 7.2 or later, or Valkey, with append-only files on all servers. With appendfsync everysec, Synced
	// acknowledges after 1 to 4 seconds, and exits start 12 seconds later. An edit restarts generators and processors.
	// +default="Written"
	// +optional
	Durability Durability `json:"durability,omitempty"`
}

// Durability says when the effect of an event counts as durable.
// +kubebuilder:validation:Enum=Written;Synced
type Durability string

// The durabilities.
const (
	DurabilityWritten Durability = "Written"
	DurabilitySynced  Durability = "Synced"
)

// ManagedRedis is a Redis that the operator runs.
//
// +kubebuilder:validation:XValidation:rule="!has(self.image) || self.image.matches('^([a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?([.][a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)*(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?/)?[a-z0-9]+(([.]|__?|-+)[a-z0-9]+)*(/[a-z0-9]+(([.]|__?|-+)[a-z0-9]+)*)*(:[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?(@sha256:[0-9a-f]{64}|@sha512:[0-9a-f]{128})?$') && self.image.matches('^((localhost|[^/]*[.:A-Z][^/]*)/)?[^:@]{1,255}([:@][^/]*)?$') && !self.image.matches('^([0-9a-f]{64}$|((index[.])?docker[.]io/)?[^/:@]{248}[^/]*$)')",message="must be an image reference such as \"redis:8\" or \"registry.example.com/team/redis:8\", not an image ID; the repository must have at most 255 characters, including the \"library/\" that nodes prepend if a repository on Docker Hub has no '/'",fieldPath=".image"
type ManagedRedis struct {
	// image is the container image. It must contain Redis 7 or later, or Valkey. If it is omitted, the operator's
	// default image is used.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Image string `json:"image,omitempty"`

	// storage is the volume of the append-only file.
	// +default={}
	// +optional
	Storage StorageSpec `json:"storage,omitzero"`

	// resources are the compute resources of the container; if omitted, the operator's defaults apply. Memory must
	// suffice for all visits: up to entry.rate times plates.maxStay (in seconds), of some 330 bytes each.
	// +optional
	Resources *ResourceRequirements `json:"resources,omitempty"`

	// tls encrypts the connections of clients. Adding or removing it restarts the server, the generators and the
	// processors.
	// +optional
	TLS *TLSSpec `json:"tls,omitempty"`

	// template is a patch for the pod template of the server. The containers are named "redis" and "exporter". An
	// edit restarts the server.
	// +optional
	Template *PodTemplate `json:"template,omitempty"`
}

// SummaryAPISpec configures the REST API that receives the summaries of finished visits.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.managed) && has(self.url))",message="at most one of managed and url may be set: remove all but one"
// +kubebuilder:validation:XValidation:rule="!has(self.secretRef) || has(self.url)",message="secretRef is for an external API: set url, or remove secretRef"
// +kubebuilder:validation:XValidation:rule="!has(self.url) || !self.url.matches('^([A-Za-z]+:)?[^A-Za-z0-9?#]*[^/?#]*@')",message="must not hold a user name or password: put the credentials into a Secret, and name the Secret in secretRef",fieldPath=".url"
// +kubebuilder:validation:XValidation:rule="!has(self.url) || self.url.matches('^([A-Za-z]+:)?[^A-Za-z0-9?#]*[^/?#]*@') || isURL(self.url) && self.url.matches('^[hH][tT][tT][pP][sS]?://(([A-Za-z0-9_]([-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?[.])*[A-Za-z0-9_]([-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?[.]?|[[][0-9A-Fa-f.]*:[0-9A-Fa-f:.]*[]])(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?([/?]([-A-Za-z0-9._~:/?@!$&()*+,;=]|%[0-9A-Fa-f]{2})*)?$') && !self.url.matches('^[^/]*//[^/?:]{253}([^/?:.]|[.][^/?:])') && (!self.url.matches('^[^/]*//([^/?]*[.])?([0-9]+|0[xX][0-9A-Fa-f]*)[.]?(:[0-9]*)?([/?]|$)') || self.url.matches('^[^/]*//((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(:[0-9]*)?([/?]|$)'))",message="must be an absolute http or https URL such as \"https://example.com/v1/visits\", with a host, a port from 1 to 65535 and no fragment; the host must have at most 253 characters, and at most 63 between dots",fieldPath=".url"
// +kubebuilder:validation:XValidation:rule="has(self.url) || has(oldSelf.url) || (has(self.managed) && has(self.managed.database)) == (has(oldSelf.managed) && has(oldSelf.managed.database))",message="cannot change between a volume and a database, as stored summaries would be left behind: create another simulation"
// +kubebuilder:validation:XValidation:rule="has(self.url) || has(oldSelf.url) || (has(self.managed) && has(self.managed.database)) != (has(oldSelf.managed) && has(oldSelf.managed.database)) || (has(self.managed) && string(self.managed.storage.size).matches('^[0.]+([^0-9.]|$)')) == (has(oldSelf.managed) && string(oldSelf.managed.storage.size).matches('^[0.]+([^0-9.]|$)'))",message="cannot change from or to \"0\", because the data would be lost: restore the previous size, or create another simulation",fieldPath=".managed.storage.size"
// +kubebuilder:validation:XValidation:rule="has(self.url) || has(oldSelf.url) || (has(self.managed) && has(self.managed.database)) != (has(oldSelf.managed) && has(oldSelf.managed.database)) || (has(self.managed) && has(self.managed.storage.storageClassName) ? [self.managed.storage.storageClassName] : []) == (has(oldSelf.managed) && has(oldSelf.managed.storage.storageClassName) ? [oldSelf.managed.storage.storageClassName] : [])",message="is immutable, because the volume exists: create another simulation",fieldPath=".managed.storage.storageClassName"
type SummaryAPISpec struct {
	// managed makes the operator run a summary API, which is the default. It stores summaries in your PostgreSQL
	// database, or in SQLite on a volume that is deleted with the simulation.
	// +optional
	Managed *ManagedSummaryAPI `json:"managed,omitempty"`

	// url is the URL of an external REST API, such as "https://example.com/v1/visits", without credentials. Each
	// summary is a POST request with a JSON body and the exit event's id as Idempotency-Key. Status 2xx, or 409
	// without Retry-After, means that the summary is stored. Status 413 or 422 dead-letters the event, as does 400 if
	// the API has accepted a summary from the same processor before. After any other result, the request is repeated.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +optional
	URL string `json:"url,omitempty"`

	// secretRef names a Secret in the simulation's namespace with the credentials for url: a bearer token under
	// "token", or "username" and "password". The optional key "ca.crt" replaces the CA certificates of the system.
	// +optional
	SecretRef *SecretReference `json:"secretRef,omitempty"`
}

// ManagedSummaryAPI is a summary API that the operator runs.
//
// +kubebuilder:validation:XValidation:rule="self.replicas == 1 || has(self.database)",message="several replicas need a database that they share: set database.secretRef, or set replicas to 1",fieldPath=".replicas"
// +kubebuilder:validation:XValidation:rule="!has(self.database) || string(self.storage.size) == '2Gi' && !has(self.storage.storageClassName)",message="cannot be set together with the field database, because the summaries are stored in PostgreSQL, not on a volume: remove storage, or remove database",fieldPath=".storage"
type ManagedSummaryAPI struct {
	// replicas is the number of pods, from 1 to 16. More than one requires database, keeps the API available during
	// failures, and opens more database connections.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=16
	// +default=1
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`

	// database is the PostgreSQL database for the summaries, instead of SQLite on a volume. It cannot be added or
	// removed later, because the verdict would count stored summaries as missing.
	// +optional
	Database *SummaryDatabase `json:"database,omitempty"`

	// storage is the volume of the SQLite database, which grows by some 130 bytes per matched exit. It cannot be
	// combined with the field database.
	// +default={}
	// +optional
	Storage StorageSpec `json:"storage,omitzero"`

	// resources are the compute resources of the container. If they are omitted, the operator's defaults apply.
	// +optional
	Resources *ResourceRequirements `json:"resources,omitempty"`

	// tls encrypts the requests to the summary API, and those for its metrics. Adding or removing it restarts the summary
	// API and the processors.
	// +optional
	TLS *TLSSpec `json:"tls,omitempty"`

	// template is a patch for the pod template of the summary API. An edit restarts the pods.
	// +optional
	Template *PodTemplate `json:"template,omitempty"`
}

// SummaryDatabase is the PostgreSQL database in which a managed summary API stores the summaries.
type SummaryDatabase struct {
	// secretRef names a Secret in the simulation's namespace with the keys of the Service Binding specification: uri,
	// or host, port, database, username and password. The -app Secret of CloudNativePG works, too. Optional keys are
	// ca.crt for TLS, and tls.crt and tls.key for a client certificate. Running pods use a changed Secret. The
	// summaries outlive the simulation. Do not select another database later, because the verdict would count the
	// stored summaries as missing.
	// +required
	SecretRef SecretReference `json:"secretRef,omitzero"`
}

// TLSSpec enables TLS for a managed server, or for the generators and processors. They then accept only TLS
// connections, on the same ports.
//
// +kubebuilder:validation:XValidation:rule="!has(self.secretName) || !format.dns1123Subdomain().validate(self.secretName).hasValue()",message="must be the name of a Secret, without its namespace: at most 253 characters of a-z, 0-9, '-' and '.', such as \"my-secret\"",fieldPath=".secretName"
type TLSSpec struct {
	// secretName names a Secret in the simulation's namespace with the keys tls.crt, tls.key and ca.crt (the CA
	// certificates that clients trust). The certificate must be valid for the host name of the server's Service, and
	// an annotation of the Secret must permit its use. A changed Secret takes effect without a restart. If secretName
	// is omitted, the operator creates and renews the certificate.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	SecretName string `json:"secretName,omitempty"`
}

// StorageSpec is the volume of a managed server.
//
// +kubebuilder:validation:XValidation:rule="!has(self.storageClassName) || !format.dns1123Subdomain().validate(self.storageClassName).hasValue()",message="must be the name of a StorageClass: at most 253 characters of a-z, 0-9, '-' and '.', such as \"standard\"",fieldPath=".storageClassName"
type StorageSpec struct {
	// size is the size of the volume, such as 2Gi. It can be increased without a restart if the storage class allows
	// that; a smaller size has no effect. With "0", the data is lost with the pod; for Redis, this includes the
	// ledger. The size cannot be changed from or to "0".
	// +kubebuilder:validation:XValidation:rule="!string(self).matches('^[0-9]{1,15}([.][0-9]{1,9})?([numkMGTPE]|[KMGTPE]i|[eE][0-9]{1,2})?$') || string(self).matches('^[0-9]{1,15}(([.][0-9]{1,3})?([kMGTPE]|[KMGTPE]i)|[eE][0-9]{1,2})?$')",message="must be a quantity of bytes such as \"2Gi\", or \"0\" for ephemeral storage"
	// +default="2Gi"
	// +optional
	Size *Quantity `json:"size,omitempty"`

	// storageClassName is the storage class of the volume. If it is omitted, the default class of the cluster is
	// used. It is immutable.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	StorageClassName string `json:"storageClassName,omitempty"`
}

// SecretReference names a Secret in the simulation's namespace.
//
// +kubebuilder:validation:XValidation:rule="!has(self.name) || !format.dns1123Subdomain().validate(self.name).hasValue()",message="must be the name of a Secret, without its namespace: at most 253 characters of a-z, 0-9, '-' and '.', such as \"my-secret\"",fieldPath=".name"
type SecretReference struct {
	// name is the name of the Secret. The Secret need not exist yet: the simulation waits for it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name,omitempty"`
}

// ClusterReference names a RabbitmqCluster.
//
// +kubebuilder:validation:XValidation:rule="!has(self.name) || !format.dns1123Subdomain().validate(self.name).hasValue()",message="must be the name of a RabbitmqCluster, without its namespace: at most 253 characters of a-z, 0-9, '-' and '.', such as \"my-cluster\"",fieldPath=".name"
type ClusterReference struct {
	// name is the name of the RabbitmqCluster. The RabbitmqCluster need not exist yet: the simulation waits for it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name,omitempty"`

	// namespace is the namespace of the RabbitmqCluster. It defaults to the simulation's namespace.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Label().validate(self).hasValue()",message="must be the name of a namespace: at most 63 characters of a-z, 0-9 and '-', such as \"my-namespace\""
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// MonitoringSpec configures the objects for the Prometheus Operator and Grafana.
type MonitoringSpec struct {
	// serviceMonitors says whether to create ServiceMonitors. With Auto, the operator creates one for each component
	// as soon as the ServiceMonitor CRD is installed. With Disabled, it creates none.
	// +default="Auto"
	// +optional
	ServiceMonitors MonitoringMode `json:"serviceMonitors,omitempty"`

	// interval is the scrape interval of the components, as a Go duration such as "15s", from 1s to 1h.
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]{1,5}h|[0-9]{1,6}m|[0-9]{1,9}[nuµμm]?s|[0-9]{0,5}[.]([0-9]{1,9}[hms]|[0-9]{1,6}ms|[0-9]{1,3}[uµμ]s))+$') || duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="must be from 1s to 1h"
	// +default="15s"
	// +optional
	Interval *Duration `json:"interval,omitempty"`

	// labels are added to ServiceMonitors and PrometheusRules. Use them if your Prometheus selects these objects by
	// label, for example {"release": "prometheus"}.
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(key, !format.qualifiedName().validate(key).hasValue())",message="must have keys such as \"team\" or \"example.com/team\""
	// +optional
	Labels map[string]LabelValue `json:"labels,omitempty"`

	// rules says whether to create a PrometheusRule with recording rules and alerts: with Auto, once the
	// PrometheusRule CRD is installed; with Disabled, never.
	// +default="Auto"
	// +optional
	Rules MonitoringMode `json:"rules,omitempty"`

	// dashboards says whether to create a ConfigMap with a Grafana dashboard, labelled for Grafana's sidecar: with
	// Auto, if the Prometheus Operator is installed; with Disabled, never.
	// +default="Auto"
	// +optional
	Dashboards MonitoringMode `json:"dashboards,omitempty"`

	// tls makes generators and processors serve metrics only over TLS; adding or removing it restarts them. A
	// certificate in secretName must be valid for the Services NAME-entry, NAME-exit and NAME-processor. Managed
	// servers have their own field tls.
	// +optional
	TLS *TLSSpec `json:"tls,omitempty"`
}

// MonitoringMode says whether the operator creates monitoring objects of one kind.
// +kubebuilder:validation:Enum=Auto;Disabled
type MonitoringMode string

// The monitoring modes.
const (
	MonitoringAuto     MonitoringMode = "Auto"
	MonitoringDisabled MonitoringMode = "Disabled"
)

// ObjectivesSpec are the conditions for the verdict PASS. An objective is not met if there is no measurement for it.
type ObjectivesSpec struct {
	// The embedded objectives apply to the whole run.
	PhaseObjectivesSpec `json:",inline"`

	// withoutFaults are objectives for the time in which no fault affects the simulation.
	// +optional
	WithoutFaults PhaseObjectivesSpec `json:"withoutFaults,omitzero"`

	// underFaults are objectives for the time in which faults affect the simulation: from the injection of each fault
	// until the simulation has recovered from it.
	// +optional
	UnderFaults PhaseObjectivesSpec `json:"underFaults,omitzero"`

	// maxRecovery is the maximum time to recover from a fault, such as "30s"; if omitted, recovery may take any time.
	// The time starts when a Pause or Isolate ends, or a Kill, Restart or Evict is injected. It ends once latency and
	// backlog are as before the fault and remain so for 5 s.
	// +kubebuilder:validation:XValidation:rule="self.matches('[1-9]')",message="must be above 0s"
	// +optional
	MaxRecovery *Duration `json:"maxRecovery,omitempty"`

	// maxLost is the maximum number of events that may be lost: confirmed events that have not taken effect at the end.
	// +kubebuilder:validation:Minimum=0
	// +default=0
	// +optional
	MaxLost *int64 `json:"maxLost,omitempty"`

	// maxUnexpected is the maximum number of exits that may find no visit although their plate entered.
	// +kubebuilder:validation:Minimum=0
	// +default=0
	// +optional
	MaxUnexpected *int64 `json:"maxUnexpected,omitempty"`

	// abortOnFailure ends the simulation early once the verdict can only be FAIL, for example because an event was
	// dead-lettered or a fault could not be injected.
	// +optional
	AbortOnFailure bool `json:"abortOnFailure,omitempty"`
}

// PhaseObjectivesSpec are objectives for the whole run or for a part of it. Omitted objectives do not apply.
type PhaseObjectivesSpec struct {
	// processingP99 is the maximum permitted 99th percentile of the time that it takes to process an event, as a Go
	// duration such as "5ms".
	// +kubebuilder:validation:XValidation:rule="self.matches('[1-9]')",message="must be above 0s"
	// +optional
	ProcessingP99 *Duration `json:"processingP99,omitempty"`

	// endToEndP99 is the maximum permitted 99th percentile of the time from when an event is due until it takes effect,
	// as a Go duration such as "1s".
	// +kubebuilder:validation:XValidation:rule="self.matches('[1-9]')",message="must be above 0s"
	// +optional
	EndToEndP99 *Duration `json:"endToEndP99,omitempty"`

	// maxLag is the maximum time that a generator may be behind its schedule, such as "5s". Lag includes time in which
	// events are due but no generator runs, or a generator waits because 1024 events of a queue are unconfirmed. Late
	// confirmations of events that were published on time add no lag.
	// +kubebuilder:validation:XValidation:rule="self.matches('[1-9]')",message="must be above 0s"
	// +optional
	MaxLag *Duration `json:"maxLag,omitempty"`

	// minAchievedPercent is the minimum percentage of due events that must be published, for entries and exits
	// separately. Exits without an available plate, and events due while no generator runs, are not published. An
	// event is published once the generator's RabbitMQ client accepts it: up to 1024 unconfirmed events per queue.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	MinAchievedPercent *int32 `json:"minAchievedPercent,omitempty"`
}
