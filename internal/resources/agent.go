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

// AgentPort is the port on which the agent in a pod receives commands. An agent is a sidecar that injects faults into
// the main container of its pod.
const AgentPort = 8090

// ContainerAgent is the name of the container in which an agent runs.
const ContainerAgent = "agent"

const (
	portAgent = "agent"
	portRelay = "relay"
	relayPort = 8091
	agentDir  = "/run/secrets/agent"

	// volumeFaultTarget is the name of an empty volume. The agent injects faults into the container that mounts it.
	volumeFaultTarget = "fault-target"

	// keyToken is the key of the token in the Secret that all agents of a simulation share.
	keyToken = "token"
)

// AgentCredentials authenticate the operator and the agents of one simulation to each other.
type AgentCredentials struct {
	// Token authenticates the operator. The certificate and the private key, both in PEM, authenticate the agents.
	Token, Certificate, PrivateKey string
}

// ReadAgentCredentials returns the credentials in the data of the agents' Secret. The data may be nil.
func ReadAgentCredentials(data map[string][]byte) AgentCredentials {
	return AgentCredentials{
		Token: string(data[keyToken]), Certificate: string(data[keyCertificate]), PrivateKey: string(data[keyPrivateKey]),
	}
}

// ComponentOf returns the component that a fault target refers to, or "" if the target is unknown.
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

// NeedsAgent reports whether the agent in the target's pod injects the faults with this action. The operator
// injects all other faults through the Kubernetes API.
func NeedsAgent(a plan.FaultAction) bool {
	return a == plan.ActionKill || a == plan.ActionPause || a == plan.ActionIsolate
}

// Servers returns the components that other components connect to.
func Servers() []Component { return []Component{ComponentRabbitMQ, ComponentRedis, ComponentSummaries} }

// isolates reports whether a plan isolates a component from a server.
func isolates(p *plan.Plan) bool {
	return slices.ContainsFunc(p.Faults, func(f plan.Fault) bool { return f.Action == plan.ActionIsolate })
}

// isRelayed reports whether the agents in the pods of a component relay the connections of its clients.
func isRelayed(p *plan.Plan, c Component) bool { return isolates(p) && slices.Contains(Servers(), c) }

// HasAgent reports whether the pods of a component have an agent.
func HasAgent(p *plan.Plan, c Component) bool {
	return isRelayed(p, c) || slices.ContainsFunc(p.Faults, func(f plan.Fault) bool {
		return ComponentOf(f.Target) == c && (f.Action == plan.ActionKill || f.Action == plan.ActionPause)
	})
}

// clientPort returns the Service port through which clients connect to a server or, if its agent relays connections, to
// the agent.
func (b *builder) clientPort(c Component, name string, number int32) corev1.ServicePort {
	p := servicePort(name, number)
	if isRelayed(b.plan, c) {
		p.TargetPort = intstr.FromString(portRelay)
	}
	return p
}

// ClientPort returns the container port to which clients of a component connect: its own, or that of its agent if the
// agent relays connections.
func ClientPort(p *plan.Plan, c Component) int32 {
	if isRelayed(p, c) {
		return relayPort
	}
	return portOf(c)
}

func portOf(c Component) int32 {
	switch c {
	case ComponentRabbitMQ:
		return amqpNumber
	case ComponentRedis:
		return redisNumber
	}
	return HTTPPort
}

// HasAgents reports whether any pod of the simulation has an agent.
func HasAgents(p *plan.Plan) bool {
	return slices.ContainsFunc(p.Faults, func(f plan.Fault) bool { return NeedsAgent(f.Action) })
}

// agents returns the Secret that the agents share, and the NetworkPolicy that lets the operator connect to them.
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

// addAgent adds an agent to the pod if faults hit its component.
func (b *builder) addAgent(spec *corev1.PodSpec, p pod) {
	if !HasAgent(b.plan, p.component) {
		return
	}
	spec.ShareProcessNamespace = new(true) // lets the agent signal the processes of the main container
	// Mount the volume fault-target only in the main container. The agent recognizes this container's processes by the
	// mount.
	for i := range spec.Containers {
		if spec.Containers[i].Name == p.main {
			spec.Containers[i].VolumeMounts = append(spec.Containers[i].VolumeMounts, readOnly(volumeFaultTarget, agent.Marker))
		}
	}
	spec.Containers = append(spec.Containers, b.hardened([]corev1.Container{b.agentContainer(p.component)})...)
	spec.Volumes = append(spec.Volumes, secretVolume(ContainerAgent, b.name(ComponentAgent)), emptyDir(volumeFaultTarget))
}

func (b *builder) agentContainer(target Component) corev1.Container {
	c := corev1.Container{
		Name:         ContainerAgent,
		Image:        b.Images.Parking,
		Args:         []string{"agent", "--secret-dir=" + agentDir},
		Ports:        []corev1.ContainerPort{containerPort(portAgent, AgentPort)},
		Resources:    requirements("10m", "32Mi", "128Mi"),
		VolumeMounts: []corev1.VolumeMount{readOnly(ContainerAgent, agentDir)},
		ReadinessProbe: &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
				Path: "/healthz", Port: intstr.FromString(portAgent), Scheme: corev1.URISchemeHTTPS,
			}},
			PeriodSeconds: 5, TimeoutSeconds: probeTimeout, FailureThreshold: 3,
		},
	}
	if isRelayed(b.plan, target) {
		c.Args = append(c.Args, fmt.Sprintf("--relay=:%d=127.0.0.1:%d", relayPort, portOf(target)))
		c.Ports = append(c.Ports, containerPort(portRelay, relayPort))
	}
	return c
}
