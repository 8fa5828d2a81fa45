package controllers

import "fmt"

// state is the state of one part of a simulation, such as the broker.
type state int

const (
	// unchecked means that no phase has examined the part. Its condition does not change.
	unchecked state = iota
	// ready means that the part works.
	ready
	// progressing means that the part is expected to work without a change by the user: it is starting, or the
	// operator waits for an external cause to disappear.
	progressing
	// stalled means that a user has to act. The message says how.
	stalled
)

// finding is the result of examining one part of a simulation.
type finding struct {
	state   state
	reason  string
	message string
}

func found(s state, reason, format string, args ...any) finding {
	message := format
	if len(args) > 0 {
		message = fmt.Sprintf(format, args...)
	}
	return finding{state: s, reason: reason, message: message}
}

// findings are the input from which the conditions are computed.
type findings struct {
	// spec is the finding about the spec. objects is the finding about applying the desired objects.
	spec, objects finding
	broker, store finding
	summaryAPI    finding
	workloads     finding
	monitoring    finding
	ledger        finding
	completion    finding
	objectives    finding
	// running describes the running components, for the message of a simulation that is ready.
	running string
	// notes are warnings about a valid spec.
	notes []string
	// suspended and complete are reasons why no generators run.
	suspended, complete bool
}

// Reasons of conditions.
const (
	reasonReady              = "Ready"
	reasonRunning            = "Running"
	reasonSuspended          = "Suspended"
	reasonComplete           = "Complete"
	reasonProgressing        = "Progressing"
	reasonInvalidSpec        = "InvalidSpec"
	reasonTemplateNotAllowed = "TemplateNotAllowed"
	reasonNameTaken          = "NameTaken"
	reasonRejected           = "Rejected"
	reasonQuota              = "QuotaExceeded"
	reasonForbidden          = "Forbidden"
	reasonApplyFailed        = "ApplyFailed"
	reasonPodsFailing        = "PodsFailing"
	reasonSecretMissing      = "SecretNotFound"
	reasonSecretInvalid      = "SecretInvalid"
	reasonSecretNotAllowed   = "SecretNotAllowed"
	reasonClusterMissing     = "ClusterNotFound"
	reasonClusterUnready     = "ClusterNotReady"
	reasonClusterDenied      = "ClusterNotAllowed"
	reasonKindNotServed      = "KindNotServed"
	reasonConnecting         = "Connecting"
	reasonUnreachable        = "Unreachable"
	reasonExternal           = "External"
	reasonNotRead            = "NotRead"
	reasonUnreadable         = "Unreadable"
	reasonRead               = "Read"
	reasonDisabled           = "Disabled"
	reasonCreated            = "Created"
	reasonNoDuration         = "NoDuration"
	reasonNotStarted         = "NotStarted"
	reasonStopping           = "StoppingGenerators"
	reasonDraining           = "Draining"
	reasonNotComplete        = "NotComplete"
	reasonObjectivesMet      = "Met"
	reasonObjectivesUnmet    = "NotMet"
)
