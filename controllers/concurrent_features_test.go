package controllers

import (
	"context"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/resources"
)

// The fake API server does not answer before it has received queries from two reconciles. So the test fails if one
// reconcile waits for the other.
func TestAddClusterFeatures_SlowAPIServer_DoesNotBlockOtherReconciles(t *testing.T) {
	t.Parallel()
	const reconciles = 2
	api := &meetingReader{}
	api.expected.Add(reconciles)
	r := &Reconciler{client: mapperOnly{}, direct: api, now: time.Now}
	var work sync.WaitGroup
	for range reconciles {
		work.Go(func() {
			input := resources.Input{}
			input.Served.ServiceMonitors = true
			if err := r.addClusterFeatures(t.Context(), &input); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
}

// meetingReader is a client that answers no call before it has received the expected number of calls.
type meetingReader struct {
	client.Reader

	expected sync.WaitGroup
}

func (m *meetingReader) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	m.expected.Done()
	m.expected.Wait()
	return nil
}

// mapperOnly is a client whose REST mapper is empty.
type mapperOnly struct{ client.Client }

func (mapperOnly) RESTMapper() meta.RESTMapper { return meta.NewDefaultRESTMapper(nil) }
