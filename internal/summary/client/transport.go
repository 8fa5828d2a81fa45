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
	"github.com/parking-operator/parking-operator/internal/rawconn"
	"github.com/parking-operator/parking-operator/internal/summary"
)

const (
	dialTimeout = 3 * time.Second
	idleTimeout = 90 * time.Second
	keepAlive   = 15 * time.Second
	// maxDrained is the maximum number of remaining response bytes that the client discards to be able to reuse the
	// connection.
	maxDrained = 64 << 10
	// maxHeader is the maximum size of the response headers in bytes.
	maxHeader = 64 << 10
	// maxRedirects is the maximum number of redirects that the client follows for one request.
	maxRedirects = 3
)

// transport sends HTTP requests to one URL.
type transport struct {
	endpoint *url.URL
	binding  cachedBinding
	timeout  time.Duration
	// connections is the maximum number of connections, including idle connections.
	connections int
	// proxied is true if requests use the proxy in the environment variables HTTP_PROXY and HTTPS_PROXY.
	proxied bool
	// fromEnvironment replaces http.ProxyFromEnvironment in tests, because http.ProxyFromEnvironment reads the
	// environment only once per process.
	fromEnvironment func(*http.Request) (*url.URL, error)

	mu     sync.Mutex
	client *http.Client
	// tls is the binding from which client was created.
	tls binding.Binding
}

type reply struct {
	status int
	header http.Header
	body   []byte
	// truncated is true if the field body is incomplete: the response is longer than the limit, or reading failed.
	truncated bool
	// proxy is the host of the HTTP proxy that may have sent the response instead of the API, or "".
	proxy string
}

func (r *reply) success() bool { return r.status/100 == 2 }

// send sends one request and reads up to limit bytes of the response. A response with an error status is not an error.
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
		// Omit err, because it contains the URL.
		return nil, errors.New("the HTTP request cannot be created: check the URL of the summary API")
	}
	request.Header = header
	authorize(request, b)
	response, err := client.Do(request)
	if err != nil {
		text := line(redact(explain(err), request, b))
		return nil, fault{err: err, text: text, remedy: t.remedyFor(request, err)}
	}
	defer func() { _ = response.Body.Close() }()
	if err := t.checkPlainProxy(request, response); err != nil {
		return nil, err
	}
	r := receive(response, limit)
	r.proxy = t.plainProxyFor(request)
	if r.status == http.StatusUnauthorized || r.status == http.StatusForbidden {
		t.binding.expire()
	}
	if !r.success() {
		r.body = []byte(redact(string(r.body), request, b))
	}
	return r, nil
}

func receive(response *http.Response, limit int64) *reply {
	body, err := io.ReadAll(io.LimitReader(response.Body, limit))
	r := &reply{status: response.StatusCode, header: response.Header, body: body, truncated: err != nil}
	if err == nil {
		rest, err := io.CopyN(io.Discard, response.Body, maxDrained)
		r.truncated = rest > 0 || !errors.Is(err, io.EOF)
	}
	return r
}

// fault wraps an error of package http. Its message contains no credentials. The message ends with the remedy, unless
// the remedy is "".
type fault struct {
	err          error
	text, remedy string
}

// Error implements error.
func (f fault) Error() string {
	if f.remedy == "" {
		return f.text
	}
	return f.text + ": " + f.remedy
}

// Is matches summary.ErrNotReady for temporary causes on this machine, such as too many open files. A refused
// connection does not match: the URL may be wrong.
func (f fault) Is(target error) bool {
	return target == summary.ErrNotReady && binding.IsTemporary(f.err)
}

// Unwrap returns the error of package http.
func (f fault) Unwrap() error { return f.err }

// explain returns the reason for an error of package http. The reason omits the URL, because the URL may contain a
// token.
func explain(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err.Error()
	}
	return err.Error()
}

func (t *transport) clientFor(b binding.Binding) (*http.Client, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.client != nil && t.tls.SameTLS(b) {
		return t.client, nil
	}
	config, err := b.TLSConfig("") // no server name, because package http sets it for each connection
	if err != nil {
		return nil, err
	}
	if t.client != nil {
		t.client.CloseIdleConnections()
	}
	dialer := net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}
	connections := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return rawconn.New(conn), nil
		},
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
		connections.OnProxyConnectResponse = checkProxy
	}
	t.client, t.tls = &http.Client{Transport: connections, CheckRedirect: t.checkRedirect}, b
	return t.client, nil
}

// proxy returns the URL of the HTTP proxy for a request, or nil if the request uses no proxy.
func (t *transport) proxy(request *http.Request) (*url.URL, error) {
	if t.fromEnvironment != nil {
		return t.fromEnvironment(request)
	}
	return http.ProxyFromEnvironment(request)
}

// checkRedirect follows a redirect only if the next request is a POST to the same scheme and host.
func (t *transport) checkRedirect(next *http.Request, previous []*http.Request) error {
	// Do not send the credentials to another host. A redirect that changes POST to GET would store nothing.
	if next.Method != http.MethodPost || next.URL.Scheme != t.endpoint.Scheme || next.URL.Host != t.endpoint.Host ||
		len(previous) > maxRedirects {
		return http.ErrUseLastResponse
	}
	return nil
}

func (t *transport) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.client != nil {
		t.client.CloseIdleConnections()
	}
}
