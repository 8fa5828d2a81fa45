package wiring

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/broker"
)

// server records the order in which queues and keys are deleted.
type server struct {
	removed *[]string
	err     error
}

func (s server) Delete(context.Context) error {
	*s.removed = append(*s.removed, "queues")
	return s.err
}

func (s server) Purge(context.Context) error {
	*s.removed = append(*s.removed, "keys")
	return s.err
}

func TestRemove_DeletesQueuesBeforeKeys(t *testing.T) {
	t.Parallel()
	gone := errors.New("gone for good")
	for _, tt := range []struct {
		name   string
		queues error
		want   string // in the error
	}{
		{"all is well", nil, ""},
		{"the broker does not answer", gone, "remove the queues of default.test: gone for good"},
		{"the queues belong to another owner", broker.ErrOtherOwner, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var removed []string
			err := Remove(t.Context(), "default.test", server{&removed, tt.queues}, server{&removed, nil})
			if diff := cmp.Diff([]string{"queues", "keys"}, removed); diff != "" {
				t.Errorf("removed (-want +got):\n%s", diff)
			}
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want %q", err, tt.want)
			}
		})
	}
	if err := Remove(t.Context(), "default.test", nil, nil); err != nil {
		t.Errorf("where there is nothing to remove: %v", err)
	}
}
