package rehearsal

import (
	"context"
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/fault"
)

// If a pod does not exist, the isolated clients cannot connect to it. If the pod cannot be read, it may still exist and
// accept connections.
func TestEnsureCut_PodCannotBeRead_FailsUnlessThePodIsGone(t *testing.T) {
	t.Parallel()
	unavailable := errors.New("the API server is not available")
	for name, tt := range map[string]struct{ get, want error }{
		"the pod is gone":                 {apierrors.NewNotFound(corev1.Resource("pods"), "redis-0"), nil},
		"the API server is not available": {unavailable, unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := &injector{
				target: func() Target { return Target{Simulation: &v1alpha1.ParkingSimulation{}} },
				client: fake.NewClientBuilder().WithScheme(runtime.NewScheme()).WithInterceptorFuncs(interceptor.Funcs{
					Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
						return tt.get
					},
				}).Build(),
			}
			again, err := i.ensureCut(t.Context(), fault.Record{}, &fault.Chosen{Name: "redis-0", ID: "1"}, true, time.Now().Add(time.Minute))
			if again || !errors.Is(err, tt.want) {
				t.Errorf("ensureCut returns %t and the error %v, want false and the error %v", again, err, tt.want)
			}
		})
	}
}
