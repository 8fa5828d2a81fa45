//go:build e2e

package e2e

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/resources"
	"github.com/parking-operator/parking-operator/internal/tlstest"
)

// The simulation has three RabbitMQ nodes and uses TLS everywhere. The test replaces all certificates while events
// are published.
func TestTLS_RotationUnderLoad_LosesNothingAndRestartsNothing(t *testing.T) {
	t.Parallel()
	skipWithoutNode(t, "connect from the pods")
	ns := newNamespace(t)
	sim := ns.applySample("tls.yaml", func(sim *v1alpha1.ParkingSimulation) {
		sim.Spec.Duration = v1alpha1.NewDuration(6 * time.Minute)
		lowRates(sim)
		shareNode(sim)
		useTLS(sim)
		sim.Spec.RabbitMQ.Managed.Replicas = new(int32(3))
	})
	ns.awaitCondition(sim, v1alpha1.ConditionReady, 2*readyTimeout)
	ns.awaitProgress(sim, len(ns.allPods()))

	clients := []resources.Component{resources.ComponentEntry, resources.ComponentExit, resources.ComponentProcessor}
	components := append(resources.Servers(), clients...)
	for _, c := range components {
		for _, pod := range ns.pods(sim, c) {
			checkPorts(t, c, pod)
		}
	}

	certificates := []certificateFile{{sim.Name + "-rabbitmq-nodes", resources.ComponentRabbitMQ, "/run/secrets/nodes-tls/tls.crt"}}
	for _, c := range components {
		certificates = append(certificates, certificateFile{resources.Name(sim, c) + "-tls", c, certificatePath})
	}
	ns.checkRenewal(sim, certificates, ns.recreateSecret)
	ns.awaitCondition(sim, v1alpha1.ConditionComplete, 10*time.Minute)
	ns.awaitPass(sim)
	ns.remove(sim)
}

// useTLS makes all components of a simulation use TLS.
func useTLS(sim *v1alpha1.ParkingSimulation) {
	spec := &sim.Spec
	spec.RabbitMQ.Managed = cmp.Or(spec.RabbitMQ.Managed, &v1alpha1.ManagedRabbitMQ{})
	spec.Redis.Managed = cmp.Or(spec.Redis.Managed, &v1alpha1.ManagedRedis{})
	spec.SummaryAPI.Managed = cmp.Or(spec.SummaryAPI.Managed, &v1alpha1.ManagedSummaryAPI{})
	spec.RabbitMQ.Managed.TLS, spec.Redis.Managed.TLS = &v1alpha1.TLSSpec{}, &v1alpha1.TLSSpec{}
	spec.SummaryAPI.Managed.TLS, spec.Monitoring.TLS = &v1alpha1.TLSSpec{}, &v1alpha1.TLSSpec{}
}

// checkPorts fails the test if the pod answers a client without TLS at a port that other pods can reach.
func checkPorts(t *testing.T, c resources.Component, pod corev1.Pod) {
	t.Helper()
	const epmd = 4369
	pid := pidOf(t, pod)
	// The local port of epmd never uses TLS, so an answer of epmd proves that the test detects answers without TLS.
	if c == resources.ComponentRabbitMQ && answersWithoutTLS(t, pid, epmd) == "" {
		t.Errorf("epmd in pod %s does not answer, so the test cannot tell whether other ports would", pod.Name)
	}
	for _, port := range listening(t, pid) {
		if answers := answersWithoutTLS(t, pid, port); answers != "" {
			t.Errorf("port %d of pod %s answers a client without TLS: %s", port, pod.Name, answers)
		}
	}
}

// certificateFile is the path at which the pods of a component mount the certificate of a Secret.
type certificateFile struct {
	secret    string
	component resources.Component
	path      string
}

const certificatePath = "/run/secrets/tls/tls.crt"

// checkRenewal renews all certificates with the function renew while events are published. All pods must get the new
// certificates, and no container may restart.
func (ns *namespace) checkRenewal(sim *v1alpha1.ParkingSimulation, certificates []certificateFile, renew func(secret string)) {
	ns.t.Helper()
	before := ns.incarnations()
	renewed := map[string][]byte{}
	for _, c := range certificates {
		if renewed[c.secret] == nil {
			renewed[c.secret] = ns.renewCertificate(c.secret, renew)
		}
	}
	ns.eventually("the new certificates in the pods", 3*time.Minute, func() error {
		for _, c := range certificates {
			pod := ns.pods(sim, c.component)[0]
			// The images of our own programs contain no command that could print the certificate, so read its file on the node.
			mounted := onNode(ns.t, "cat", "/proc/"+pidOf(ns.t, pod)+"/root"+c.path)
			if strings.TrimSpace(mounted) != string(bytes.TrimSpace(renewed[c.secret])) {
				return fmt.Errorf("pod %s does not have the new certificate of Secret %s", pod.Name, c.secret)
			}
		}
		return nil
	})
	for _, c := range []resources.Component{resources.ComponentEntry, resources.ComponentExit, resources.ComponentProcessor} {
		if _, err := ns.metric(sim, c, "parking_build_info", ""); err != nil {
			ns.t.Error(err)
		}
	}
	// New pods must connect with the new certificates. The existing pods must keep running.
	ns.edit(sim, func(spec *v1alpha1.ParkingSimulationSpec) { spec.Processor.Replicas = new(int32(3)) })
	ns.awaitPods(sim, resources.ComponentProcessor, 3, 2*time.Minute)
	ns.awaitProgress(sim, len(ns.allPods()))
	after := ns.incarnations()
	for container, incarnation := range before {
		if after[container] != incarnation {
			ns.t.Errorf("container %s: %s, want %s: the renewal must restart nothing", container, after[container], incarnation)
		}
	}
}

// recreateSecret deletes a Secret with a certificate, so that the operator creates a new one.
func (ns *namespace) recreateSecret(name string) {
	ns.t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: ns.name, Name: name}}
	if err := ns.Delete(ns.t.Context(), secret); err != nil {
		ns.t.Fatal(err)
	}
}

// renewCertificate renews the certificate of a Secret, and returns the new certificate.
func (ns *namespace) renewCertificate(name string, renew func(secret string)) []byte {
	ns.t.Helper()
	key := client.ObjectKey{Namespace: ns.name, Name: name}
	old, now := &corev1.Secret{}, &corev1.Secret{}
	if err := ns.Get(ns.t.Context(), key, old); err != nil {
		ns.t.Fatal(err)
	}
	renew(name)
	ns.eventually("another certificate in Secret "+name, time.Minute, func() error {
		if err := ns.Get(ns.t.Context(), key, now); err != nil {
			return err
		}
		if bytes.Equal(old.Data[corev1.TLSCertKey], now.Data[corev1.TLSCertKey]) {
			return errors.New("it is the old one")
		}
		return nil
	})
	return now.Data[corev1.TLSCertKey]
}

// greet is a script that sends greetings to the port $0. The other arguments are pairs of a protocol and a printf
// format. The command dd reads only once for each answer, because the server may leave the connection open.
const greet = `while [ $# -gt 0 ]; do
  answer=$(timeout 5 bash -c 'exec 3<>/dev/tcp/127.0.0.1/$0; printf "$1" >&3; dd bs=12 count=1 status=none <&3 | od -An -tx1' "$0" "$2")
  [ -z "$answer" ] || echo "$1:$answer"
  shift 2
done`

// answersWithoutTLS sends greetings of several protocols to a port, and returns the answers without TLS.
func answersWithoutTLS(t *testing.T, pid string, port int) string {
	t.Helper()
	command := []string{"nsenter", "--net", "--target", pid, "bash", "-c", greet, strconv.Itoa(port)}
	greetings := tlstest.Greetings()
	for _, protocol := range slices.Sorted(maps.Keys(greetings)) {
		digits := fmt.Sprintf("% x", greetings[protocol])
		command = append(command, protocol, `\x`+strings.ReplaceAll(digits, " ", `\x`))
	}
	var answers []string
	for line := range strings.Lines(onNode(t, command...)) {
		_, answer, _ := strings.Cut(line, ": ")
		// Omit TLS alerts (0x15), and "HTTP/1.0 400", the answer of a Go server that accepts only HTTPS.
		if !strings.HasPrefix(answer, "15 03") && !strings.HasPrefix(answer, "48 54 54 50 2f 31 2e 30 20 34 30 30") {
			answers = append(answers, strings.TrimSpace(line))
		}
	}
	return strings.Join(answers, ", ")
}
