package controllers

import "fmt"

// state is the state of one part of a simulation, such as the broker.
type state int

const (
	// unchecked is the state of a part of the simulation that no phase of this reconcile has examined. The condition of
	// that part keeps its value.
	unchecked state = iota
	// ready means that a part of the simulation works.
	ready
	// unknown means that the operator cannot examine a part of the simulation while the spec is invalid.
	unknown
	// progressing means that a part is not ready, but is expected to become ready without a change by the user, for
	// example after a start or an outage.
	progressing
	// stalled means that a part of the simulation is not ready until a user acts. The message says what to do.
	stalled
)

// finding is the result of examining one part of a simulation. It contains the reason and the message for a
// condition.
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

// findings contains one finding for each part of a simulation. They determine the conditions of the simulation.
type findings struct {
	// spec is the finding about the validity of the spec. objects is the finding about applying the desired objects.
	spec, objects finding
	// volumes is about volumes that must grow. It does not delay the start of the simulation.
	volumes       finding
	broker, store finding
	summaryAPI    finding
	workloads     finding
	monitoring    finding
	ledger        finding
	completion    finding
	objectives    finding
	// running is the message for a simulation that is ready. It says which components are running.
	running string
	// notes are warnings about a valid spec, and about certificates that expire soon.
	notes []string
	// suspended and complete say whether the simulation is suspended or complete. In both cases, no generators run.
	suspended, complete bool
}

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
	reasonFaultInEffect      = "FaultInEffect"
	reasonVolumeResizing     = "VolumeResizing"
	reasonVolumeNotResized   = "VolumeNotResized"
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
	reasonUnusable           = "Unusable"
	reasonExternal           = "External"
	reasonNotRead            = "NotRead"
	reasonUnreadable         = "Unreadable"
	reasonRead               = "Read"
	reasonDisabled           = "Disabled"
	reasonCreated            = "Created"
	reasonNoDuration         = "NoDuration"
	reasonNotExamined        = "NotExamined"
	reasonNotStarted         = "NotStarted"
	reasonStopping           = "StoppingGenerators"
	reasonDraining           = "Draining"
	reasonNotComplete        = "NotComplete"
	reasonObjectivesMet      = "Met"
	reasonObjectivesUnmet    = "NotMet"
)
