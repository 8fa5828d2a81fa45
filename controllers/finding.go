package controllers

import "fmt"

// state is how a part of a simulation fares.
type state int

const (
	// unchecked means that a phase did not come to look at it.
	unchecked state = iota
	// good means that it is as it should be.
	good
	// progressing means that it will be by itself, or that it will once something outside is mended that
	// nobody has to tell the operator of.
	progressing
	// stalled means that somebody has to do something, which the message says.
	stalled
)

// finding is what a phase found out about a part.
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

// findings are all that the conditions rest on.
type findings struct {
	// spec and objects are about the spec itself, and about bringing what it asks for into the cluster.
	spec, objects finding
	broker, store finding
	summaryAPI    finding
	workloads     finding
	monitoring    finding
	ledger        finding
	completion    finding
	objectives    finding
	// warnings say what a valid spec will probably not do as its author expects.
	warnings []string
	// suspended and complete say why generators are not to run.
	suspended, complete bool
}

// The reasons of conditions.
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
	reasonNotChecked         = "NotChecked"
)
