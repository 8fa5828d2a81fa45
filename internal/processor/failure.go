package processor

import (
	"errors"
	"time"
)

// Stage is the stage of the pipeline at which something failed, and the value of the metric label stage.
type Stage string

// The stages.
const (
	// StageParse: the message is not the event that its queue is for.
	StageParse Stage = "parse"
	// StageStore: the store could not be asked, or not be waited for.
	StageStore Stage = "store"
	// StageSummarize: an exit and its entry make no visit.
	StageSummarize Stage = "summarize"
	// StagePost: the summary API did not accept the summary.
	StagePost Stage = "post"
	// StageSettle: the broker did not take the acknowledgement, the retry or the dead letter.
	StageSettle Stage = "settle"
	// StagePanic: a fault in this program; the message is dead-lettered and everything else goes on.
	StagePanic Stage = "panic"
)

// Stages lists the stages in the order of the pipeline.
func Stages() []Stage {
	return []Stage{StageParse, StageStore, StageSummarize, StagePost, StageSettle, StagePanic}
}

// speaksForItself reports whether what is said of a refused message at this stage are our own words, which
// quote no plate.
func (s Stage) speaksForItself() bool { return s == StageParse || s == StageSummarize }

// Failure says at which stage a message failed and whether processing it again is of use.
type Failure struct {
	Stage Stage
	// EventID is the event's identifier, empty when the body could not be parsed.
	EventID string
	// Err is the cause.
	Err error

	permanent bool
}

// Transient returns the failure of a message that is to be processed again.
func Transient(stage Stage, eventID string, err error) *Failure {
	return &Failure{Stage: stage, EventID: eventID, Err: err}
}

// Permanent returns the failure of a message that can never be processed.
func Permanent(stage Stage, eventID string, err error) *Failure {
	return &Failure{Stage: stage, EventID: eventID, Err: err, permanent: true}
}

// Error names the stage and the cause.
func (f *Failure) Error() string { return string(f.Stage) + ": " + f.Err.Error() }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

// asFailure returns the Failure that err is or wraps, and takes any other error for a transient one of
// the store. It returns nil for nil.
func asFailure(err error) *Failure {
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[*Failure](err); ok {
		return f
	}
	return Transient(StageStore, "", err)
}

// isRejection reports whether the summary API rejected a summary for good.
func isRejection(err error) bool {
	rejection, ok := errors.AsType[interface {
		error
		Permanent() bool
	}](err)
	return ok && rejection.Permanent()
}

// retryAfter returns how long the failed party asked to be left alone, up to maxHint, 0 if it did not.
func retryAfter(err error) time.Duration {
	if hint, ok := errors.AsType[interface {
		error
		RetryAfter() time.Duration
	}](err); ok {
		return min(hint.RetryAfter(), maxHint)
	}
	return 0
}
