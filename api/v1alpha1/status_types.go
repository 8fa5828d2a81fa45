package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ParkingSimulationStatus is the observed state of a simulation.
type ParkingSimulationStatus struct {
	// observedGeneration is the metadata.generation of the spec that this status describes. It is -1 until the operator
	// has observed a spec.
	// +kubebuilder:validation:Minimum=-1
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions are the simulation's conditions. Ready, Reconciling and Stalled sum up the others:
	// BrokerReady, StoreReady, SummaryAPIReady, WorkloadsReady, MonitoringReady, LedgerReadable, Complete and
	// ObjectivesMet. A message says what to do when something is wrong.
	// +kubebuilder:validation:MaxItems=32
	// +listType=map
	// +listMapKey=type
	// +patchStrategy=merge
	// +patchMergeKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty" patchStrategy:"merge" patchMergeKey:"type"`

	// replicas is the number of processor pods, ready or not. The scale subresource reports it.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`

	// readyReplicas is the number of processor pods that are ready and have the current template.
	// +kubebuilder:validation:Minimum=0
	// +optional
	ReadyReplicas *int32 `json:"readyReplicas,omitempty"`

	// selector selects the processor pods, for the scale subresource.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Selector string `json:"selector,omitempty"`

	// targetRates are the rates that the schedules call for at present. They are 0 while no generator publishes: before
	// the start, while the simulation is suspended, and after its end.
	// +optional
	TargetRates *TargetRates `json:"targetRates,omitempty"`

	// startTime is the origin of the schedules: when the generators were first started.
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`

	// startGeneration is the metadata.generation at startTime. The verdict says whether the schedules were kept only if
	// the spec has not changed since.
	// +kubebuilder:validation:Minimum=1
	// +optional
	StartGeneration int64 `json:"startGeneration,omitempty"`

	// endTime is when the duration of a complete simulation was over. Later changes of spec.duration have no effect.
	// +optional
	EndTime *metav1.Time `json:"endTime,omitempty"`

	// abortTime is when the simulation was ended early, because the verdict could only be FAIL and
	// spec.objectives.abortOnFailure is true.
	// +optional
	AbortTime *metav1.Time `json:"abortTime,omitempty"`

	// completionTime is when the simulation became complete: its duration over and its queues empty, or its drain timeout
	// over.
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`

	// verdict is PASS or FAIL, once the simulation is complete.
	// +optional
	Verdict Verdict `json:"verdict,omitempty"`

	// reasons say why the verdict is FAIL, and what could not be checked, one sentence each.
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=1024
	// +listType=atomic
	// +optional
	Reasons []string `json:"reasons,omitempty"`

	// ledger is the account of the events at its observedTime.
	// +optional
	Ledger *LedgerStatus `json:"ledger,omitempty"`

	// latency is what the timeline held of the latencies when the simulation became complete. It is absent if
	// no latency was measured.
	// +optional
	Latency *LatencyStatus `json:"latency,omitempty"`

	// faults says what the faults did to the simulation. It is absent if there are none.
	// +optional
	Faults *FaultsStatus `json:"faults,omitempty"`

	// report is the name of the ConfigMap that holds the report of the complete simulation under the key report.json.
	// It is absent if there is no report.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:MinLength=1
	// +optional
	Report string `json:"report,omitempty"`
}

// FaultsStatus counts the occurrences of faults by their outcome, and describes some of them.
type FaultsStatus struct {
	// active names the occurrences in effect, such as "redis-crash/0", separated by commas.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Active string `json:"active,omitempty"`

	// injected counts the occurrences that took effect.
	// +kubebuilder:validation:Minimum=0
	// +required
	Injected int32 `json:"injected"`

	// recovered counts those from which the simulation recovered.
	// +kubebuilder:validation:Minimum=0
	// +required
	Recovered int32 `json:"recovered"`

	// notRecovered counts those from which it did not recover, or after which recovery could not be measured.
	// +kubebuilder:validation:Minimum=0
	// +required
	NotRecovered int32 `json:"notRecovered"`

	// notInjected counts the occurrences that could not be injected.
	// +kubebuilder:validation:Minimum=0
	// +required
	NotInjected int32 `json:"notInjected"`

	// aborted counts the occurrences that the end of the simulation cut short.
	// +kubebuilder:validation:Minimum=0
	// +required
	Aborted int32 `json:"aborted"`

	// worst is the occurrence with the worst outcome, and of those the one with the longest recovery.
	// +optional
	Worst *FaultStatus `json:"worst,omitempty"`

	// latest are the latest 20 occurrences, in the order of their injection. The report has all of them.
	// +kubebuilder:validation:MaxItems=20
	// +listType=atomic
	// +optional
	Latest []FaultStatus `json:"latest,omitempty"`
}

// FaultStatus is one occurrence of a fault.
type FaultStatus struct {
	// name is that of the fault in spec.faults.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	Name string `json:"name,omitempty"`

	// number counts the occurrences of this fault from 0.
	// +kubebuilder:validation:Minimum=0
	// +required
	Number int32 `json:"number"`

	// injectedTime is when the fault took effect. It is absent if it did not.
	// +optional
	InjectedTime *metav1.Time `json:"injectedTime,omitempty"`

	// healedTime is when the fault ended. It is absent if it did not.
	// +optional
	HealedTime *metav1.Time `json:"healedTime,omitempty"`

	// recovery is the time from healedTime until latency and backlog were as before the fault, as a Go duration. It does
	// not include the time in which other faults were in effect. It is absent if the simulation did not recover.
	// +optional
	Recovery *Duration `json:"recovery,omitempty"`

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

// TargetRates are rates in events per second, over all replicas.
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

// LatencyStatus is what the processors measured of the events. A percentile is within 9 % of a measured
// duration.
type LatencyStatus struct {
	// processing is the time that processing an event took.
	// +optional
	Processing *LatencySummary `json:"processing,omitempty"`

	// endToEnd is the time between the instant for which an event was scheduled and its effect.
	// +optional
	EndToEnd *LatencySummary `json:"endToEnd,omitempty"`

	// unmeasured counts the events that took effect, but are missing from endToEnd: their processor was killed
	// before it could store its latest measurements.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Unmeasured int64 `json:"unmeasured,omitempty"`
}

// LatencySummary sums up measured durations.
type LatencySummary struct {
	// p50 is the duration that half of the events took at most, as a Go duration.
	// +required
	P50 Duration `json:"p50"`

	// p99 is the duration that 99 of 100 events took at most, as a Go duration.
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

// The types of a simulation's conditions. The first three are those that kstatus understands.
const (
	// ConditionReady is True when everything that the spec asks for runs, or has run to completion.
	ConditionReady = "Ready"
	// ConditionReconciling is True while the operator works towards Ready without the help of a person.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is True when a person has to act. The message says how.
	ConditionStalled = "Stalled"
	// ConditionBrokerReady says whether RabbitMQ can be used.
	ConditionBrokerReady = "BrokerReady"
	// ConditionStoreReady says whether Redis can be used.
	ConditionStoreReady = "StoreReady"
	// ConditionSummaryAPIReady says whether the summary API can be used.
	ConditionSummaryAPIReady = "SummaryAPIReady"
	// ConditionWorkloadsReady says whether generators and processors run.
	ConditionWorkloadsReady = "WorkloadsReady"
	// ConditionMonitoringReady says which monitoring objects exist.
	ConditionMonitoringReady = "MonitoringReady"
	// ConditionLedgerReadable says whether the ledger in the status is up to date.
	ConditionLedgerReadable = "LedgerReadable"
	// ConditionComplete is True once the duration is over and the queues are empty.
	ConditionComplete = "Complete"
	// ConditionObjectivesMet says whether the verdict of a complete simulation is PASS.
	ConditionObjectivesMet = "ObjectivesMet"
)

// LedgerStatus is the account of a simulation's events. Each counter is counted where its effect happens;
// none is inferred from another.
type LedgerStatus struct {
	// observedTime is when the ledger was read.
	// +optional
	ObservedTime *metav1.Time `json:"observedTime,omitempty"`

	// processed counts the events, of whichever origin, that took effect.
	// +kubebuilder:validation:Minimum=0
	// +required
	Processed int64 `json:"processed"`

	// entriesConfirmed counts the entries that RabbitMQ has confirmed.
	// +kubebuilder:validation:Minimum=0
	// +required
	EntriesConfirmed int64 `json:"entriesConfirmed"`

	// entriesRecorded counts the entries that took effect.
	// +kubebuilder:validation:Minimum=0
	// +required
	EntriesRecorded int64 `json:"entriesRecorded"`

	// exitsMatchedConfirmed counts the exits, meant to find their entry, that RabbitMQ has confirmed.
	// +kubebuilder:validation:Minimum=0
	// +required
	ExitsMatchedConfirmed int64 `json:"exitsMatchedConfirmed"`

	// exitsUnmatchedConfirmed counts the exits, meant to find no entry, that RabbitMQ has confirmed.
	// +kubebuilder:validation:Minimum=0
	// +required
	ExitsUnmatchedConfirmed int64 `json:"exitsUnmatchedConfirmed"`

	// matched counts the exits that ended a visit.
	// +kubebuilder:validation:Minimum=0
	// +required
	Matched int64 `json:"matched"`

	// unmatchedExpected counts the exits that were meant to find no entry, and found none.
	// +kubebuilder:validation:Minimum=0
	// +required
	UnmatchedExpected int64 `json:"unmatchedExpected"`

	// unmatchedUnexpected counts the exits that were meant to find their entry, and found none.
	// +kubebuilder:validation:Minimum=0
	// +required
	UnmatchedUnexpected int64 `json:"unmatchedUnexpected"`

	// summariesStored counts the summaries that the summary API has accepted.
	// +kubebuilder:validation:Minimum=0
	// +required
	SummariesStored int64 `json:"summariesStored"`

	// duplicatesSuppressed counts deliveries of events that had taken effect before.
	// +kubebuilder:validation:Minimum=0
	// +required
	DuplicatesSuppressed int64 `json:"duplicatesSuppressed"`

	// deadLettered counts messages that were moved to the dead-letter queue.
	// +kubebuilder:validation:Minimum=0
	// +required
	DeadLettered int64 `json:"deadLettered"`

	// indeterminate counts events beyond the last confirmed one of a generator that died, which took effect.
	// +kubebuilder:validation:Minimum=0
	// +required
	Indeterminate int64 `json:"indeterminate"`

	// lost counts confirmed events that had not taken effect when the queues were empty. It is absent until the
	// simulation is complete.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Lost *int64 `json:"lost,omitempty"`

	// starved counts exits that were drawn to match while no plate was available.
	// +kubebuilder:validation:Minimum=0
	// +required
	Starved int64 `json:"starved"`

	// dataLostTime is when a process noticed that Redis had lost data of the simulation. It is then unknown which events
	// took effect, and the verdict is FAIL.
	// +optional
	DataLostTime *metav1.Time `json:"dataLostTime,omitempty"`

	// externalEntries counts the entries that external publishers published.
	// +kubebuilder:validation:Minimum=0
	// +required
	ExternalEntries int64 `json:"externalEntries"`

	// externalMatched counts the exits of external publishers that ended a visit.
	// +kubebuilder:validation:Minimum=0
	// +required
	ExternalMatched int64 `json:"externalMatched"`

	// entryNotFound counts the exits of external publishers that found no entry.
	// +kubebuilder:validation:Minimum=0
	// +required
	EntryNotFound int64 `json:"entryNotFound"`
}
