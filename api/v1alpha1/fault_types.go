package v1alpha1

import (
	"encoding/json"
	"errors"
	"regexp"
	"strconv"
	"strings"
)

// Fault is a failure that is injected, once or periodically, while events are published.
// +kubebuilder:validation:XValidation:rule="!(self.action in ['Pause', 'Isolate']) || has(self.__for__)",message="is required for Pause and Isolate: say how long the fault lasts, such as \"20s\"",fieldPath=".for",reason="FieldValueRequired"
// +kubebuilder:validation:XValidation:rule="self.action in ['Pause', 'Isolate'] || !has(self.__for__)",message="is only for Pause and Isolate, because the other actions do not last: remove it",fieldPath=".for",reason="FieldValueForbidden"
// +kubebuilder:validation:XValidation:rule="!has(self.__for__) || !self.__for__.matches('^([0-9]{1,5}h|[0-9]{1,6}m|[0-9]{1,9}[nuµμm]?s|[0-9]{0,5}[.]([0-9]{1,9}[hms]|[0-9]{1,6}ms|[0-9]{1,3}[uµμ]s))+$') || duration(self.__for__) <= duration('24h')",message="must be at most 24h",fieldPath=".for"
// +kubebuilder:validation:XValidation:rule="!has(self.every) || !self.every.matches('^([0-9]{1,5}h|[0-9]{1,6}m|[0-9]{1,9}[nuµμm]?s|[0-9]{0,5}[.]([0-9]{1,9}[hms]|[0-9]{1,6}ms|[0-9]{1,3}[uµμ]s))+$') || duration(self.every) >= duration('1s')",message="must be at least 1s; remove it to inject the fault once",fieldPath=".every"
// +kubebuilder:validation:XValidation:rule="!has(self.every) || ![self.every, has(self.__for__) ? self.__for__ : '0s', has(self.jitter) ? self.jitter : '0s'].all(d, d.matches('^([0-9]{1,5}h|[0-9]{1,6}m|[0-9]{1,9}[nuµμm]?s|[0-9]{0,5}[.]([0-9]{1,9}[hms]|[0-9]{1,6}ms|[0-9]{1,3}[uµμ]s))+$')) || duration(self.every) < duration('1s') || duration(self.every) > duration(has(self.__for__) ? self.__for__ : '0s') + duration(has(self.jitter) ? self.jitter : '0s') + duration(has(self.jitter) ? self.jitter : '0s')",message="must be longer than \"for\" plus twice \"jitter\", so that an occurrence ends before the next one begins: raise \"every\", or lower \"for\" or \"jitter\"",fieldPath=".every"
// +kubebuilder:validation:XValidation:rule="!has(self.jitter) || !self.jitter.matches('^([0-9]{1,5}h|[0-9]{1,6}m|[0-9]{1,9}[nuµμm]?s|[0-9]{0,5}[.]([0-9]{1,9}[hms]|[0-9]{1,6}ms|[0-9]{1,3}[uµμ]s))+$') || !self.at.matches('^([0-9]{1,5}h|[0-9]{1,6}m|[0-9]{1,9}[nuµμm]?s|[0-9]{0,5}[.]([0-9]{1,9}[hms]|[0-9]{1,6}ms|[0-9]{1,3}[uµμ]s))+$') || duration(self.jitter) <= duration(self.at)",message="must not exceed \"at\", or the fault begins before the simulation does: lower \"jitter\" or raise \"at\"",fieldPath=".jitter"
type Fault struct {
	// name identifies the fault in the status, reports and metrics: at most 40 characters of a-z, 0-9 and '-'. A
	// renamed fault counts its occurrences from 0.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Label().validate(self).hasValue()",message="must have at most 40 characters of a-z, 0-9 and '-', and start and end with a letter or digit"
	// +required
	Name string `json:"name,omitempty"`

	// target is the kind of process that fails. RabbitMQ, Redis and SummaryAPI are servers that the operator runs;
	// external servers cannot be targets. RabbitMQLeader is the RabbitMQ node that leads most of the simulation's
	// queues. Processor, EntryGenerator and ExitGenerator are the simulation's own pods.
	// +required
	Target FaultTarget `json:"target,omitempty"`

	// pods is how many pods of the target fail at the same time: a number, or a percentage such as "50%", rounded up.
	// The seed selects the pods.
	// +default=1
	// +optional
	Pods FaultPods `json:"pods,omitempty"`

	// action is what happens to the pods. Kill crashes the process with SIGKILL, so that it flushes no data. Restart
	// stops and starts it gracefully. Evict deletes the pods through the eviction API, which respects disruption
	// budgets. Pause stops the process with SIGSTOP. Isolate cuts the pods off from all other parts of the simulation;
	// RabbitMQ can be isolated only if it has one node, and processors and generators only if the operator runs
	// RabbitMQ, Redis and the summary API.
	// +required
	Action FaultAction `json:"action,omitempty"`

	// at is when the fault first occurs, measured from the start of the simulation, as a Go duration such as "2m".
	// +required
	At *Duration `json:"at,omitempty"`

	// every is the interval of the repetitions, such as "5m": at least 1s, and longer than "for" plus twice "jitter".
	// If it is omitted, the fault occurs once.
	// +optional
	Every *Duration `json:"every,omitempty"`

	// jitter is the maximum random shift of each occurrence, earlier or later, such as "30s"; it must not exceed "at".
	// The seed determines the shifts.
	// +optional
	Jitter *Duration `json:"jitter,omitempty"`

	// for is how long Pause and Isolate last, such as "20s", at most 24h. It is required for these actions, and not
	// allowed for the others.
	// +kubebuilder:validation:XValidation:rule="self.matches('[1-9]')",message="must be above 0s"
	// +optional
	For *Duration `json:"for,omitempty"`
}

// FaultTarget is the kind of process into which a fault is injected.
// +kubebuilder:validation:Enum=RabbitMQ;RabbitMQLeader;Redis;SummaryAPI;Processor;EntryGenerator;ExitGenerator
type FaultTarget string

// Targets of faults.
const (
	FaultTargetRabbitMQ       FaultTarget = "RabbitMQ"
	FaultTargetRabbitMQLeader FaultTarget = "RabbitMQLeader"
	FaultTargetRedis          FaultTarget = "Redis"
	FaultTargetSummaryAPI     FaultTarget = "SummaryAPI"
	FaultTargetProcessor      FaultTarget = "Processor"
	FaultTargetEntryGenerator FaultTarget = "EntryGenerator"
	FaultTargetExitGenerator  FaultTarget = "ExitGenerator"
)

// FaultAction is what a fault does to the pods of its target.
// +kubebuilder:validation:Enum=Kill;Restart;Evict;Pause;Isolate
type FaultAction string

// The actions of faults.
const (
	FaultActionKill    FaultAction = "Kill"
	FaultActionRestart FaultAction = "Restart"
	FaultActionEvict   FaultAction = "Evict"
	FaultActionPause   FaultAction = "Pause"
	FaultActionIsolate FaultAction = "Isolate"
)

// FaultPods is a number of pods such as 1, or a percentage such as "50%".
//
// +kubebuilder:validation:Type=""
// +kubebuilder:validation:XIntOrString
// +kubebuilder:validation:MaxLength=4
// +kubebuilder:validation:XValidation:rule="string(self).matches('^([1-9][0-9]{0,2}|[1-9][0-9]?%|100%)$')",message="must be a number from 1 to 999, or a percentage from \"1%\" to \"100%\""
type FaultPods string

// FaultPodsPattern is the regular expression for a FaultPods. The validation rules of the CRD repeat it.
const FaultPodsPattern = `^([1-9][0-9]{0,2}|[1-9][0-9]?%|100%)$`

var faultPodsSyntax = regexp.MustCompile(FaultPodsPattern) //nolint:gocritic // the CRD repeats the pattern, where \d would need escapes

// UnmarshalJSON accepts any JSON value and stores its text, like Quantity.UnmarshalJSON.
func (p *FaultPods) UnmarshalJSON(value []byte) error {
	var text string
	if json.Unmarshal(value, &text) != nil {
		text = numberText(value)
	}
	*p = FaultPods(text)
	return nil
}

// Parse returns either the number of pods or the percentage of pods. The other result is 0.
func (p FaultPods) Parse() (number, percent int, err error) {
	if !faultPodsSyntax.MatchString(string(p)) {
		return 0, 0, errors.New(`must be a number from 1 to 999, or a percentage from "1%" to "100%"`)
	}
	digits, isPercent := strings.CutSuffix(string(p), "%")
	value, err := strconv.Atoi(digits)
	if isPercent {
		return 0, value, err
	}
	return value, 0, err
}
