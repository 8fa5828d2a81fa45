package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/binding"
)

// Bounds of connections and answers.
const (
	dialTimeout = 3 * time.Second
	idleTimeout = 90 * time.Second
	keepAlive   = 15 * time.Second
	// maxDrained is how much of an unused answer is read so that its connection can be used again.
	maxDrained = 64 << 10
	// maxHeader is the maximum size of the headers of an answer.
	maxHeader = 64 << 10
	// maxRedirects is the maximum number of redirects of one request.
	maxRedirects = 3
)

// transport sends requests to one URL.
type transport struct {
	endpoint *url.URL
	binding  cachedBinding
	timeout  time.Duration
	// connections is the maximum number of connections, which are kept open while they are idle.
	connections int
	// proxied is whether requests use the proxy that the environment names.
	proxied bool
	// fromEnvironment replaces http.ProxyFromEnvironment, which reads the environment once per process, in tests.
	fromEnvironment func(*http.Request) (*url.URL, error)

	mu     sync.Mutex
	client *http.Client
	// tls is the binding whose TLS material client uses.
	tls binding.Binding
}

// reply is the answer to a request.
type reply struct {
	status int
	header http.Header
	// body is the body up to the limit, or what arrived of it.
	body []byte
	// truncated is whether the body is longer than the limit, or ended early.
	truncated bool
}

// success reports whether the status is 2xx.
func (r *reply) success() bool { return r.status/100 == 2 }

// send makes one request. It reads up to limit bytes of the body. An answer with any status is no error.
func (t *transport) send(ctx context.Context, method string, body []byte, header http.Header, limit int64) (*reply, error) {
	b, err := t.binding.read()
	if err != nil {
		return nil, err
	}
	client, err := t.clientFor(b)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, t.endpoint.String(), bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the request cannot be made") // the cause would quote the address
	}
	request.Header = header
	authorize(request, b)
	response, err := client.Do(request)
	if err != nil {
		text := line(redact(explain(err), request, b))
		return nil, fault{err: err, text: text, remedy: t.remedyFor(request, err)}
	}
	defer func() { _ = response.Body.Close() }() // reading needs no error of Close
	r := receive(response, limit)
	if r.status == http.StatusUnauthorized || r.status == http.StatusForbidden {
		t.binding.expire()
	}
	if !r.success() {
		r.body = []byte(redact(string(r.body), request, b))
	}
	return r, nil
}

// receive reads an answer.
func receive(response *http.Response, limit int64) *reply {
	body, err := io.ReadAll(io.LimitReader(response.Body, limit))
	r := &reply{status: response.StatusCode, header: response.Header, body: body, truncated: err != nil}
	if err == nil {
		rest, err := io.CopyN(io.Discard, response.Body, maxDrained)
		r.truncated = rest > 0 || !errors.Is(err, io.EOF)
	}
	return r
}

// fault is an error of package http with a text that may be printed, and a remedy if one is known.
type fault struct {
	err          error
	text, remedy string
}

// Error returns the text and the remedy.
func (f fault) Error() string {
	if f.remedy == "" {
		return f.text
	}
	return f.text + ": " + f.remedy
}

// Unwrap returns the error.
func (f fault) Unwrap() error { return f.err }

// explain returns why there is no answer. It omits the URL, which package http quotes in full.
func explain(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err.Error()
	}
	return err.Error()
}

// clientFor returns a client with the TLS material of the binding. Connections with other TLS material are closed
// once they are idle.
func (t *transport) clientFor(b binding.Binding) (*http.Client, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.client != nil && t.tls.SameTLS(b) {
		return t.client, nil
	}
	config, err := b.TLSConfig("") // package http sets the name of the server
	if err != nil {
		return nil, err
	}
	if t.client != nil {
		t.client.CloseIdleConnections()
	}
	dialer := net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}
	connections := &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    dialTimeout,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    t.connections,
		MaxConnsPerHost:        t.connections,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeader,
	}
	if t.proxied {
		connections.Proxy = t.proxy
	}
	t.client, t.tls = &http.Client{Transport: connections, CheckRedirect: t.checkRedirect}, b
	return t.client, nil
}

// proxy returns the proxy for a request.
func (t *transport) proxy(request *http.Request) (*url.URL, error) {
	if t.fromEnvironment != nil {
		return t.fromEnvironment(request)
	}
	return http.ProxyFromEnvironment(request)
}

// checkRedirect follows redirects that repeat the POST on the same host. Any other redirect is the answer: a GET would
// store nothing, and another host must not receive the credentials.
func (t *transport) checkRedirect(next *http.Request, previous []*http.Request) error {
	if next.Method != http.MethodPost || next.URL.Scheme != t.endpoint.Scheme || next.URL.Host != t.endpoint.Host ||
		len(previous) > maxRedirects {
		return http.ErrUseLastResponse
	}
	return nil
}

// close closes the idle connections.
func (t *transport) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.client != nil {
		t.client.CloseIdleConnections()
	}
}
