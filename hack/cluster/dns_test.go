package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestHostsFile_ListsServicesAndReadyEndpoints(t *testing.T) {
	t.Parallel()
	service := func(name, address string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: corev1.ServiceSpec{ClusterIP: address}}
	}
	endpoint := func(address string, ready bool, hostname *string) discoveryv1.Endpoint {
		return discoveryv1.Endpoint{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}, Hostname: hostname}
	}
	slice := func(service string, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Labels: map[string]string{discoveryv1.LabelServiceName: service}}, Endpoints: endpoints,
		}
	}
	got := hosts(
		[]*corev1.Service{service("web", "10.96.0.7"), service("broker", corev1.ClusterIPNone), service("external", "")},
		[]*discoveryv1.EndpointSlice{
			slice("web", endpoint("10.244.0.9", true, nil)),
			slice("broker", endpoint("10.244.0.5", true, new("broker-0")), endpoint("10.244.0.6", false, new("broker-1")), endpoint("10.244.0.7", true, nil)),
		},
	)
	const want = `10.244.0.5 broker-0.broker.ns.svc.cluster.local broker.ns.svc.cluster.local
10.244.0.7 broker.ns.svc.cluster.local
10.96.0.7 web.ns.svc.cluster.local
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the hosts file differs (-want +got):\n%s", diff)
	}
}
