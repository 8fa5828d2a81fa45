package resources

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/agent"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// AgentPort is the port at which agents receive commands.
const AgentPort = 8090

const (
	// containerAgent is the name of the container of an agent.
	containerAgent = "agent"
	portAgent      = "agent"
	portRelay      = "relay"
	relayNumber    = 8091
	agentDir       = "/run/secrets/agent"

	// volumeFaultTarget is the name of the empty volume that marks the target.
	volumeFaultTarget = "fault-target"

	// The keys of the Secret of the agents. The names of the certificate and its key are those of a TLS Secret.
	keyToken       = "token"
	keyCertificate = corev1.TLSCertKey
	keyPrivateKey  = corev1.TLSPrivateKeyKey
)

// AgentCredentials are those with which the operator and the agents of one simulation trust each other.
type AgentCredentials struct {
	// Token authenticates the operator, the certificate and its key, in PEM, the agents.
	Token, Certificate, PrivateKey string
}

// ReadAgentCredentials returns the credentials in the data of the Secret of the agents, which may be nil.
func ReadAgentCredentials(data map[string][]byte) AgentCredentials {
	return AgentCredentials{
		Token: string(data[keyToken]), Certificate: string(data[keyCertificate]), PrivateKey: string(data[keyPrivateKey]),
	}
}

// ComponentOf returns the component that a fault hits.
func ComponentOf(t plan.FaultTarget) Component {
	switch t {
	case plan.TargetRabbitMQ, plan.TargetRabbitMQLeader:
		return ComponentRabbitMQ
	case plan.TargetRedis:
		return ComponentRedis
	case plan.TargetSummaryAPI:
		return ComponentSummaries
	case plan.TargetEntryGenerator:
		return ComponentEntry
	case plan.TargetExitGenerator:
		return ComponentExit
	case plan.TargetProcessor:
		return ComponentProcessor
	}
	return ""
}

// NeedsAgent reports whether agents inject an action. The operator injects the others through the Kubernetes API.
func NeedsAgent(a plan.FaultAction) bool {
	return a == plan.ActionKill || a == plan.ActionPause || a == plan.ActionIsolate
}

// Servers are the components to which the others connect.
func Servers() []Component { return []Component{ComponentRabbitMQ, ComponentRedis, ComponentSummaries} }

// isolates reports whether a plan has isolations. The connections of all clients to all servers then go through the
// agents of the servers, so that those of one server or of one client can be cut.
func isolates(p *plan.Plan) bool {
	return slices.ContainsFunc(p.Faults, func(f plan.Fault) bool { return f.Action == plan.ActionIsolate })
}

// isRelayed reports whether the agents of a component forward connections to it.
func isRelayed(p *plan.Plan, c Component) bool { return isolates(p) && slices.Contains(Servers(), c) }

// HasAgent reports whether the pods of a component have an agent.
func HasAgent(p *plan.Plan, c Component) bool {
	return isRelayed(p, c) || slices.ContainsFunc(p.Faults, func(f plan.Fault) bool {
		return ComponentOf(f.Target) == c && (f.Action == plan.ActionKill || f.Action == plan.ActionPause)
	})
}

// clientPort returns the port of a Service through which clients reach a server, at the server itself or at its agent.
func (b *builder) clientPort(c Component, name string, number int32) corev1.ServicePort {
	p := servicePort(name, number)
	if isRelayed(b.plan, c) {
		p.TargetPort = intstr.FromString(portRelay)
	}
	return p
}

// clientNumber returns the port of the pods at which clients reach a server.
func (b *builder) clientNumber(c Component, number int32) int32 {
	if isRelayed(b.plan, c) {
		return relayNumber
	}
	return number
}

// HasAgents reports whether any pods have an agent.
func HasAgents(p *plan.Plan) bool {
	return slices.ContainsFunc(p.Faults, func(f plan.Fault) bool { return NeedsAgent(f.Action) })
}

// agents returns the Secret of the agents, and the policy that lets the operator reach them.
func (b *builder) agents() ([]client.Object, error) {
	if !HasAgents(b.plan) {
		return nil, nil
	}
	c := b.Credentials.Agent
	return []client.Object{
		b.secret(ComponentAgent, map[string]string{keyToken: c.Token, keyCertificate: c.Certificate, keyPrivateKey: c.PrivateKey}),
		b.policy(b.name(ComponentAgent), ComponentAgent, networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{SimulationLabel: b.sim.Name}},
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
			Ingress: []networkingv1.NetworkPolicyIngressRule{{
				From: []networkingv1.NetworkPolicyPeer{b.operator()}, Ports: tcp(AgentPort),
			}},
		}),
	}, nil
}

// addAgent adds the agent to the pod of a component that faults hit. It marks the main container by a mount, so that the
// agent signals its processes and no others, and gives all containers one process namespace.
func (b *builder) addAgent(spec *corev1.PodSpec, p pod) {
	if !HasAgent(b.plan, p.component) {
		return
	}
	spec.ShareProcessNamespace = new(true)
	for i := range spec.Containers {
		if spec.Containers[i].Name == p.main {
			spec.Containers[i].VolumeMounts = append(spec.Containers[i].VolumeMounts, readOnly(volumeFaultTarget, agent.Marker))
		}
	}
	spec.Containers = append(spec.Containers, b.hardened([]corev1.Container{b.agentContainer(p.component)})...)
	spec.Volumes = append(spec.Volumes, secretVolume(containerAgent, b.name(ComponentAgent)), emptyDir(volumeFaultTarget))
}

func (b *builder) agentContainer(target Component) corev1.Container {
	c := corev1.Container{
		Name:         containerAgent,
		Image:        b.Images.Parking,
		Args:         []string{"agent", "--secret-dir=" + agentDir},
		Ports:        []corev1.ContainerPort{containerPort(portAgent, AgentPort)},
		Resources:    requirements("10m", "32Mi", "128Mi"),
		VolumeMounts: []corev1.VolumeMount{readOnly(containerAgent, agentDir)},
		ReadinessProbe: &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString(portAgent)}},
			PeriodSeconds: 5, TimeoutSeconds: probeTimeout, FailureThreshold: 3,
		},
	}
	if isRelayed(b.plan, target) {
		servers := map[Component]int32{ComponentRabbitMQ: amqpNumber, ComponentRedis: redisNumber, ComponentSummaries: HTTPPort}
		c.Args = append(c.Args, fmt.Sprintf("--relay=:%d=127.0.0.1:%d", relayNumber, servers[target]))
		c.Ports = append(c.Ports, containerPort(portRelay, relayNumber))
	}
	return c
}
