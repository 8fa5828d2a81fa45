package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// ParkingSimulation is an event-driven parking simulation that runs on RabbitMQ and Redis, and accounts
// for every event. Generators publish cars that enter and leave a car park. Processors match each exit with its
// entry and post a summary of the visit to a REST API. The ledger shows whether any event was lost or counted twice.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=psim,categories=parking,scope=Namespaced
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.processor.replicas,statuspath=.status.replicas,selectorpath=.status.selector
// +kubebuilder:printcolumn:name="Entry/s",type=integer,JSONPath=`.status.targetRates.entry`,description="Entries per second that the schedule calls for at present"
// +kubebuilder:printcolumn:name="Exit/s",type=integer,JSONPath=`.status.targetRates.exit`,description="Exits per second that the schedule calls for at present"
// +kubebuilder:printcolumn:name="Match%",type=integer,JSONPath=`.spec.exit.matchPercent`,description="Percentage of exits that are drawn to leave with a plate that entered"
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

	// metadata is the standard object metadata. The name has at most 40 characters of a-z, 0-9 and '-' and
	// starts with a letter: Services and pods are named after it.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the desired simulation. Every field is optional: an empty spec runs 200 entries and 180 exits per
	// second through a RabbitMQ, a Redis and a summary API that the operator creates.
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
// +kubebuilder:validation:XValidation:rule="!has(self.exit) || !has(self.exit.minStay) || !has(self.plates) || !has(self.plates.maxStay) || !self.exit.minStay.matches('^([0-9]{1,5}h|[0-9]{1,6}m|[0-9]{1,9}[nuµμm]?s|[0-9]{0,5}[.]([0-9]{1,9}[hms]|[0-9]{1,6}ms|[0-9]{1,3}[uµμ]s))+$') || !self.plates.maxStay.matches('^([0-9]{1,5}h|[0-9]{1,6}m|[0-9]{1,9}[nuµμm]?s|[0-9]{0,5}[.]([0-9]{1,9}[hms]|[0-9]{1,6}ms|[0-9]{1,3}[uµμ]s))+$') || duration(self.exit.minStay) < duration(self.plates.maxStay)",message="exit.minStay must be less than plates.maxStay, or every car is forgotten before it may leave: lower exit.minStay or raise plates.maxStay",fieldPath=".exit.minStay"
// +kubebuilder:validation:XValidation:rule="!has(self.entry) || !has(self.entry.rate) || !has(self.plates) || !has(self.plates.maxStay) || !self.plates.maxStay.matches('^([0-9]{1,5}h|[0-9]{1,6}m|[0-9]{1,9}[nuµμm]?s|[0-9]{0,5}[.]([0-9]{1,9}[hms]|[0-9]{1,6}ms|[0-9]{1,3}[uµμ]s))+$') || self.entry.rate * duration(self.plates.maxStay).getSeconds() <= 87880000",message="entry.rate times plates.maxStay in seconds must not exceed 87880000, the number of plates: lower entry.rate or plates.maxStay",fieldPath=".entry.rate"
// +kubebuilder:validation:XValidation:rule="!has(self.entry) || !has(self.entry.stages) || !has(self.plates) || !has(self.plates.maxStay) || !self.plates.maxStay.matches('^([0-9]{1,5}h|[0-9]{1,6}m|[0-9]{1,9}[nuµμm]?s|[0-9]{0,5}[.]([0-9]{1,9}[hms]|[0-9]{1,6}ms|[0-9]{1,3}[uµμ]s))+$') || self.entry.stages.all(stage, stage.rate * duration(self.plates.maxStay).getSeconds() <= 87880000)",message="the rate of each of entry.stages times plates.maxStay in seconds must not exceed 87880000, the number of plates: lower the rate or plates.maxStay",fieldPath=".entry.stages"
// +kubebuilder:validation:XValidation:rule="!has(self.faults) || !has(self.duration) || !self.duration.matches('^([0-9]{1,5}h|[0-9]{1,6}m|[0-9]{1,9}[nuµμm]?s|[0-9]{0,5}[.]([0-9]{1,9}[hms]|[0-9]{1,6}ms|[0-9]{1,3}[uµμ]s))+$') || self.faults.all(fault, ![fault.at, has(fault.__for__) ? fault.__for__ : '0s', has(fault.jitter) ? fault.jitter : '0s'].all(d, d.matches('^([0-9]{1,5}h|[0-9]{1,6}m|[0-9]{1,9}[nuµμm]?s|[0-9]{0,5}[.]([0-9]{1,9}[hms]|[0-9]{1,6}ms|[0-9]{1,3}[uµμ]s))+$')) || duration(fault.at) + duration(has(fault.__for__) ? fault.__for__ : '0s') + duration(has(fault.jitter) ? fault.jitter : '0s') < duration(self.duration))",message="at, for and jitter of each fault must together be less than duration, or the simulation ends before the fault does: raise duration or lower at",fieldPath=".faults"
// +kubebuilder:validation:XValidation:rule="!has(self.faults) || !has(self.rabbitmq) || !has(self.rabbitmq.clusterRef) && !has(self.rabbitmq.secretRef) || self.faults.all(fault, !(fault.target in ['RabbitMQ', 'RabbitMQLeader']))",message="a fault on a server that is not ours is refused: remove the faults of RabbitMQ, or remove rabbitmq.clusterRef and rabbitmq.secretRef to run a managed RabbitMQ",fieldPath=".faults"
// +kubebuilder:validation:XValidation:rule="!has(self.faults) || !has(self.redis) || !has(self.redis.secretRef) || self.faults.all(fault, fault.target != 'Redis')",message="a fault on a server that is not ours is refused: remove the faults of Redis, or remove redis.secretRef to run a managed Redis",fieldPath=".faults"
// +kubebuilder:validation:XValidation:rule="!has(self.faults) || !has(self.summaryAPI) || !has(self.summaryAPI.url) || self.faults.all(fault, fault.target != 'SummaryAPI')",message="a fault on a server that is not ours is refused: remove the faults of SummaryAPI, or remove summaryAPI.url to run a managed summary API",fieldPath=".faults"
// +kubebuilder:validation:XValidation:rule="!has(self.faults) || !has(self.rabbitmq) || !has(self.rabbitmq.queueType) || self.rabbitmq.queueType != 'Classic' || self.faults.all(fault, fault.target != 'RabbitMQLeader')",message="the target RabbitMQLeader requires quorum queues, because classic queues have no leader: set the target to RabbitMQ, or rabbitmq.queueType to Quorum",fieldPath=".faults"
type ParkingSimulationSpec struct {
	// suspend stops the generators at once if it is true. The processors finish the queued events and keep running;
	// queues, keys and summaries are kept. Set it to false to resume. The time in between counts towards duration.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// duration is how long events are published, as a Go duration such as "90s", "30m" or "1h30m", at most 8760h.
	// Then the queues drain, the verdict is written to the status, and the simulation is Complete. Without a
	// duration the simulation runs until it is deleted.
	// +kubebuilder:validation:XValidation:rule="self.matches('[1-9]')",message="must be above 0s"
	// +optional
	Duration *Duration `json:"duration,omitempty"`

	// drainTimeout is how long the simulation may take to come to rest after its duration, as a Go duration such as "5m".
	// Once that time has passed, the verdict is FAIL and says what is left.
	// +kubebuilder:validation:XValidation:rule="self.matches('[1-9]')",message="must be above 0s"
	// +default="5m"
	// +optional
	DrainTimeout *Duration `json:"drainTimeout,omitempty"`

	// seed determines the order of the plates, and which exits match an entry. Two runs with the same seed and spec
	// publish the same events. It is immutable, because parked plates could be drawn again.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="is immutable, because parked plates could be drawn again: create another simulation for another seed"
	// +default=1
	// +optional
	Seed *int64 `json:"seed,omitempty"`

	// entry configures the entries.
	// +default={}
	// +optional
	Entry EntrySpec `json:"entry,omitzero"`

	// exit configures the exits.
	// +default={}
	// +optional
	Exit ExitSpec `json:"exit,omitzero"`

	// plates configures how long parked cars are remembered.
	// +default={}
	// +optional
	Plates PlatesSpec `json:"plates,omitzero"`

	// processor configures the pods that process the events.
	// +default={}
	// +optional
	Processor ProcessorSpec `json:"processor,omitzero"`

	// rabbitmq configures the RabbitMQ that carries the events. At most one of managed, clusterRef and
	// secretRef may be set; without any, a RabbitMQ is managed with its defaults.
	// +default={}
	// +optional
	RabbitMQ RabbitMQSpec `json:"rabbitmq,omitzero"`

	// redis configures the Redis or Valkey that stores visits and ledger. At most one of managed and secretRef may be
	// set; without any, a Redis is managed with its defaults.
	// +default={}
	// +optional
	Redis RedisSpec `json:"redis,omitzero"`

	// summaryAPI configures the REST API that receives the summaries of finished visits. At most one of managed and
	// url may be set; without any, the API that comes with the operator is run with its defaults.
	// +default={}
	// +optional
	SummaryAPI SummaryAPISpec `json:"summaryAPI,omitzero"`

	// monitoring configures the objects for the Prometheus Operator and for Grafana.
	// +default={}
	// +optional
	Monitoring MonitoringSpec `json:"monitoring,omitzero"`

	// faults are failures that are injected while events are published, such as a crash of Redis. The verdict says
	// for each one whether it was injected, and when the simulation had recovered. An edit applies to occurrences that
	// are still to come.
	// +kubebuilder:validation:MaxItems=20
	// +listType=map
	// +listMapKey=name
	// +optional
	Faults []Fault `json:"faults,omitempty"`

	// objectives are the conditions for the verdict PASS.
	// +default={}
	// +optional
	Objectives ObjectivesSpec `json:"objectives,omitzero"`

	// deletionPolicy is what happens to the queues and keys of the simulation on an external RabbitMQ or Redis when
	// the simulation is deleted. Delete deletes them. Retain keeps them for inspection; delete them yourself with
	// `parking purge`. Managed servers are always deleted.
	// +default="Delete"
	// +optional
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`

	// Undecodable is the JSON text of a spec in which a value has the wrong type. It is nil for all other specs.
	// UnmarshalJSON sets it.
	Undecodable []byte `json:"-"`
}

// DeletionPolicy is what happens to the queues and keys on external servers when a simulation is deleted.
//
// +kubebuilder:validation:Enum=Delete;Retain
type DeletionPolicy string

// The deletion policies.
const (
	DeletionPolicyDelete DeletionPolicy = "Delete"
	DeletionPolicyRetain DeletionPolicy = "Retain"
)

// Arrivals is an arrival process.
//
// +kubebuilder:validation:Enum=Uniform;Poisson
type Arrivals string

// The arrival processes.
const (
	// ArrivalsUniform spaces events evenly.
	ArrivalsUniform Arrivals = "Uniform"
	// ArrivalsPoisson makes each event independent of the others, with exponentially distributed gaps.
	ArrivalsPoisson Arrivals = "Poisson"
)

// EntrySpec configures the entries.
type EntrySpec struct {
	// rate is the number of entries per second, over all replicas together. Running generators apply an edit within
	// seconds, without a restart. 0 publishes no entries. With stages, rate is where the first stage starts.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	// +default=200
	// +optional
	Rate *int32 `json:"rate,omitempty"`

	GeneratorSpec `json:",inline"`
}

// ExitSpec configures the exits.
type ExitSpec struct {
	// rate is the number of exits per second, matched and unmatched, over all replicas together. Running generators
	// apply an edit within seconds, without a restart. 0 publishes no exits. With stages, rate is where the first
	// stage starts.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	// +default=180
	// +optional
	Rate *int32 `json:"rate,omitempty"`

	// matchPercent is the percentage of exits, a whole number from 0 to 100, that have a plate that
	// entered. The others have a plate that never entered, which the processor must detect. If there are more
	// matched exits than entries, the shortfall is counted as starved.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	// +default=20
	// +optional
	MatchPercent *int32 `json:"matchPercent,omitempty"`

	// minStay is the shortest time between the entry and the exit of a car, as a Go duration such as "2s". It must be
	// less than plates.maxStay. "0s" lets a car leave at once.
	// +default="2s"
	// +optional
	MinStay *Duration `json:"minStay,omitempty"`

	GeneratorSpec `json:",inline"`
}

// GeneratorSpec are the fields that entry and exit generators have in common.
type GeneratorSpec struct {
	// replicas is the number of generator pods that share the rate; 1 is
	// enough for some ten thousand events per second. 0 publishes nothing.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=64
	// +default=1
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`

	// arrivals is how events are spaced: Uniform evenly, Poisson at random as independent cars would be.
	// Either way the number of events follows the rate.
	// +default="Uniform"
	// +optional
	Arrivals Arrivals `json:"arrivals,omitempty"`

	// stages ramp the rate linearly, one after the other, starting from rate when the simulation starts;
	// the last stage's rate then holds. At most 100.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	// +listType=atomic
	// +optional
	Stages []Stage `json:"stages,omitempty"`

	// resources are the compute resources of each generator's container. Without them the operator's
	// defaults apply.
	// +optional
	Resources *ResourceRequirements `json:"resources,omitempty"`

	// template is merged into the operator's template of the generator pods. An edit restarts the pods.
	// +optional
	Template *PodTemplate `json:"template,omitempty"`
}

// Stage is a linear ramp of a rate.
type Stage struct {
	// duration is how long the ramp takes, as a Go duration such as "5m". Use "1ms" for a jump.
	// +kubebuilder:validation:XValidation:rule="self.matches('[1-9]')",message="must be above 0s"
	// +required
	Duration *Duration `json:"duration,omitempty"`

	// rate is the number of events per second at the end of the stage.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	// +required
	Rate *int32 `json:"rate,omitempty"`
}

// PlatesSpec configures how long parked cars are remembered.
type PlatesSpec struct {
	// maxStay is how long a car that does not leave is remembered, as a Go duration such as "1h". Redis holds up to
	// entry.rate times maxStay visits of some 150 bytes each. Their number must not exceed 87880000, the number of
	// plates.
	// +kubebuilder:validation:XValidation:rule="self.matches('[1-9]')",message="must be above 0s"
	// +default="1h"
	// +optional
	MaxStay *Duration `json:"maxStay,omitempty"`
}

// ProcessorSpec configures the pods that process the events.
type ProcessorSpec struct {
	// replicas is the number of processor pods. All of them consume all queues. It is what
	// `kubectl scale psim` and a HorizontalPodAutoscaler set. 0 leaves the events in their queues.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	// +default=2
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`

	// concurrency is the number of messages that each pod has in progress at a time, per queue: its
	// prefetch count. A higher number compensates for a slow Redis or summary API, and takes more memory.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +default=256
	// +optional
	Concurrency *int32 `json:"concurrency,omitempty"`

	// resources are the compute resources of each processor's container. Without them the operator's
	// defaults apply.
	// +optional
	Resources *ResourceRequirements `json:"resources,omitempty"`

	// template is merged into the operator's template of the processor pods. An edit restarts the pods.
	// +optional
	Template *PodTemplate `json:"template,omitempty"`
}

// PodTemplate is a strategic merge patch for a pod template.
type PodTemplate struct {
	// metadata adds labels and annotations to the pods.
	// +optional
	Metadata PodMetadata `json:"metadata,omitzero"`

	// spec is a strategic merge patch for the PodSpec of the operator: lists such as containers are merged by name.
	// The operator's container is named "parking". A container with another name is added, and needs an image. For example
	// {"nodeSelector": {"disk": "ssd"}}, or {"containers": [{"name": "parking", "env": [...]}]}.
	// An unknown field or an invalid value makes the simulation Stalled, with a message that names the field. So does a
	// field that gives the pods more rights than the restricted Pod Security Standard allows, or access to Secrets,
	// unless the operator runs with --allow-privileged-templates.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +optional
	Spec *runtime.RawExtension `json:"spec,omitempty"`
}

// PodMetadata is metadata to add to pods.
type PodMetadata struct {
	// labels are added to the labels of the pods. The operator's own labels cannot be changed.
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(key, !format.qualifiedName().validate(key).hasValue())",message="must have keys such as \"team\" or \"example.com/team\""
	// +optional
	Labels map[string]LabelValue `json:"labels,omitempty"`

	// annotations are added to the annotations of the pods.
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(key, !format.qualifiedName().validate(key.lowerAscii()).hasValue())",message="must have keys such as \"team\" or \"example.com/team\""
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}

// LabelValue is the value of a label.
//
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:XValidation:rule="!format.labelValue().validate(self).hasValue()",message="must be a label's value: at most 63 letters, digits, dashes, underscores and dots"
type LabelValue string

// RabbitMQSpec configures the RabbitMQ that carries the events.
//
// +kubebuilder:validation:XValidation:rule="[has(self.managed), has(self.clusterRef), has(self.secretRef)].filter(set, set).size() <= 1",message="at most one of managed, clusterRef and secretRef may be set: remove the others"
// +kubebuilder:validation:XValidation:rule="has(self.clusterRef) == has(oldSelf.clusterRef) && has(self.secretRef) == has(oldSelf.secretRef)",message="cannot change between managed, clusterRef and secretRef, as queued events would be left behind: create another simulation"
// +kubebuilder:validation:XValidation:rule="has(self.secretRef) != has(oldSelf.secretRef) || has(self.clusterRef) != has(oldSelf.clusterRef) || (has(self.managed) ? self.managed.replicas : 1) == (has(oldSelf.managed) ? oldSelf.managed.replicas : 1)",message="is immutable, because queues keep the members that they were declared with: create another simulation",fieldPath=".managed.replicas"
// +kubebuilder:validation:XValidation:rule="has(self.secretRef) != has(oldSelf.secretRef) || has(self.clusterRef) != has(oldSelf.clusterRef) || (has(self.managed) ? string(self.managed.storage.size) : '2Gi') == (has(oldSelf.managed) ? string(oldSelf.managed.storage.size) : '2Gi')",message="is immutable, because the volume exists: create another simulation",fieldPath=".managed.storage.size"
// +kubebuilder:validation:XValidation:rule="has(self.secretRef) != has(oldSelf.secretRef) || has(self.clusterRef) != has(oldSelf.clusterRef) || (has(self.managed) && has(self.managed.storage.storageClassName) ? [self.managed.storage.storageClassName] : []) == (has(oldSelf.managed) && has(oldSelf.managed.storage.storageClassName) ? [oldSelf.managed.storage.storageClassName] : [])",message="is immutable, because the volume exists: create another simulation",fieldPath=".managed.storage.storageClassName"
type RabbitMQSpec struct {
	// managed runs a RabbitMQ for this simulation only, with generated credentials. It is deleted with the
	// simulation. This is the default.
	// +optional
	Managed *ManagedRabbitMQ `json:"managed,omitempty"`

	// clusterRef names a RabbitmqCluster of the RabbitMQ Cluster Operator; its default user is used.
	// +optional
	ClusterRef *ClusterReference `json:"clusterRef,omitempty"`

	// secretRef names a Secret in the simulation's namespace that holds the address and credentials of a RabbitMQ. Its
	// keys are those of the Service Binding specification: uri, or host, port, username and password. vhost, and ca.crt
	// for TLS, are optional. The operator applies changes of the Secret.
	// +optional
	SecretRef *SecretReference `json:"secretRef,omitempty"`

	// queueType is the type of the event queues: Quorum queues are replicated and safe, Classic queues live
	// on one node. It cannot be changed.
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="is immutable, because RabbitMQ cannot change a queue's type: create another simulation"
	// +default="Quorum"
	// +optional
	QueueType QueueType `json:"queueType,omitempty"`

	// partitions is the number of entry queues, and of exit queues, from 1 to 64. Both events of a plate go
	// to the same partition. More than one spreads load over a RabbitMQ cluster's nodes and over the slots
	// of a Redis Cluster. It is immutable, because parked cars would be
	// looked up in another partition.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=64
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="is immutable, because parked cars would be looked up in another partition: create another simulation"
	// +default=1
	// +optional
	Partitions *int32 `json:"partitions,omitempty"`
}

// QueueType is a type of RabbitMQ queue.
//
// +kubebuilder:validation:Enum=Quorum;Classic
type QueueType string

// The queue types.
const (
	QueueTypeQuorum  QueueType = "Quorum"
	QueueTypeClassic QueueType = "Classic"
)

// ManagedRabbitMQ is a RabbitMQ that the operator runs.
//
// +kubebuilder:validation:XValidation:rule="!has(self.image) || self.image.matches('^([a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?([.][a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)*(:[0-9]{1,5})?/)?[a-z0-9]+(([.]|__?|-+)[a-z0-9]+)*(/[a-z0-9]+(([.]|__?|-+)[a-z0-9]+)*)*(:[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?(@sha256:[0-9a-f]{64}|@sha512:[0-9a-f]{128})?$')",message="must be an image reference such as \"redis:8\" or \"registry.example.com/team/redis:8\"",fieldPath=".image"
type ManagedRabbitMQ struct {
	// image is the container image, RabbitMQ 3.10 or later with the management and prometheus plugins.
	// Without it the operator's default image is used.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Image string `json:"image,omitempty"`

	// replicas is the number of nodes, 1, 3 or 5: quorum queues need a majority of them. It cannot be
	// changed, because queues keep the members that they were declared with.
	// +kubebuilder:validation:XValidation:rule="self in [1, 3, 5]",message="must be 1, 3 or 5, as quorum queues need a majority"
	// +default=1
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`

	// storage is the volume of each node.
	// +default={}
	// +optional
	Storage StorageSpec `json:"storage,omitzero"`

	// resources are the compute resources of each node's container. Without them the operator's defaults
	// apply.
	// +optional
	Resources *ResourceRequirements `json:"resources,omitempty"`

	// template is merged over the nodes' pod template. The container is named "rabbitmq", the init container
	// "cookie". An edit restarts the nodes one after the other.
	// +optional
	Template *PodTemplate `json:"template,omitempty"`
}

// RedisSpec configures the Redis or Valkey that stores visits and ledger.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.managed) && has(self.secretRef))",message="at most one of managed and secretRef may be set: remove the other"
// +kubebuilder:validation:XValidation:rule="has(self.secretRef) == has(oldSelf.secretRef)",message="cannot change between managed and secretRef, as visits and ledger would be left behind: create another simulation"
// +kubebuilder:validation:XValidation:rule="has(self.secretRef) != has(oldSelf.secretRef) || (has(self.managed) ? string(self.managed.storage.size) : '2Gi') == (has(oldSelf.managed) ? string(oldSelf.managed.storage.size) : '2Gi')",message="is immutable, because the volume exists: create another simulation",fieldPath=".managed.storage.size"
// +kubebuilder:validation:XValidation:rule="has(self.secretRef) != has(oldSelf.secretRef) || (has(self.managed) && has(self.managed.storage.storageClassName) ? [self.managed.storage.storageClassName] : []) == (has(oldSelf.managed) && has(oldSelf.managed.storage.storageClassName) ? [oldSelf.managed.storage.storageClassName] : [])",message="is immutable, because the volume exists: create another simulation",fieldPath=".managed.storage.storageClassName"
type RedisSpec struct {
	// managed runs a Redis for this simulation only, with an append-only file and a generated password. It
	// is deleted with the simulation. This is the default.
	// +optional
	Managed *ManagedRedis `json:"managed,omitempty"`

	// secretRef names a Secret in the simulation's namespace that holds the address and credentials of a Redis, Redis
	// Cluster or Valkey. Its keys are those of the Service Binding specification: uri, or host, port, username and
	// password. ca.crt for TLS is optional. The operator applies changes of the Secret.
	// +optional
	SecretRef *SecretReference `json:"secretRef,omitempty"`
}

// ManagedRedis is a Redis that the operator runs.
//
// +kubebuilder:validation:XValidation:rule="!has(self.image) || self.image.matches('^([a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?([.][a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)*(:[0-9]{1,5})?/)?[a-z0-9]+(([.]|__?|-+)[a-z0-9]+)*(/[a-z0-9]+(([.]|__?|-+)[a-z0-9]+)*)*(:[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?(@sha256:[0-9a-f]{64}|@sha512:[0-9a-f]{128})?$')",message="must be an image reference such as \"redis:8\" or \"registry.example.com/team/redis:8\"",fieldPath=".image"
type ManagedRedis struct {
	// image is the container image, Redis 7 or later or Valkey. Without it the operator's default image is
	// used.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Image string `json:"image,omitempty"`

	// storage is the volume of the append-only file.
	// +default={}
	// +optional
	Storage StorageSpec `json:"storage,omitzero"`

	// resources are the compute resources of the container. Without them the operator's defaults apply. The
	// memory limit should cover entry.rate times plates.maxStay visits of some 150 bytes each.
	// +optional
	Resources *ResourceRequirements `json:"resources,omitempty"`

	// template is merged over the pod template. The containers are named "redis" and "exporter". An edit
	// restarts the server.
	// +optional
	Template *PodTemplate `json:"template,omitempty"`
}

// SummaryAPISpec configures the REST API that receives the summaries of finished visits.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.managed) && has(self.url))",message="at most one of managed and url may be set: remove the other"
// +kubebuilder:validation:XValidation:rule="!has(self.secretRef) || has(self.url)",message="secretRef is for an external API: set url, or remove secretRef"
// +kubebuilder:validation:XValidation:rule="!has(self.url) || !self.url.matches('^([A-Za-z]+:)?[^A-Za-z0-9?#]*[^/?#]*@')",message="must not hold a user name or password: put them into a Secret and name it in secretRef",fieldPath=".url"
// +kubebuilder:validation:XValidation:rule="!has(self.url) || self.url.matches('^([A-Za-z]+:)?[^A-Za-z0-9?#]*[^/?#]*@') || isURL(self.url) && self.url.matches('^[hH][tT][tT][pP][sS]?://(([A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?[.])*[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?[.]?|[[][0-9A-Fa-f:.]+[]])(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?([/?]([-A-Za-z0-9._~:/?@!$&()*+,;=]|%[0-9A-Fa-f]{2})*)?$')",message="must be an absolute http or https URL such as \"https://example.com/v1/visits\", without fragment",fieldPath=".url"
// +kubebuilder:validation:XValidation:rule="has(self.url) || has(oldSelf.url) || (has(self.managed) ? string(self.managed.storage.size) : '2Gi') == (has(oldSelf.managed) ? string(oldSelf.managed.storage.size) : '2Gi')",message="is immutable, because the volume exists: create another simulation",fieldPath=".managed.storage.size"
// +kubebuilder:validation:XValidation:rule="has(self.url) || has(oldSelf.url) || (has(self.managed) && has(self.managed.storage.storageClassName) ? [self.managed.storage.storageClassName] : []) == (has(oldSelf.managed) && has(oldSelf.managed.storage.storageClassName) ? [oldSelf.managed.storage.storageClassName] : [])",message="is immutable, because the volume exists: create another simulation",fieldPath=".managed.storage.storageClassName"
type SummaryAPISpec struct {
	// managed runs the API that comes with the operator, which keeps the summaries in SQLite. It is deleted
	// with the simulation. This is the default.
	// +optional
	Managed *ManagedSummaryAPI `json:"managed,omitempty"`

	// url is the URL of an external REST API, such as "https://example.com/v1/visits". Each summary is
	// sent as one JSON POST with the exit event's id as Idempotency-Key, and retried until the API answers 2xx.
	// It must not hold credentials: these go into the Secret that secretRef names.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +optional
	URL string `json:"url,omitempty"`

	// secretRef names a Secret in the simulation's namespace with the credentials for url: the key token for
	// a bearer token, or username and password; and ca.crt to trust instead of the system's certificates.
	// +optional
	SecretRef *SecretReference `json:"secretRef,omitempty"`
}

// ManagedSummaryAPI is a summary API that the operator runs.
type ManagedSummaryAPI struct {
	// storage is the volume of the database, which grows by some 250 bytes a matched exit.
	// +default={}
	// +optional
	Storage StorageSpec `json:"storage,omitzero"`

	// resources are the compute resources of the container. Without them the operator's defaults apply.
	// +optional
	Resources *ResourceRequirements `json:"resources,omitempty"`

	// template is merged into the operator's template of the pod. An edit restarts the pod.
	// +optional
	Template *PodTemplate `json:"template,omitempty"`
}

// StorageSpec is the volume of a managed server. It is immutable, because the volume exists.
//
// +kubebuilder:validation:XValidation:rule="!has(self.storageClassName) || !format.dns1123Subdomain().validate(self.storageClassName).hasValue()",message="must be the name of a StorageClass, in lower case",fieldPath=".storageClassName"
type StorageSpec struct {
	// size is the volume's size, such as 2Gi. "0" keeps the data in the pod's ephemeral storage: it is lost,
	// and with it the simulation's ledger, when the pod is deleted or moves to another node.
	// +kubebuilder:validation:XValidation:rule="string(self).matches('^[0-9]{1,15}(([.][0-9]{1,3})?([kMGTPE]|[KMGTPE]i)|[eE][0-9]{1,2})?$')",message="must be a quantity of bytes such as \"2Gi\", or \"0\" for ephemeral storage"
	// +default="2Gi"
	// +optional
	Size *Quantity `json:"size,omitempty"`

	// storageClassName is the volume's storage class. Without it the cluster's default class is used.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	StorageClassName string `json:"storageClassName,omitempty"`
}

// SecretReference names a Secret in the simulation's namespace.
//
// +kubebuilder:validation:XValidation:rule="!has(self.name) || !format.dns1123Subdomain().validate(self.name).hasValue()",message="must be the name of a Secret, in lower case, without its namespace",fieldPath=".name"
type SecretReference struct {
	// name is the Secret's name. It need not exist yet: the simulation waits for it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name,omitempty"`
}

// ClusterReference names a RabbitmqCluster.
//
// +kubebuilder:validation:XValidation:rule="!has(self.name) || !format.dns1123Subdomain().validate(self.name).hasValue()",message="must be the name of a RabbitmqCluster, in lower case, without its namespace",fieldPath=".name"
type ClusterReference struct {
	// name is the RabbitmqCluster's name. It need not exist yet: the simulation waits for it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name,omitempty"`

	// namespace is the RabbitmqCluster's namespace. It defaults to the simulation's namespace.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Label().validate(self).hasValue()",message="must be the name of a namespace, in lower case"
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// MonitoringSpec configures the objects for the Prometheus Operator and for Grafana.
type MonitoringSpec struct {
	// serviceMonitors Auto creates a ServiceMonitor for every component as soon as the cluster serves that
	// kind; Disabled creates none.
	// +default="Auto"
	// +optional
	ServiceMonitors MonitoringMode `json:"serviceMonitors,omitempty"`

	// interval is how often the components are scraped, as a Go duration such as "15s", from 1s to 1h.
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]{1,5}h|[0-9]{1,6}m|[0-9]{1,9}[nuµμm]?s|[0-9]{0,5}[.]([0-9]{1,9}[hms]|[0-9]{1,6}ms|[0-9]{1,3}[uµμ]s))+$') || duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="must be from 1s to 1h"
	// +default="15s"
	// +optional
	Interval *Duration `json:"interval,omitempty"`

	// labels are added to ServiceMonitors and PrometheusRules, for a Prometheus that selects them by label:
	// for example {"release": "prometheus"}.
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(key, !format.qualifiedName().validate(key).hasValue())",message="must have keys such as \"team\" or \"example.com/team\""
	// +optional
	Labels map[string]LabelValue `json:"labels,omitempty"`

	// rules Auto creates a PrometheusRule with recording rules and alerts as soon as the cluster serves that
	// kind; Disabled creates none.
	// +default="Auto"
	// +optional
	Rules MonitoringMode `json:"rules,omitempty"`

	// dashboards Auto creates a ConfigMap with a Grafana dashboard, labelled for Grafana's sidecar, where the
	// Prometheus Operator is present; Disabled creates none.
	// +default="Auto"
	// +optional
	Dashboards MonitoringMode `json:"dashboards,omitempty"`
}

// MonitoringMode says whether a kind of monitoring object is created.
//
// +kubebuilder:validation:Enum=Auto;Disabled
type MonitoringMode string

// The monitoring modes.
const (
	MonitoringAuto     MonitoringMode = "Auto"
	MonitoringDisabled MonitoringMode = "Disabled"
)

// ObjectivesSpec are the conditions for the verdict PASS. An objective for which nothing was measured is not met.
type ObjectivesSpec struct {
	// These objectives hold for the whole run.
	PhaseObjectivesSpec `json:",inline"`

	// withoutFaults are objectives for the time in which no fault disturbs the simulation.
	// +optional
	WithoutFaults PhaseObjectivesSpec `json:"withoutFaults,omitzero"`

	// underFaults are objectives for the time in which faults disturb the simulation: from the injection of each fault
	// until the simulation has recovered from it.
	// +optional
	UnderFaults PhaseObjectivesSpec `json:"underFaults,omitzero"`

	// maxRecovery is the longest time that the simulation may need to recover from a fault, as a Go duration such as
	// "30s". It counts from the end of the fault until latency and backlog are as before the fault, for 5 s. Without it
	// there is no such objective.
	// +kubebuilder:validation:XValidation:rule="self.matches('[1-9]')",message="must be above 0s"
	// +optional
	MaxRecovery *Duration `json:"maxRecovery,omitempty"`

	// maxLost is the number of confirmed events that may be missing from the ledger at the end.
	// +kubebuilder:validation:Minimum=0
	// +default=0
	// +optional
	MaxLost *int64 `json:"maxLost,omitempty"`

	// maxUnexpected is the number of matched exits that may find no visit.
	// +kubebuilder:validation:Minimum=0
	// +default=0
	// +optional
	MaxUnexpected *int64 `json:"maxUnexpected,omitempty"`

	// abortOnFailure ends the simulation early once the verdict can only be FAIL, for example because an event was
	// dead-lettered or a fault could not be injected.
	// +optional
	AbortOnFailure bool `json:"abortOnFailure,omitempty"`
}

// PhaseObjectivesSpec are objectives that the whole run or a part of it may have. Those that are left out do not apply.
type PhaseObjectivesSpec struct {
	// processingP99 is the longest that processing an event may take for 99 of 100 events, as a Go duration
	// such as "5ms".
	// +kubebuilder:validation:XValidation:rule="self.matches('[1-9]')",message="must be above 0s"
	// +optional
	ProcessingP99 *Duration `json:"processingP99,omitempty"`

	// endToEndP99 is the longest that may pass between the instant for which an event was scheduled and its
	// effect for 99 of 100 events, as a Go duration such as "1s".
	// +kubebuilder:validation:XValidation:rule="self.matches('[1-9]')",message="must be above 0s"
	// +optional
	EndToEndP99 *Duration `json:"endToEndP99,omitempty"`

	// maxLag is the longest that a generator may be behind its schedule, as a Go duration such as "5s".
	// +kubebuilder:validation:XValidation:rule="self.matches('[1-9]')",message="must be above 0s"
	// +optional
	MaxLag *Duration `json:"maxLag,omitempty"`

	// minAchievedPercent is the percentage of the due events that have to be published. It applies to entries and exits
	// separately. Exits that find no available plate are not published.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	MinAchievedPercent *int32 `json:"minAchievedPercent,omitempty"`
}
