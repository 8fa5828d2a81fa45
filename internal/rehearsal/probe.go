package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/httpserver"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// verify returns an error if the target of a pause or an isolation works as if there were no fault.
func (i *injector) verify(ctx context.Context, a attempt, commanded []fault.Chosen) error {
	ctx, cancel := context.WithTimeout(ctx, min(i.timeouts.Probe, a.For))
	defer cancel()
	_, err := forEachPod(a.Chosen, func(c *fault.Chosen) (time.Time, error) {
		evidence := ""
		// A pod that no longer exists cannot show that the fault has no effect.
		if pod, err := i.podOf(ctx, c); err == nil {
			evidence = i.probe(ctx, &a.Record, pod)
		}
		if evidence == "" {
			return time.Time{}, nil
		}
		return time.Time{}, fmt.Errorf("pod %s: %s", c.Name, evidence)
	})
	if err == nil || !i.isActive(ctx, a.ID(), commanded) {
		return nil
	}
	return fmt.Errorf("the agents answered that the fault is in effect, but the target works: %w", err)
}

// isActive reports whether the agents in all given pods answer that the fault is still in effect.
func (i *injector) isActive(ctx context.Context, id string, commanded []fault.Chosen) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healTimeout)
	defer cancel()
	_, err := forEachPod(commanded, func(c *fault.Chosen) (time.Time, error) {
		pod, err := i.podOf(ctx, c)
		if err != nil {
			return time.Time{}, err
		}
		f, err := i.ask(ctx, pod, id)
		if err == nil && !f.Healed.IsZero() {
			err = errors.New("the fault has ended")
		}
		return time.Time{}, err
	})
	return err == nil
}

// probe returns evidence that a fault has no effect on a pod, such as an answer of a paused server. Without evidence,
// it returns "".
func (i *injector) probe(ctx context.Context, r *fault.Record, pod *corev1.Pod) string {
	component := resources.ComponentOf(r.Target)
	port := i.clientPort(i.target().Plan, component)
	address := net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(int(port)))
	switch {
	case component == resources.ComponentRabbitMQ && replies(ctx, address, "AMQP\x00\x00\x09\x01"),
		component == resources.ComponentRedis && replies(ctx, address, "PING\r\n"):
		return "the server answers clients"
	case component == resources.ComponentRabbitMQ, component == resources.ComponentRedis:
		return ""
	case !hitsItself(r):
		return i.stillReaches(ctx, component, pod, port)
	}
	if status, _, err := i.get(ctx, component, pod, port, "/healthz"); err == nil && status == http.StatusOK {
		return "the process answers requests"
	}
	return ""
}

func (i *injector) get(ctx context.Context, c resources.Component, pod *corev1.Pod, port int32, path string) (status int, body []byte, err error) {
	address := net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(int(port)))
	if resources.TLSOf(i.target().Simulation, c) != nil {
		// The certificate need not be verified, because the request contains no secret. A false response affects only
		// this simulation, and the author of the simulation can falsify responses anyway.
		return i.pods.GetUnverified(ctx, "https://"+address+path)
	}
	return i.pods.Get(ctx, "http://"+address+path)
}

// stillReaches returns which servers a processor or generator still reaches, according to its readiness endpoint. It
// returns "" if the answer proves nothing, for example from a proxy.
func (i *injector) stillReaches(ctx context.Context, c resources.Component, pod *corev1.Pod, port int32) string {
	status, body, err := i.get(ctx, c, pod, port, "/readyz")
	if err != nil {
		return ""
	}
	rabbitmq, redis := fails(body, httpserver.CheckRabbitMQ), fails(body, httpserver.CheckRedis)
	switch {
	case status == http.StatusOK && strings.TrimSpace(string(body)) == httpserver.OK:
		return "the readiness check still reaches RabbitMQ and Redis"
	case status != http.StatusServiceUnavailable || rabbitmq == redis:
		return ""
	case rabbitmq:
		return "the readiness check still reaches Redis"
	}
	return "the readiness check still reaches RabbitMQ"
}

// fails reports whether the check with the given name failed, according to the body of a readiness response. This body
// contains one line for each failed check.
func fails(body []byte, check string) bool {
	return strings.Contains("\n"+string(body), "\n"+check+": ")
}

// replies reports whether a server sends anything after the client has sent the greeting, the first bytes of a
// protocol.
func replies(ctx context.Context, address, greeting string) bool {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() }) // closing the connection ends a blocked read
	defer func() {
		stop()
		_ = c.Close() // ignore the error: if ctx has ended, the connection is already closed
	}()
	if _, err := io.WriteString(c, greeting); err != nil {
		return false
	}
	n, _ := c.Read(make([]byte, 1)) // if the read fails, n is 0
	return n > 0
}

// cutNothing reports whether an isolation affected no connection. It returns false if this is unknown.
func (i *injector) cutNothing(ctx context.Context, r *fault.Record, commanded []fault.Chosen) bool {
	ctx, cancel := context.WithTimeout(ctx, healTimeout)
	defer cancel()
	var connections atomic.Int64
	_, err := forEachPod(commanded, func(c *fault.Chosen) (time.Time, error) {
		pod, err := i.podOf(ctx, c)
		if err != nil {
			return time.Time{}, err
		}
		f, err := i.ask(ctx, pod, r.ID())
		switch {
		case err != nil:
			return time.Time{}, err
		case f.Connections == nil:
			return time.Time{}, errors.New("the agent does not report the number of connections")
		}
		connections.Add(int64(*f.Connections))
		return time.Time{}, nil
	})
	return err == nil && connections.Load() == 0
}
