package kubectl

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	constants "k8s.io/apimachinery/pkg/util/portforward"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
)

// tunnel is a connection to a pod through the API server. It can carry several connections to ports of the pod at
// the same time.
type tunnel interface {
	// Dial connects to a port of the pod.
	Dial(port int32) (net.Conn, error)
	Close() error
}

// openTunnel connects to a pod with the permissions of the user. The user needs the permission in forwardRule. No
// port is opened on the user's machine.
func (c *cluster) openTunnel(ctx context.Context, pod *corev1.Pod) (tunnel, error) {
	dialer, err := c.dialer(pod)
	if err != nil {
		return nil, fmt.Errorf("connect to pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	type result struct {
		connection httpstream.Connection
		err        error
	}
	done := make(chan result, 1)
	go func() {
		connection, _, err := dialer.Dial(constants.PortForwardV1Name)
		done <- result{connection, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return nil, c.explain(r.err, "connect to pod "+pod.Namespace+"/"+pod.Name, forwardRule())
		}
		return &podTunnel{connection: r.connection}, nil
	case <-ctx.Done():
		go func() {
			if r := <-done; r.err == nil {
				_ = r.connection.Close() // the caller no longer waits for the tunnel
			}
		}()
		return nil, fmt.Errorf("connect to pod %s/%s: %w", pod.Namespace, pod.Name, ctx.Err())
	}
}

// forwardRule is the RBAC rule that allows port forwarding. WebSockets need the verb get, and SPDY needs the verb
// create.
func forwardRule() rule { return onCore("pods/portforward", "get,create") }

// dialer returns a dialer that uses WebSockets, or SPDY if the API server or a proxy in front of it does not support
// WebSockets.
func (c *cluster) dialer(pod *corev1.Pod) (httpstream.Dialer, error) {
	config := rest.CopyConfig(c.config)
	config.APIPath, config.GroupVersion = "/api", &corev1.SchemeGroupVersion
	config.NegotiatedSerializer = serializer.NewCodecFactory(c.Scheme()).WithoutConversion()
	requests, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, err
	}
	url := requests.Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("portforward").URL()
	transport, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		return nil, err
	}
	webSocket, err := portforward.NewSPDYOverWebsocketDialerForStreaming(url, config)
	if err != nil {
		return nil, err
	}
	overSPDY := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, url)
	return portforward.NewFallbackDialerForStreaming(webSocket, overSPDY, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	}), nil
}

// podTunnel implements tunnel with the protocol of kubectl port-forward. In this protocol, each connection is a pair
// of streams: one for data and one for an error message.
type podTunnel struct {
	connection httpstream.Connection
	requests   atomic.Int64
}

// Close implements tunnel.
func (t *podTunnel) Close() error { return t.connection.Close() }

// Dial implements tunnel. It succeeds even if no process listens on the port. In this case, the first read from the
// connection fails.
func (t *podTunnel) Dial(port int32) (net.Conn, error) {
	headers := http.Header{}
	headers.Set(corev1.PortHeader, strconv.Itoa(int(port)))
	headers.Set(corev1.PortForwardRequestIDHeader, strconv.FormatInt(t.requests.Add(1), 10))
	headers.Set(corev1.StreamType, corev1.StreamTypeError)
	failure, err := t.connection.CreateStream(headers)
	if err != nil {
		return nil, fmt.Errorf("open a stream to the pod: %w", err)
	}
	_ = failure.Close() // closes only the write side: this client writes nothing to the stream
	headers.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := t.connection.CreateStream(headers)
	if err != nil {
		return nil, fmt.Errorf("open a stream to the pod: %w", err)
	}
	c := &podConn{Stream: data, tunnel: t.connection, failure: failure, failed: make(chan string, 1)}
	go func() {
		// Ignore a read error: if the connection is broken, reading the data stream fails too.
		message, _ := io.ReadAll(io.LimitReader(failure, maxFailure))
		c.failed <- strings.TrimSpace(string(message))
		if len(message) > 0 {
			_ = data.Reset() // close the data stream, which some servers leave open after an error
		}
	}()
	return c, nil
}

const (
	// maxFailure is the maximum length of an error message that is read from a pod, in bytes.
	maxFailure = 4 << 10
	// failureTime is how long a failed read waits for the error message of the pod.
	failureTime = time.Second
)

// portError is the kubelet's message about a failed connection to a port of a pod.
type portError string

func (e portError) Error() string { return string(e) }

// podConn is a connection to a port of a pod. It does not support deadlines.
type podConn struct {
	httpstream.Stream

	tunnel  httpstream.Connection
	failure httpstream.Stream
	failed  chan string
}

// Read reads data. If the pod has reported why the connection failed, Read returns the pod's message as the error.
func (c *podConn) Read(p []byte) (int, error) {
	n, err := c.Stream.Read(p)
	if err == nil || n > 0 {
		return n, err
	}
	select {
	case message := <-c.failed:
		if message != "" {
			err = portError(message)
		}
	case <-time.After(failureTime):
	}
	return n, err
}

// Close ends the connection.
func (c *podConn) Close() error {
	err := c.Stream.Reset()
	c.tunnel.RemoveStreams(c.Stream, c.failure)
	return err
}

// podAddr takes the place of a pod's address, which is unknown.
type podAddr struct{}

func (podAddr) Network() string { return "pod" }
func (podAddr) String() string  { return "pod" }

// LocalAddr implements net.Conn.
func (c *podConn) LocalAddr() net.Addr { return podAddr{} }

// RemoteAddr implements net.Conn.
func (c *podConn) RemoteAddr() net.Addr { return podAddr{} }

// SetDeadline implements net.Conn. It does nothing.
func (c *podConn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn. It does nothing.
func (c *podConn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn. It does nothing.
func (c *podConn) SetWriteDeadline(time.Time) error { return nil }
