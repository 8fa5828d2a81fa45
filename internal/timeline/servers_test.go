package timeline

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWatchServer_AvailabilityChanges_AddsOneMarkPerChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hang := errors.New("hang") // a ping with this result waits until its context ends
		results := []error{nil, errors.New("refused"), errors.New("refused"), nil, nil, hang, nil}
		var got []Mark
		start := time.Now()
		ctx, stop := context.WithCancel(t.Context())
		WatchServer(ctx, SubjectStore, func(ctx context.Context) error {
			err := results[0]
			if results = results[1:]; len(results) == 0 {
				stop()
				return errors.New("closed") // WatchServer must ignore an error after its context has ended
			}
			if errors.Is(err, hang) {
				<-ctx.Done()
			}
			return err
		}, func(m Mark) { got = append(got, m) })
		const lost, back = "connection lost, or no answer", "answers again"
		if diff := cmp.Diff([]Mark{
			{At: start.Add(time.Second), Kind: MarkUnavailable, Subject: "store", Message: lost},
			{At: start.Add(3 * time.Second), Kind: MarkAvailable, Subject: "store", Message: back},
			{At: start.Add(5*time.Second + pingTimeout), Kind: MarkUnavailable, Subject: "store", Message: lost},
		}, got); diff != "" {
			t.Errorf("marks differ (-want +got):\n%s", diff)
		}
	})
}
