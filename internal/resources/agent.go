package resources

import (
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

// NeedsAgent reports whether an agent injects an action. The operator injects the others through the Kubernetes API.
func NeedsAgent(a plan.FaultAction) bool { return a == plan.ActionKill || a == plan.ActionPause }

// HasAgent reports whether the pods of a component have an agent.
func HasAgent(p *plan.Plan, c Component) bool {
	return slices.ContainsFunc(p.Faults, func(f plan.Fault) bool { return ComponentOf(f.Target) == c && NeedsAgent(f.Action) })
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
	spec.Containers = append(spec.Containers, b.hardened([]corev1.Container{b.agentContainer()})...)
	spec.Volumes = append(spec.Volumes, secretVolume(containerAgent, b.name(ComponentAgent)), emptyDir(volumeFaultTarget))
}

func (b *builder) agentContainer() corev1.Container {
	return corev1.Container{
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
}
