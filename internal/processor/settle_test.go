package processor

import (
	"errors"
	"fmt"
	"testing"

	"github.com/parking-operator/parking-operator/internal/store"
)

func TestSettlePolicy(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		outcome Outcome
		failure *Failure
		want    action
	}{
		{name: "a recorded entry is acknowledged", outcome: OutcomeRecorded, want: acknowledge},
		{name: "a matched exit is acknowledged", outcome: OutcomeMatched, want: acknowledge},
		{name: "an exit that was expected to find no visit is acknowledged", outcome: OutcomeUnmatchedExpected, want: acknowledge},
		{name: "an exit that finally found no visit is acknowledged", outcome: OutcomeUnmatchedUnexpected, want: acknowledge},
		{name: "a stranger's exit that finally found no visit is acknowledged", outcome: OutcomeEntryNotFound, want: acknowledge},
		{name: "a duplicate is acknowledged", outcome: OutcomeDuplicate, want: acknowledge},
		{name: "an exit ahead of its entry is retried later", outcome: OutcomeEarly, want: retryLater},
		{name: "what can never be processed is dead-lettered", failure: Permanent(StageParse, "", errDown), want: deadLetter},
		{name: "what may be processed another time is processed again", failure: Transient(StageStore, "", errDown), want: processAgain},
		{name: "a failure counts more than the outcome beside it", outcome: OutcomeMatched, failure: Transient(StagePost, "", errDown), want: processAgain},
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

func TestAnyErrorIsAFailure(t *testing.T) {
	t.Parallel()
	permanent := Permanent(StagePost, "id", errDown)
	tests := []struct {
		name      string
		err       error
		wantStage Stage
		permanent bool
	}{
		{name: "a failure is itself", err: permanent, wantStage: StagePost, permanent: true},
		{name: "a wrapped failure is found", err: fmt.Errorf("handler: %w", permanent), wantStage: StagePost, permanent: true},
		{name: "any other error is a transient one of the store", err: errDown, wantStage: StageStore},
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
		t.Errorf("no error is the failure %v", f)
	}
}

func TestDeadLetterKeyIsStable(t *testing.T) {
	t.Parallel()
	named := Permanent(StagePost, "run-0-7", errDown)
	if got := deadLetterKey(named, []byte("body")); got != "run-0-7" {
		t.Errorf("key %q, want the event's identifier", got)
	}
	nameless := Permanent(StageParse, "", errDown)
	a, b := deadLetterKey(nameless, []byte("{")), deadLetterKey(nameless, []byte("["))
	if a == b {
		t.Errorf("two bodies have the key %q", a)
	}
	if again := deadLetterKey(nameless, []byte("{")); again != a {
		t.Errorf("the same body has the keys %q and %q", a, again)
	}
}

func TestDeliveriesAreToldApartByTheirMarks(t *testing.T) {
	t.Parallel()
	var batch []finished
	for _, epoch := range []string{"a", "b", "a", "c", "a", "b"} {
		batch = append(batch, finished{mark: store.Mark{Epoch: epoch}})
	}
	var groups []string
	for len(batch) > 0 {
		n := gatherMark(batch)
		for _, f := range batch[:n] {
			if f.mark != batch[0].mark {
				t.Errorf("a delivery of epoch %s is among those of %s", f.mark.Epoch, batch[0].mark.Epoch)
			}
		}
		groups = append(groups, fmt.Sprint(batch[0].mark.Epoch, n))
		batch = batch[n:]
	}
	if got := fmt.Sprint(groups); len(groups) != 3 {
		t.Errorf("groups %s, want three", got)
	}
}
