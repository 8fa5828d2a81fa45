package resources

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// networkPolicies restricts all pods to DNS and to the connections of their components. Every address can read the
// metrics, because the operator does not know where Prometheus runs.
func (b *builder) networkPolicies() []client.Object {
	policies := []client.Object{b.denyPolicy(), b.clientPolicy(), b.httpPolicy()}
	if b.rabbitMQ != nil {
		policies = append(policies, b.rabbitMQPolicy())
	}
	if b.redis != nil {
		policies = append(policies, b.redisPolicy())
	}
	if b.summaries != nil && isRelayed(b.plan, ComponentSummaries) {
		policies = append(policies, b.relayPolicy())
	}
	if b.summaries != nil && b.summaries.Database != nil {
		policies = append(policies, b.databasePolicy())
	}
	return policies
}

// denyPolicy returns the policy that forbids the simulation's pods all connections except DNS. Policies are additive,
// so the other policies can allow further connections.
func (b *builder) denyPolicy() client.Object {
	return b.policy(b.sim.Name+"-deny", componentAll, networkingv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{SimulationLabel: b.sim.Name}},
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		// Allow DNS on port 53. Also allow port 5353, to which some clusters translate port 53 of the DNS Service
		// before network policies apply.
		Egress: []networkingv1.NetworkPolicyEgressRule{{Ports: []networkingv1.NetworkPolicyPort{
			port(corev1.ProtocolUDP, 53), port(corev1.ProtocolTCP, 53), port(corev1.ProtocolUDP, 5353), port(corev1.ProtocolTCP, 5353),
		}}},
	})
}

// clientPolicy allows generators and processors to connect to the servers.
func (b *builder) clientPolicy() client.Object {
	var egress []networkingv1.NetworkPolicyEgressRule
	if b.rabbitMQ == nil || b.redis == nil || b.summaries == nil {
		// The IP addresses of an external server are unknown.
		egress = []networkingv1.NetworkPolicyEgressRule{{}}
	} else {
		for _, server := range Servers() {
			egress = append(egress, networkingv1.NetworkPolicyEgressRule{
				To: []networkingv1.NetworkPolicyPeer{b.peers(server)}, Ports: tcp(ClientPort(b.plan, server)),
			})
		}
	}
	return b.policy(b.sim.Name+"-clients", componentAll, networkingv1.NetworkPolicySpec{
		PodSelector: *b.peers(ComponentEntry, ComponentExit, ComponentProcessor).PodSelector,
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeEgress},
		Egress:      egress,
	})
}

// httpPolicy allows connections from any address to metrics and the summary API. The policy must not have egress rules:
// kube-router would apply the ingress rules to outgoing connections.
func (b *builder) httpPolicy() client.Object {
	return b.policy(b.sim.Name+"-http", componentAll, networkingv1.NetworkPolicySpec{
		PodSelector: *b.peers(ComponentEntry, ComponentExit, ComponentProcessor, ComponentSummaries).PodSelector,
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
		Ingress:     []networkingv1.NetworkPolicyIngressRule{{Ports: tcp(HTTPPort)}},
	})
}

func (b *builder) rabbitMQPolicy() client.Object {
	var clustering []networkingv1.NetworkPolicyPort
	for _, p := range b.nodePorts() {
		clustering = append(clustering, port(corev1.ProtocolTCP, p.Port))
	}
	if b.rabbitMQ.TLS == nil {
		// Without TLS, a tool such as rabbitmqctl listens on one of 11 ports, to which nodes connect to reply. See
		// https://www.rabbitmq.com/docs/networking#ports.
		commands := port(corev1.ProtocolTCP, commandsFirstNumber)
		commands.EndPort = new(int32(commandsLastNumber))
		clustering = append(clustering, commands)
	}
	nodes := []networkingv1.NetworkPolicyPeer{b.peers(ComponentRabbitMQ)}
	return b.policy(b.name(ComponentRabbitMQ), ComponentRabbitMQ, networkingv1.NetworkPolicySpec{
		PodSelector: *b.selector(ComponentRabbitMQ),
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		Ingress: []networkingv1.NetworkPolicyIngressRule{
			{From: b.clients(), Ports: tcp(ClientPort(b.plan, ComponentRabbitMQ))},
			{From: nodes, Ports: clustering},
			{Ports: tcp(rabbitMQMetricsNumber)},
		},
		Egress: []networkingv1.NetworkPolicyEgressRule{{To: nodes, Ports: clustering}},
	})
}

func (b *builder) redisPolicy() client.Object {
	ingress := []networkingv1.NetworkPolicyIngressRule{{From: b.clients(), Ports: tcp(ClientPort(b.plan, ComponentRedis))}}
	if b.exportsRedis() {
		ingress = append(ingress, networkingv1.NetworkPolicyIngressRule{Ports: tcp(redisMetricsNumber)})
	}
	return b.policy(b.name(ComponentRedis), ComponentRedis, networkingv1.NetworkPolicySpec{
		PodSelector: *b.selector(ComponentRedis),
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
		Ingress:     ingress,
	})
}

// relayPolicy returns the policy that allows connections from any address to the relay (a TCP forwarder) in front of
// the summary API.
func (b *builder) relayPolicy() client.Object {
	return b.policy(b.name(ComponentSummaries), ComponentSummaries, networkingv1.NetworkPolicySpec{
		PodSelector: *b.selector(ComponentSummaries),
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
		Ingress:     []networkingv1.NetworkPolicyIngressRule{{Ports: tcp(relayPort)}},
	})
}

func (b *builder) policy(name string, c Component, spec networkingv1.NetworkPolicySpec) client.Object {
	return &networkingv1.NetworkPolicy{ObjectMeta: b.object(name, c), Spec: spec}
}

// clients returns selectors for the pods that connect to RabbitMQ and Redis. The selectors include the operator's pods,
// because the operator reads the ledger.
func (b *builder) clients() []networkingv1.NetworkPolicyPeer {
	return []networkingv1.NetworkPolicyPeer{b.peers(ComponentEntry, ComponentExit, ComponentProcessor), b.operator()}
}

// operator returns the peer of a NetworkPolicy that selects the operator's pods.
func (b *builder) operator() networkingv1.NetworkPolicyPeer {
	namespace := &metav1.LabelSelector{}
	if b.OperatorNamespace != "" {
		namespace.MatchLabels = map[string]string{corev1.LabelMetadataName: b.OperatorNamespace}
	}
	return networkingv1.NetworkPolicyPeer{
		NamespaceSelector: namespace,
		PodSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{nameLabel: OperatorName}},
	}
}

// peers returns a selector for the pods of the given components of this simulation.
func (b *builder) peers(components ...Component) networkingv1.NetworkPolicyPeer {
	if len(components) == 1 {
		return networkingv1.NetworkPolicyPeer{PodSelector: b.selector(components[0])}
	}
	values := make([]string, len(components))
	for i, c := range components {
		values[i] = string(c)
	}
	return networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{
		MatchLabels: map[string]string{SimulationLabel: b.sim.Name},
		MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: ComponentLabel, Operator: metav1.LabelSelectorOpIn, Values: values},
		},
	}}
}

func tcp(numbers ...int32) []networkingv1.NetworkPolicyPort {
	ports := make([]networkingv1.NetworkPolicyPort, len(numbers))
	for i, number := range numbers {
		ports[i] = port(corev1.ProtocolTCP, number)
	}
	return ports
}

func port(protocol corev1.Protocol, number int32) networkingv1.NetworkPolicyPort {
	return networkingv1.NetworkPolicyPort{Protocol: &protocol, Port: new(intstr.FromInt32(number))}
}
