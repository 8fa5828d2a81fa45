package controllers

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/cleanup"
)

func bindingOf(host string) *binding.Binding {
	return &binding.Binding{URI: &url.URL{Scheme: "amqp", Host: host}}
}

func TestLeftBehind_CleanupIsIncomplete_NamesRemainingQueuesAndKeys(t *testing.T) {
	t.Parallel()
	const queues, keys = "exchange and queues parking.default.sim* on RabbitMQ at amqp://h:5672 (Secret default/broker)", "keys parking:{default.sim:* on Redis (Secret default/store)"
	gone := errors.New("Secret default/broker does not exist")
	tests := map[string]struct {
		brokerRef, storeRef bool
		result              cleanupResult
		command             string
		want, unwanted      string
	}{
		"only the queues":             {true, true, cleanupResult{Result: cleanup.Result{Queues: gone}}, "--rabbitmq-uri URI", queues + ": Secret default/broker does not exist", "keys"},
		"only the keys":               {true, true, cleanupResult{Result: cleanup.Result{Keys: gone}}, "--redis-uri URI", keys, "queues"},
		"both":                        {true, true, cleanupResult{Result: cleanup.Result{Queues: gone, Keys: gone}}, "--rabbitmq-uri URI --redis-uri URI", "; and " + keys, "no answer"},
		"an attempt is still running": {true, true, cleanupResult{Result: cleanup.Result{Running: true}}, "--rabbitmq-uri URI --redis-uri URI", queues + ": no answer in time", "does not exist"},
		"Redis is managed":            {true, false, cleanupResult{Result: cleanup.Result{Queues: gone, Keys: gone}}, "--rabbitmq-uri URI", queues, "keys"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sim"}}
			if tt.brokerRef {
				sim.Spec.RabbitMQ.SecretRef = &v1alpha1.SecretReference{Name: "broker"}
			}
			if tt.storeRef {
				sim.Spec.Redis.SecretRef = &v1alpha1.SecretReference{Name: "store"}
			}
			s := newScope(sim, time.Now())
			s.broker = server{name: "RabbitMQ", origin: "Secret default/broker", remembered: bindingOf("h:5672")}
			s.store = server{name: "Redis", origin: "Secret default/store"}
			got := s.leftBehind(tt.result)
			if !strings.Contains(got, tt.want) || strings.Contains(got, tt.unwanted) || !strings.Contains(got, "'parking purge --simulation default.sim "+tt.command+"'") {
				t.Errorf("the message is %q, want it to contain %q and not %q", got, tt.want, tt.unwanted)
			}
		})
	}
}

func TestCleanupBinding_SecretDeleted_ReturnsTheLastKnownBinding(t *testing.T) {
	t.Parallel()
	current, before := bindingOf("current"), bindingOf("before")
	missing := found(stalled, reasonSecretMissing, "Secret default/broker does not exist: create it")
	tests := map[string]struct {
		server server
		want   *binding.Binding
		err    string
	}{
		"the Secret exists":              {server{binding: current, remembered: before}, current, ""},
		"the Secret is gone":             {server{finding: missing, remembered: before}, before, ""},
		"consent has been withdrawn":     {server{denied: true, finding: found(stalled, reasonSecretNotAllowed, "not allowed"), remembered: before}, nil, "not allowed"},
		"the Secret has never been read": {server{finding: missing}, nil, "the Secret no longer exists"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := tt.server.cleanupBinding()
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("the binding is %v (%v), want %v (%s)", got, err, tt.want, tt.err)
			}
		})
	}
}

func TestRememberBindings_SecretDeleted_KeepsBindingUntilPermissionIsRevoked(t *testing.T) {
	t.Parallel()
	r := &Reconciler{cleaner: cleanup.New(nil)}
	s := &scope{key: client.ObjectKey{Namespace: "default", Name: "sim"}}
	broker, store := server{binding: bindingOf("broker")}, server{binding: bindingOf("store")}
	both := cleanup.Bindings{Broker: broker.binding, Store: store.binding}
	for _, step := range []struct {
		what          string
		broker, store server
		want          cleanup.Bindings
	}{
		{"both Secrets exist", broker, store, both},
		{"the Secrets are gone", server{}, server{}, both},
		{"the permission for the broker is revoked", server{denied: true}, server{}, cleanup.Bindings{Store: store.binding}},
		{"the operator manages the broker", server{managed: true, binding: broker.binding}, server{}, cleanup.Bindings{Store: store.binding}},
		{"the operator manages both", server{managed: true}, server{managed: true}, cleanup.Bindings{}},
	} {
		s.broker, s.store = step.broker, step.store
		r.rememberBindings(s)
		if got := r.cleaner.Remembered(s.key); got != step.want {
			t.Errorf("%s: remembered is %+v, want %+v", step.what, got, step.want)
		}
	}
}
