package processor

import (
	"errors"
	"fmt"
	"testing"

	"github.com/parking-operator/parking-operator/internal/store"
)

func TestDecide_ReturnsTheActionForEachOutcomeAndFailure(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		outcome Outcome
		failure *Failure
		want    action
	}{
		{name: "a recorded entry is acknowledged", outcome: OutcomeRecorded, want: acknowledge},
		{name: "a matched exit is acknowledged", outcome: OutcomeMatched, want: acknowledge},
		{name: "an expected unmatched exit is acknowledged", outcome: OutcomeUnmatchedExpected, want: acknowledge},
		{name: "an unexpected unmatched exit is acknowledged", outcome: OutcomeUnmatchedUnexpected, want: acknowledge},
		{name: "an external exit without a visit is acknowledged", outcome: OutcomeEntryNotFound, want: acknowledge},
		{name: "a duplicate is acknowledged", outcome: OutcomeDuplicate, want: acknowledge},
		{name: "an exit ahead of its entry is retried later", outcome: OutcomeEarly, want: retryLater},
		{name: "a permanent failure is dead-lettered", failure: Permanent(StageParse, "", errDown), want: deadLetter},
		{name: "a transient failure is processed again", failure: Transient(StageStore, "", errDown), want: processAgain},
		{name: "a failure takes precedence over the outcome", outcome: OutcomeMatched, failure: Transient(StagePost, "", errDown), want: processAgain},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := decide(tt.outcome, tt.failure); got != tt.want {
				t.Errorf("decide(%v, %v) = %d, want %d", tt.outcome, tt.failure, got, tt.want)
			}
		})
	}
}

func TestAsFailure_EachKindOfError_HasTheRightStageAndPermanence(t *testing.T) {
	t.Parallel()
	permanent := Permanent(StagePost, "id", errDown)
	tests := []struct {
		name      string
		err       error
		wantStage Stage
		permanent bool
	}{
		{name: "a failure is returned as it is", err: permanent, wantStage: StagePost, permanent: true},
		{name: "a wrapped failure is found", err: fmt.Errorf("handler: %w", permanent), wantStage: StagePost, permanent: true},
		{name: "any other error is a transient failure of the store", err: errDown, wantStage: StageStore},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := asFailure(tt.err)
			if f.Stage != tt.wantStage || f.permanent != tt.permanent || !errors.Is(f, errDown) {
				t.Errorf("failure %v of stage %s, permanent %t; want stage %s, permanent %t", f, f.Stage, f.permanent, tt.wantStage, tt.permanent)
			}
		})
	}
	if f := asFailure(nil); f != nil {
		t.Errorf("asFailure(nil) = %v, want nil", f)
	}
}

func TestDeadLetterKey_Redelivery_HasTheSameKey(t *testing.T) {
	t.Parallel()
	named := Permanent(StagePost, "run-0-7", errDown)
	if got := deadLetterKey(named, []byte("body")); got != "run-0-7" {
		t.Errorf("key %q, want the identifier of the event", got)
	}
	unnamed := Permanent(StageParse, "", errDown)
	a, b := deadLetterKey(unnamed, []byte("{")), deadLetterKey(unnamed, []byte("["))
	if a == b {
		t.Errorf("two bodies have the key %q", a)
	}
	if again := deadLetterKey(unnamed, []byte("{")); again != a {
		t.Errorf("the same body has the keys %q and %q", a, again)
	}
}

func TestGroupByMark_MarksAlternate_OneGroupPerMark(t *testing.T) {
	t.Parallel()
	var batch []work
	for _, epoch := range []string{"a", "b", "a", "c", "a", "b"} {
		batch = append(batch, work{mark: store.Mark{Epoch: epoch}})
	}
	var groups []string
	for len(batch) > 0 {
		n := groupByMark(batch)
		for _, f := range batch[:n] {
			if f.mark != batch[0].mark {
				t.Errorf("a delivery of epoch %s is in the group of epoch %s", f.mark.Epoch, batch[0].mark.Epoch)
			}
		}
		groups = append(groups, fmt.Sprint(batch[0].mark.Epoch, n))
		batch = batch[n:]
	}
	if got := fmt.Sprint(groups); len(groups) != 3 {
		t.Errorf("groups %s, want three", got)
	}
}
