package manifests_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/controllers"
	"github.com/parking-operator/parking-operator/internal/observer"
	"github.com/parking-operator/parking-operator/internal/resources"
	"github.com/parking-operator/parking-operator/internal/wiring"
	"github.com/parking-operator/parking-operator/test/apiserver"
)

// TestRoles_ProvideAllPermissionsOfTheOperator runs an operator with exactly the permissions that the manifests grant.
func TestRoles_ProvideAllPermissionsOfTheOperator(t *testing.T) {
	for _, tt := range []struct {
		directory, simulations string
		watched                []string
	}{
		{"namespaced", system, []string{system}},
		{"default", metav1.NamespaceDefault, nil},
	} {
		t.Run(tt.directory, func(t *testing.T) {
			server := apiserver.New(t)
			c := server.Client
			namespaced(t, c)
			installRoles(t, c, tt.directory)
			objects := kustomization(t, tt.directory)
			server.Eventually("the API server to grant the permissions", func() error { return granted(t.Context(), c, objects) })
			refusals := runOperator(server, tokenOf(t, server), tt.watched)
			defer func() {
				if got := refusals.all(); len(got) > 0 {
					t.Errorf("the API server denied %v", got)
				}
			}()
			sim := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: tt.simulations, Name: tt.directory}}
			// To delete the data of a simulation from an external server, the operator needs further permissions.
			sim.Spec.Redis.SecretRef = &v1alpha1.SecretReference{Name: "store"}
			server.Create(&corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{
					Namespace: tt.simulations, Name: "store", Annotations: map[string]string{v1alpha1.AllowedSimulationsAnnotation: "*"},
				},
				StringData: map[string]string{"uri": "redis://127.0.0.1:1"},
			})
			server.Create(sim)
			server.Eventually("finalizer and status", func() error { return updated(t.Context(), c, sim) })
			dashboard := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: tt.simulations, Name: sim.Name + "-dashboard"}}
			server.Eventually("the last child", func() error { return c.Get(t.Context(), client.ObjectKeyFromObject(dashboard), dashboard) })
			annotated(server, sim)
			growVolume(server, sim)
			if err := c.Delete(t.Context(), sim); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// installRoles creates the service accounts, roles and bindings in the manifests, and deletes them when the test
// ends.
func installRoles(t *testing.T, c client.Client, directory string) {
	t.Helper()
	for _, object := range kustomization(t, directory) {
		if object.GroupVersionKind().Group != rbacv1.GroupName && object.GetKind() != "ServiceAccount" {
			continue
		}
		install(t, c, object)
		t.Cleanup(func() {
			if err := c.Delete(context.Background(), object); err != nil {
				t.Error(err)
			}
		})
	}
}

// granted returns an error until the operator has one permission of each rule.
func granted(ctx context.Context, c client.Client, objects []*unstructured.Unstructured) error {
	rules := map[string][]rbacv1.PolicyRule{} // the rules of each role, by the kind and the name of the role
	var bindings []rbacv1.RoleBinding
	for _, object := range objects {
		var role rbacv1.Role // contains a Role or a ClusterRole, which have the same fields
		var binding rbacv1.RoleBinding
		var err error
		switch object.GetKind() {
		case "Role", "ClusterRole":
			err = runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &role)
			rules[object.GetKind()+"/"+role.Name] = role.Rules
		case "RoleBinding", "ClusterRoleBinding":
			err = runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &binding)
			bindings = append(bindings, binding)
		}
		if err != nil {
			return err
		}
	}
	for _, binding := range bindings {
		for _, rule := range rules[binding.RoleRef.Kind+"/"+binding.RoleRef.Name] {
			resource, subresource, _ := strings.Cut(rule.Resources[0], "/")
			review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
				User: "system:serviceaccount:" + system + ":" + operatorAccount,
				ResourceAttributes: &authorizationv1.ResourceAttributes{
					Namespace: binding.Namespace, Verb: rule.Verbs[0],
					Group: rule.APIGroups[0], Resource: resource, Subresource: subresource, Name: strings.Join(rule.ResourceNames, ""),
				},
			}}
			if err := c.Create(ctx, review); err != nil {
				return err
			}
			if !review.Status.Allowed {
				return fmt.Errorf("%s does not grant %v yet: %s", binding.Name, rule, review.Status.Reason)
			}
		}
	}
	return nil
}

// operatorAccount is the name of the operator's ServiceAccount.
const operatorAccount = "parking-operator-controller-manager"

// tokenOf returns a client configuration that authenticates with a token of the operator's ServiceAccount.
func tokenOf(t *testing.T, server *apiserver.Cluster) *rest.Config {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: operatorAccount}}
	request := &authenticationv1.TokenRequest{}
	if err := server.Client.SubResource("token").Create(t.Context(), account, request); err != nil {
		t.Fatal(err)
	}
	as := rest.AnonymousClientConfig(server.Config)
	as.BearerToken = request.Status.Token
	as.QPS = -1
	return as
}

// runOperator runs an operator until the test ends. It records the requests that the API server denies.
func runOperator(server *apiserver.Cluster, as *rest.Config, namespaces []string) *refusals {
	refused := &refusals{}
	as.Wrap(refused.wrap)
	server.RunOperator(as, controllers.ManagerOptions{
		Options: controllers.Options{
			Images: resources.Images{Parking: "parking", RabbitMQ: "rabbitmq", Redis: "redis", RedisExporter: "exporter"},
		},
		Namespaces: namespaces,
		Servers:    wiring.Servers{Options: wiring.Options{Logger: slog.New(slog.DiscardHandler)}},
		Summaries:  observer.NewHTTPClient(resources.HTTPPort),
		Logger:     slog.New(slog.NewTextHandler(server.T.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
		Manager: manager.Options{
			LeaderElection: true, LeaderElectionID: "operator.simulation.parking.dev", LeaderElectionNamespace: system,
			LeaderElectionReleaseOnCancel: true,
		},
	})
	return refused
}

// updated returns an error until the operator has set the conditions and the finalizer of a simulation.
func updated(ctx context.Context, c client.Client, sim *v1alpha1.ParkingSimulation) error {
	if err := c.Get(ctx, client.ObjectKeyFromObject(sim), sim); err != nil {
		return err
	}
	if len(sim.Status.Conditions) == 0 || len(sim.Finalizers) == 0 {
		return fmt.Errorf("the conditions are %v, the finalizers %v", sim.Status.Conditions, sim.Finalizers)
	}
	return nil
}

// annotated creates a pod of the simulation, and waits until the operator has annotated it.
func annotated(server *apiserver.Cluster, sim *v1alpha1.ParkingSimulation) {
	pod := server.Pod(sim, resources.ComponentEntry, nil)
	server.Eventually("the annotation of a running pod", func() error {
		err := server.Client.Get(server.T.Context(), client.ObjectKeyFromObject(pod), pod)
		if err == nil && len(pod.Annotations) == 0 {
			err = errors.New("the pod has no annotation")
		}
		return err
	})
}

// growVolume raises the volume size in the spec of a simulation's RabbitMQ, and waits until the operator has enlarged
// the PersistentVolumeClaim.
func growVolume(server *apiserver.Cluster, sim *v1alpha1.ParkingSimulation) {
	claim := server.Claim(sim, resources.ComponentRabbitMQ, 0, server.StorageClass(true), "2Gi")
	server.Edit(sim, func() {
		sim.Spec.RabbitMQ.Managed = &v1alpha1.ManagedRabbitMQ{Storage: v1alpha1.StorageSpec{Size: new(v1alpha1.Quantity("3Gi"))}}
	})
	server.Eventually("a larger claim", func() error {
		err := server.Client.Get(server.T.Context(), client.ObjectKeyFromObject(claim), claim)
		if size := claim.Spec.Resources.Requests.Storage(); err == nil && size.String() != "3Gi" {
			err = fmt.Errorf("the claim requests %s", size)
		}
		return err
	})
}

// refusals records the requests to which the API server responds with 403 Forbidden.
type refusals struct {
	mu    sync.Mutex
	lines []string
}

func (r *refusals) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		response, err := next.RoundTrip(request)
		if err == nil && response.StatusCode == http.StatusForbidden {
			r.mu.Lock()
			r.lines = append(r.lines, request.Method+" "+request.URL.String())
			r.mu.Unlock()
		}
		return response, err
	})
}

func (r *refusals) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.lines...)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
