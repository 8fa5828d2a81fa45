package tally_test

import (
	"context"
	"errors"
	"runtime"
	"testing"

	"pgregory.net/rapid"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/broker/internal/tally"
)

func TestTallyWait_NothingUnconfirmed_ReturnsAtOnce(t *testing.T) {
	t.Parallel()
	var counts tally.Tally
	counts.Confirm(counts.Accept())
	if err := counts.Wait(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}

func TestTallyWait_ContextEndsOrBrokerCloses_ReturnsTheError(t *testing.T) {
	t.Parallel()
	var counts tally.Tally
	counts.Accept()

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := counts.Wait(ended, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("wait with an ended context returned %v", err)
	}
	closed := make(chan struct{})
	close(closed)
	if err := counts.Wait(t.Context(), closed); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("wait on a closed broker returned %v", err)
	}
}

// Wait must return exactly when all messages accepted before the call are confirmed, in whatever order that
// happens. Messages accepted later must not delay it.
func TestTallyWait_ReturnsWhenEarlierMessagesAreConfirmed(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var counts tally.Tally
		before := takeNumbers(t, &counts, 1)
		result := make(chan error, 1)
		go func() { result <- counts.Wait(context.Background(), nil) }()
		for counts.Waiting() == 0 {
			runtime.Gosched() // yield to the goroutine that calls Wait
		}
		after := takeNumbers(t, &counts, 0)

		for i, number := range rapid.Permutation(before).Draw(t, "order") {
			for len(after) > 0 && rapid.Bool().Draw(t, "confirm a later one") {
				counts.Confirm(after[0])
				after = after[1:]
			}
			if counts.Waiting() != 1 {
				t.Fatalf("the wait ended with %d of %d unconfirmed", len(before)-i, len(before))
			}
			counts.Confirm(number)
		}
		if err := <-result; err != nil {
			t.Fatal(err)
		}
		if got := counts.Unconfirmed(); got != len(after) {
			t.Fatalf("%d are unconfirmed, want %d", got, len(after))
		}
	})
}

func takeNumbers(t *rapid.T, counts *tally.Tally, least int) []uint64 {
	numbers := make([]uint64, rapid.IntRange(least, 20).Draw(t, "taken"))
	for i := range numbers {
		numbers[i] = counts.Accept()
	}
	return numbers
}
