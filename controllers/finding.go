package controllers

import "fmt"

// state is the state of one part of a simulation, such as the broker.
type state int

const (
	// unchecked means that no phase of this reconcile has examined this part of the simulation. The condition of the
	// part keeps its value.
	unchecked state = iota
	// ready means that this part of the simulation works.
	ready
	// unknown means that this part of the simulation cannot be examined.
	unknown
	// progressing means that this part of the simulation is not ready, but is expected to become ready without a change
	// by the user. For example, it is starting, or the operator waits until an external problem is solved.
	progressing
	// stalled means that a user must act. The message says what to do.
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

// findings contains the findings about all parts of a simulation. The conditions are computed from it.
type findings struct {
	// The field spec contains the finding about the validity of the spec. The field objects contains the finding about
	// applying the desired objects.
	spec, objects finding
	// volumes is the finding about volumes that must grow. It does not delay the start, because the simulation works
	// with the current size of the volumes.
	volumes       finding
	broker, store finding
	summaryAPI    finding
	workloads     finding
	monitoring    finding
	ledger        finding
	completion    finding
	objectives    finding
	// running is a text that says which components are running. It is the message for a simulation that is ready.
	running string
	// notes are warnings about a valid spec, and about certificates that expire soon.
	notes []string
	// suspended is true if the simulation is suspended. complete is true if the simulation is complete. In both cases,
	// no generators run.
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
