package purge

import (
	"context"
	"errors"
	"testing"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/store"
)

// server is a fake broker and a fake store. Both fail with the same error.
type server struct{ err error }

func (s server) Delete(context.Context) error { return s.err }

func (s server) Purge(context.Context) error { return s.err }

func TestRemove_ServerFailsOrDataIsForeign_ReturnsErrorOrReportsForeignData(t *testing.T) {
	t.Parallel()
	gone := errors.New("gone for good")
	for _, tt := range []struct {
		name                 string
		queues, keys         error
		foreign              string // "queues" or "keys" if they belong to another owner
		queuesWant, keysWant string // the texts of the errors, or "" for no error
	}{
		{"all is well", nil, nil, "", "", ""},
		{"the broker does not answer", gone, nil, "", "remove the queues of default.test: gone for good", ""},
		{"the store does not answer", nil, gone, "", "", "remove the keys of default.test: gone for good"},
		{"the queues belong to another owner", broker.ErrOtherOwner, nil, "queues", "", ""},
		{"the keys belong to another owner", nil, store.ErrOtherOwner, "keys", "", ""},
		{"both belong to another owner", broker.ErrOtherOwner, store.ErrOtherOwner, "queues and keys", "", ""},
		{"the queues belong to another owner, and the store does not answer", broker.ErrOtherOwner, gone, "queues", "", "remove the keys of default.test: gone for good"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			queues, queuesErr := RemoveQueues(t.Context(), "default.test", server{tt.queues})
			keys, keysErr := RemoveKeys(t.Context(), "default.test", server{tt.keys})
			if foreign := (Foreign{queues.Queues || keys.Queues, queues.Keys || keys.Keys}); foreign.String() != tt.foreign {
				t.Errorf("left are %q, want %q", foreign, tt.foreign)
			}
			if text(queuesErr) != tt.queuesWant || text(keysErr) != tt.keysWant {
				t.Errorf("the errors are %v and %v, want %q and %q", queuesErr, keysErr, tt.queuesWant, tt.keysWant)
			}
		})
	}
}

// text returns the text of an error, or "" for nil.
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
