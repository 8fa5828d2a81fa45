package processor

import (
	"errors"
	"time"
)

// Stage is the stage of the pipeline at which a message failed. It is a value of the metric label "stage".
type Stage string

// The stages of processing at which a message can fail.
const (
	// StageParse means that the body is not an event of the queue's type.
	StageParse Stage = "parse"
	// StageStore means that a call to the store failed.
	StageStore Stage = "store"
	// StageSummarize means that there can be no summary, because the exit is dated before its entry.
	StageSummarize Stage = "summarize"
	// StagePost means that the summary API did not accept the summary.
	StagePost Stage = "post"
	// StageSettle means that the message was processed but the broker could not settle its delivery.
	StageSettle Stage = "settle"
	// StagePanic means that the handler panicked.
	StagePanic Stage = "panic"
)

// Stages returns all stages, in the order of the pipeline.
func Stages() []Stage {
	return []Stage{StageParse, StageStore, StageSummarize, StagePost, StageSettle, StagePanic}
}

// quotesNoMessage reports whether the errors of this stage never quote a message. Other errors may contain a plate,
// which may be logged only at debug level.
func (s Stage) quotesNoMessage() bool { return s == StageParse || s == StageSummarize }

// Failure is the error of a message whose processing failed.
type Failure struct {
	Stage Stage
	// EventID is the identifier of the event. It is empty if the body cannot be parsed.
	EventID string
	Err     error

	permanent bool
}

// Transient returns a Failure of a message whose processing may succeed later.
func Transient(stage Stage, eventID string, err error) *Failure {
	return &Failure{Stage: stage, EventID: eventID, Err: err}
}

// Permanent returns a Failure of a message that can never be processed.
func Permanent(stage Stage, eventID string, err error) *Failure {
	return &Failure{Stage: stage, EventID: eventID, Err: err, permanent: true}
}

// Error implements error. The text contains the stage and the cause.
func (f *Failure) Error() string { return string(f.Stage) + ": " + f.Err.Error() }

// Unwrap returns the cause, for errors.Is and errors.As.
func (f *Failure) Unwrap() error { return f.Err }

// asFailure returns the Failure in the chain of err. It converts any other error to a transient failure of the
// store, and nil to nil.
func asFailure(err error) *Failure {
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[*Failure](err); ok {
		return f
	}
	return Transient(StageStore, "", err)
}

// isRejection reports whether the summary API rejected a summary permanently.
func isRejection(err error) bool {
	rejection, ok := errors.AsType[interface {
		error
		Permanent() bool
	}](err)
	return ok && rejection.Permanent()
}

// retryAfter returns the minimum delay that the error requests before the next attempt, at most maxRetryAfter. It
// returns 0 if the error does not request a delay.
func retryAfter(err error) time.Duration {
	if hint, ok := errors.AsType[interface {
		error
		RetryAfter() time.Duration
	}](err); ok {
		return min(hint.RetryAfter(), maxRetryAfter)
	}
	return 0
}
