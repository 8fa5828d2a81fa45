package broker_test

import (
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
)

func TestQueueCheck_UnknownQueue_ReturnsError(t *testing.T) {
	t.Parallel()
	tests := []struct {
		queue  broker.Queue
		text   string
		exists bool
	}{
		{broker.Queue{Type: event.TypeEntry, Partition: 0}, "entry.0", true},
		{broker.Queue{Type: event.TypeExit, Partition: 2}, "exit.2", true},
		{broker.Queue{Type: event.TypeExit, Partition: 3}, "exit.3", false},
		{broker.Queue{Type: event.TypeExit, Partition: -1}, "exit.-1", false},
		{broker.Queue{Type: "arrival", Partition: 0}, "arrival.0", false},
		{broker.Queue{}, ".0", false},
	}
	for _, tt := range tests {
		if got := tt.queue.String(); got != tt.text {
			t.Errorf("queue %+v is called %q", tt.queue, got)
		}
		err := tt.queue.Check(3)
		if (err == nil) != tt.exists {
			t.Errorf("the check of queue %s returned %v", tt.queue, err)
		}
		if err != nil && !strings.Contains(err.Error(), "0 to 2") {
			t.Errorf("the error does not say what exists: %v", err)
		}
	}
}

func TestReasonBounded_DetailIsTooLong_IsTruncatedBetweenCharacters(t *testing.T) {
	t.Parallel()
	tests := []struct{ detail, want string }{
		{"", ""},
		{"short", "short"},
		{strings.Repeat("x", broker.MaxDetail), strings.Repeat("x", broker.MaxDetail)},
		{strings.Repeat("x", broker.MaxDetail+1), strings.Repeat("x", broker.MaxDetail)},
		{"1" + strings.Repeat("é", broker.MaxDetail), "1" + strings.Repeat("é", (broker.MaxDetail-1)/2)},
		{strings.Repeat("\x80", broker.MaxDetail+1), ""}, // only continuation bytes of UTF-8
	}
	for _, tt := range tests {
		if got := (broker.Reason{Detail: tt.detail}).Bounded().Detail; got != tt.want {
			t.Errorf("%d bytes are cut to %d", len(tt.detail), len(got))
		}
	}
}
