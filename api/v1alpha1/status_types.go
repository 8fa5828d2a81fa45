package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ParkingSimulationStatus is the observed state of a simulation.
type ParkingSimulationStatus struct {
	// observedGeneration is the metadata.generation of the spec that this status describes. It is -1 until the
	// operator has observed the simulation for the first time.
	// +kubebuilder:validation:Minimum=-1
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions describe the simulation. Ready, Reconciling and Stalled summarize BrokerReady, StoreReady,
	// SummaryAPIReady, WorkloadsReady, MonitoringReady, LedgerReadable, Complete and ObjectivesMet. If something is
	// wrong, the message says what to do.
	// +kubebuilder:validation:MaxItems=32
	// +listType=map
	// +listMapKey=type
	// +patchStrategy=merge
	// +patchMergeKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty" patchStrategy:"merge" patchMergeKey:"type"`

	// replicas is the number of processor pods, whether ready or not. The scale subresource returns it.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`

	// readyReplicas is the number of processor pods that are ready. It includes pods of an older template while they
	// are being replaced.
	// +kubebuilder:validation:Minimum=0
	// +optional
	ReadyReplicas *int32 `json:"readyReplicas,omitempty"`

	// selector is the label selector of the processor pods, for the scale subresource.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Selector string `json:"selector,omitempty"`

	// targetRates are the rates that the schedules demand now, even if generators fall behind. The rates are 0 while no
	// generator publishes, for example during a suspension.
	// +optional
	TargetRates *TargetRates `json:"targetRates,omitempty"`

	// startTime is when the generators started for the first time. Rates and faults are scheduled relative to it.
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`

	// runSettings contains the fields of the spec that determine the run, such as "entry.rate", with their values or,
	// if long, digests. After completionTime, it is final, and edits of these fields have no effect.
	// +kubebuilder:validation:MaxProperties=32
	// +optional
	RunSettings map[string]string `json:"runSettings,omitempty"`

	// scheduleChangeTime is when an edit last changed the schedule of the running simulation. If it is set, the verdict
	// does not check the schedule. It equals startTime if it is unknown whether the schedule was changed.
	// +optional
	ScheduleChangeTime *metav1.Time `json:"scheduleChangeTime,omitempty"`

	// endTime is when a simulation that is now complete reached the end of its duration. Later changes of spec.duration
	// do not affect the simulation.
	// +optional
	EndTime *metav1.Time `json:"endTime,omitempty"`

	// abortTime is when the operator ended the simulation early. It does this only if the verdict is certain to be FAIL
	// and spec.objectives.abortOnFailure is true.
	// +optional
	AbortTime *metav1.Time `json:"abortTime,omitempty"`

	// abortReason says which check had failed for good at abortTime.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	AbortReason string `json:"abortReason,omitempty"`

	// completionTime is when the simulation became complete: after its duration, when the queues were empty or the
	// drain timeout had expired.
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`

	// verdict is PASS or FAIL. It is absent until the simulation is complete.
	// +optional
	Verdict Verdict `json:"verdict,omitempty"`

	// reasons say why the verdict is FAIL, and what could not be checked. Each is one sentence.
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=1024
	// +listType=atomic
	// +optional
	Reasons []string `json:"reasons,omitempty"`

	// ledger has the counters of the events, at the time observedTime.
	// +optional
	Ledger *LedgerStatus `json:"ledger,omitempty"`

	// latency has the latencies of the whole simulation. It is absent until the simulation is complete, and if no latency
	// was measured.
	// +optional
	Latency *LatencyStatus `json:"latency,omitempty"`

	// faults describes the injected faults and their effects. It is absent if the simulation has no faults.
	// +optional
	Faults *FaultsStatus `json:"faults,omitempty"`

	// report is the name of the ConfigMap with the report of the complete simulation, under the key report.json. It
	// is absent if there is no report.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:MinLength=1
	// +optional
	Report string `json:"report,omitempty"`
}

// FaultsStatus counts the occurrences of faults by their outcome, and describes the latest and the worst of them.
type FaultsStatus struct {
	// active lists the names of the occurrences in effect, such as "redis-crash/0", separated by commas.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Active string `json:"active,omitempty"`

	// injected is the number of occurrences that took effect.
	// +kubebuilder:validation:Minimum=0
	// +required
	Injected int32 `json:"injected"`

	// recovered is the number of occurrences from which the simulation recovered.
	// +kubebuilder:validation:Minimum=0
	// +required
	Recovered int32 `json:"recovered"`

	// notRecovered is the number of occurrences from which the simulation did not recover, or for which recovery
	// could not be measured.
	// +kubebuilder:validation:Minimum=0
	// +required
	NotRecovered int32 `json:"notRecovered"`

	// notInjected is the number of occurrences that could not be injected.
	// +kubebuilder:validation:Minimum=0
	// +required
	NotInjected int32 `json:"notInjected"`

	// aborted is the number of occurrences that were prevented or ended early, for example by the end of the simulation.
	// +kubebuilder:validation:Minimum=0
	// +required
	Aborted int32 `json:"aborted"`

	// results counts the occurrences by their target and action.
	// +kubebuilder:validation:MaxItems=35
	// +listType=map
	// +listMapKey=target
	// +listMapKey=action
	// +optional
	Results []FaultResult `json:"results,omitempty"`

	// worst is the occurrence with the worst outcome. From worst to best, the outcomes are NotInjected, NotRecovered,
	// Aborted, Recovered, and any that is not final. If several occurrences have the worst outcome, worst is the one
	// with the longest recovery.
	// +optional
	Worst *FaultStatus `json:"worst,omitempty"`

	// latest has the latest 20 occurrences, in the order in which they were due. The report lists more of them.
	// +kubebuilder:validation:MaxItems=20
	// +listType=atomic
	// +optional
	Latest []FaultStatus `json:"latest,omitempty"`
}

// FaultResult counts the occurrences of all faults that have the same target and the same action.
type FaultResult struct {
	// target is the component that the faults affect.
	// +required
	Target FaultTarget `json:"target,omitempty"`

	// action is what the faults do to the target.
	// +required
	Action FaultAction `json:"action,omitempty"`

	// inProgress is the number of occurrences whose outcome is not known yet.
	// +kubebuilder:validation:Minimum=0
	// +required
	InProgress int32 `json:"inProgress"`

	// recovered is the number of occurrences from which the simulation recovered.
	// +kubebuilder:validation:Minimum=0
	// +required
	Recovered int32 `json:"recovered"`

	// notRecovered is the number of occurrences from which the simulation did not recover, or for which recovery
	// could not be measured.
	// +kubebuilder:validation:Minimum=0
	// +required
	NotRecovered int32 `json:"notRecovered"`

	// notInjected is the number of occurrences that could not be injected.
	// +kubebuilder:validation:Minimum=0
	// +required
	NotInjected int32 `json:"notInjected"`

	// aborted is the number of occurrences that were prevented or ended early, for example by the end of the simulation.
	// +kubebuilder:validation:Minimum=0
	// +required
	Aborted int32 `json:"aborted"`

	// totalRecovery is the sum of all recovery times, as a Go duration. It is absent if the simulation never recovered.
	// +optional
	TotalRecovery *Duration `json:"totalRecovery,omitempty"`

	// slowestRecovery is the longest recovery time, as a Go duration. It is absent if the simulation never recovered.
	// +optional
	SlowestRecovery *Duration `json:"slowestRecovery,omitempty"`
}

// FaultStatus is one occurrence of a fault.
type FaultStatus struct {
	// name is the name of the fault in spec.faults.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	// +required
	Name string `json:"name,omitempty"`

	// number is the index of the occurrence among those of its fault, from 0.
	// +kubebuilder:validation:Minimum=0
	// +required
	Number int32 `json:"number"`

	// target is the kind of process that the fault targeted.
	// +optional
	Target FaultTarget `json:"target,omitempty"`

	// action is what the fault did to the target.
	// +optional
	Action FaultAction `json:"action,omitempty"`

	// hitCount is the number of pods that were hit. It is absent if no pod was hit.
	// +kubebuilder:validation:Minimum=1
	// +optional
	HitCount int32 `json:"hitCount,omitempty"`

	// hit lists the names of at most five of the pods that were hit. The report may list more.
	// +kubebuilder:validation:MaxItems=5
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=atomic
	// +optional
	Hit []string `json:"hit,omitempty"`

	// injectedTime is when the fault took effect. This field is absent if the fault did not take effect.
	// +optional
	InjectedTime *metav1.Time `json:"injectedTime,omitempty"`

	// healedTime is when the fault ended. It is absent until then.
	// +optional
	HealedTime *metav1.Time `json:"healedTime,omitempty"`

	// recovery is the time from healedTime (for Pause and Isolate) or injectedTime (for the other actions) until
	// latency and backlog were as before the fault. The time of other faults does not count. It is absent if the
	// simulation did not recover.
	// +optional
	Recovery *Duration `json:"recovery,omitempty"`

	// peakLag is the longest lag of a generator behind its schedule, as a Go duration. The fields from peakLag to
	// duplicatesSuppressed cover the time from the injection to the recovery, or to the end of the simulation,
	// including effects of overlapping faults. They are absent if the fault did not take effect.
	// +optional
	PeakLag *Duration `json:"peakLag,omitempty"`

	// peakBacklog is the largest number of waiting events, or absent if it was not measured. It is the larger of two
	// counts: messages that were ready in the queues or waited for a retry, and events that had not taken effect a
	// second after they were due, including those in generators and processors.
	// +kubebuilder:validation:Minimum=0
	// +optional
	PeakBacklog *int64 `json:"peakBacklog,omitempty"`

	// peakEndToEndP99 is the largest 99th percentile of the end-to-end latency in any second, as a Go duration. It is
	// absent if no event took effect.
	// +optional
	PeakEndToEndP99 *Duration `json:"peakEndToEndP99,omitempty"`

	// redeliveries is the number of deliveries of messages that RabbitMQ had delivered before.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Redeliveries *int64 `json:"redeliveries,omitempty"`

	// duplicatesSuppressed is the number of deliveries of events that had already taken effect.
	// +kubebuilder:validation:Minimum=0
	// +optional
	DuplicatesSuppressed *int64 `json:"duplicatesSuppressed,omitempty"`

	// lost is 0 once it is known that the whole simulation lost no event. It stays absent if events were lost, because
	// it is unknown which fault lost them; status.ledger.lost counts them.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Lost *int64 `json:"lost,omitempty"`

	// outcome is Recovered, NotRecovered, NotInjected or Aborted. Before the simulation is complete, it may also be
	// Injecting, Active or Recovering.
	// +kubebuilder:validation:Enum=Injecting;Active;Recovering;Recovered;NotRecovered;NotInjected;Aborted
	// +required
	Outcome string `json:"outcome,omitempty"`

	// message explains the outcome.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`
}

// TargetRates are rates in events per second, summed over all replicas.
type TargetRates struct {
	// entry is the number of entries per second.
	// +kubebuilder:validation:Minimum=0
	// +required
	Entry int64 `json:"entry"`

	// exit is the number of exits per second.
	// +kubebuilder:validation:Minimum=0
	// +required
	Exit int64 `json:"exit"`
}

// LatencyStatus has the latencies that the processors measured. Percentiles are estimated from histograms, with an
// error of at most 9 %.
type LatencyStatus struct {
	// processing is the time that it takes to process an event.
	// +optional
	Processing *LatencySummary `json:"processing,omitempty"`

	// endToEnd is the time from when an event is due until it takes effect.
	// +optional
	EndToEnd *LatencySummary `json:"endToEnd,omitempty"`

	// unmeasured is the number of events that took effect but are missing from endToEnd: their processor was killed
	// before it stored their latencies, or clock differences made them seem to take effect more than 1 s early.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Unmeasured int64 `json:"unmeasured,omitempty"`
}

// LatencySummary has two percentiles of measured durations.
type LatencySummary struct {
	// p50 is the 50th percentile, as a Go duration.
	// +required
	P50 Duration `json:"p50"`

	// p99 is the 99th percentile, as a Go duration.
	// +required
	P99 Duration `json:"p99"`
}

// Verdict is the result of a complete simulation.
//
// +kubebuilder:validation:Enum=PASS;FAIL
type Verdict string

// The verdicts.
const (
	VerdictPass Verdict = "PASS"
	VerdictFail Verdict = "FAIL"
)

// Types of the conditions of a simulation. Tools that evaluate kstatus, such as Helm and Argo CD, read the first three.
const (
	// ConditionReady is True when all desired components run, or when the simulation is complete.
	ConditionReady = "Ready"
	// ConditionReconciling is True while the operator is working and expects to reach Ready without user action.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is True when a user must act. The message says how.
	ConditionStalled = "Stalled"
	// ConditionBrokerReady says whether the simulation can use RabbitMQ.
	ConditionBrokerReady = "BrokerReady"
	// ConditionStoreReady says whether the simulation can use Redis.
	ConditionStoreReady = "StoreReady"
	// ConditionSummaryAPIReady says whether the simulation can use the summary API.
	ConditionSummaryAPIReady = "SummaryAPIReady"
	// ConditionWorkloadsReady says whether generators and processors run.
	ConditionWorkloadsReady = "WorkloadsReady"
	// ConditionMonitoringReady says which monitoring objects exist.
	ConditionMonitoringReady = "MonitoringReady"
	// ConditionLedgerReadable says whether the ledger in the status is up to date.
	ConditionLedgerReadable = "LedgerReadable"
	// ConditionComplete is True once the simulation has ended and the verdict is final.
	ConditionComplete = "Complete"
	// ConditionObjectivesMet says whether the verdict is PASS. Until the simulation is complete, it is Unknown, or
	// False if the verdict can only be FAIL.
	ConditionObjectivesMet = "ObjectivesMet"
)

// LedgerStatus has the counters of a simulation's events. They come from independent sources, which the verdict
// compares: generators count confirmed events, the store counts events that take effect.
type LedgerStatus struct {
	// observedTime is when the operator read the ledger.
	// +optional
	ObservedTime *metav1.Time `json:"observedTime,omitempty"`

	// processed is the number of events that took effect, including those of external publishers.
	// +kubebuilder:validation:Minimum=0
	// +required
	Processed int64 `json:"processed"`

	// entriesConfirmed is the number of entries that RabbitMQ has confirmed.
	// +kubebuilder:validation:Minimum=0
	// +required
	EntriesConfirmed int64 `json:"entriesConfirmed"`

	// entriesRecorded is the number of entries that took effect.
	// +kubebuilder:validation:Minimum=0
	// +required
	EntriesRecorded int64 `json:"entriesRecorded"`

	// exitsMatchedConfirmed is the number of confirmed exits that were published with the plate of a parked vehicle.
	// +kubebuilder:validation:Minimum=0
	// +required
	ExitsMatchedConfirmed int64 `json:"exitsMatchedConfirmed"`

	// exitsUnmatchedConfirmed is the number of confirmed exits that were published with a plate that never entered.
	// +kubebuilder:validation:Minimum=0
	// +required
	ExitsUnmatchedConfirmed int64 `json:"exitsUnmatchedConfirmed"`

	// matched is the number of exits that ended a visit.
	// +kubebuilder:validation:Minimum=0
	// +required
	Matched int64 `json:"matched"`

	// unmatchedExpected is the number of exits for which no visit was expected, and none was found.
	// +kubebuilder:validation:Minimum=0
	// +required
	UnmatchedExpected int64 `json:"unmatchedExpected"`

	// unmatchedUnexpected is the number of exits for which a visit was expected, but none was found.
	// +kubebuilder:validation:Minimum=0
	// +required
	UnmatchedUnexpected int64 `json:"unmatchedUnexpected"`

	// summariesStored is the number of summaries that the summary API has accepted.
	// +kubebuilder:validation:Minimum=0
	// +required
	SummariesStored int64 `json:"summariesStored"`

	// duplicatesSuppressed is the number of deliveries of events that had taken effect before.
	// +kubebuilder:validation:Minimum=0
	// +required
	DuplicatesSuppressed int64 `json:"duplicatesSuppressed"`

	// deadLettered is the number of messages that were moved to the dead-letter queue.
	// +kubebuilder:validation:Minimum=0
	// +required
	DeadLettered int64 `json:"deadLettered"`

	// indeterminate is the number of events that took effect, although the generator that published them died before
	// it stored their confirmation.
	// +kubebuilder:validation:Minimum=0
	// +required
	Indeterminate int64 `json:"indeterminate"`

	// lost is the number of confirmed events that had not taken effect when the queues were empty. It is absent before
	// completion, and if the drain timeout expired first.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Lost *int64 `json:"lost,omitempty"`

	// starved is the number of exits that were due for the plate of a parked vehicle, but were not published, because no
	// such plate was available.
	// +kubebuilder:validation:Minimum=0
	// +required
	Starved int64 `json:"starved"`

	// dataLostTime is when a process detected that Redis had lost data of the simulation. The verdict is then FAIL,
	// because it is unknown which events took effect.
	// +optional
	DataLostTime *metav1.Time `json:"dataLostTime,omitempty"`

	// externalEntries is the number of entries from external publishers.
	// +kubebuilder:validation:Minimum=0
	// +required
	ExternalEntries int64 `json:"externalEntries"`

	// externalMatched is the number of exits from external publishers that ended a visit.
	// +kubebuilder:validation:Minimum=0
	// +required
	ExternalMatched int64 `json:"externalMatched"`

	// entryNotFound is the number of exits from external publishers for which no visit was found.
	// +kubebuilder:validation:Minimum=0
	// +required
	EntryNotFound int64 `json:"entryNotFound"`
}
