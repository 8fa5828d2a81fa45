package wiring

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/store"
)

// server is a fake broker and a fake store. It records the order in which queues and keys are deleted.
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
		name         string
		queues, keys error
		foreign      string
		want         string // a text that the error must contain, or "" for no error
	}{
		{"all is well", nil, nil, "", ""},
		{"the broker does not answer", gone, nil, "", "remove the queues of default.test: gone for good"},
		{"the store does not answer", nil, gone, "", "remove the keys of default.test: gone for good"},
		{"the queues belong to another owner", broker.ErrOtherOwner, nil, "queues", ""},
		{"the keys belong to another owner", nil, store.ErrOtherOwner, "keys", ""},
		{"both belong to another owner", broker.ErrOtherOwner, store.ErrOtherOwner, "queues and keys", ""},
		{"the queues belong to another owner, and the store does not answer", broker.ErrOtherOwner, gone, "queues", "remove the keys"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var removed []string
			foreign, err := Remove(t.Context(), time.Minute, "default.test", server{&removed, tt.queues}, server{&removed, tt.keys})
			if diff := cmp.Diff([]string{"queues", "keys"}, removed); diff != "" {
				t.Errorf("removed (-want +got):\n%s", diff)
			}
			if foreign.String() != tt.foreign {
				t.Errorf("left are %q, want %q", foreign, tt.foreign)
			}
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want %q", err, tt.want)
			}
		})
	}
	if foreign, err := Remove(t.Context(), time.Minute, "default.test", nil, nil); err != nil || foreign != (Foreign{}) {
		t.Errorf("where there is nothing to remove: %v, left are %q", err, foreign)
	}
}

// hung is a broker that never answers.
type hung struct{}

func (hung) Delete(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// hasTime is a store that fails if its caller has no time left.
type hasTime struct{ removed *bool }

func (s hasTime) Purge(ctx context.Context) error {
	*s.removed = ctx.Err() == nil
	return ctx.Err()
}

func TestRemove_BrokerDoesNotRespond_DeletesKeysAndNamesTheQueues(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var removed bool
		_, err := Remove(t.Context(), time.Minute, "default.test", hung{}, hasTime{&removed})
		if !removed || err == nil || !strings.Contains(err.Error(), "remove the queues of default.test") || strings.Contains(err.Error(), "keys") {
			t.Errorf("the keys are removed: %t; error is %v, want one about the queues only", removed, err)
		}
	})
}
