// Package podhttp sends HTTP requests to pods of simulations, which may run any program.
//
// The client limits the size of responses. It follows no redirects, because they could lead to addresses that pods
// cannot reach.
package podhttp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"strconv"
)

const (
	// MaxBody is the maximum number of bytes that Get reads of a body. Get ignores the rest.
	MaxBody = 1 << 20
	// maxHeader is the maximum size of the header of a response, in bytes.
	maxHeader = 64 << 10
)

// Client sends requests to pods. It uses no proxy and follows no redirects. It is safe for concurrent use.
type Client struct{ http *http.Client }

// New returns a Client that uses a new connection for each request and follows no redirect.
func New() *Client {
	return &Client{&http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: maxHeader},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Server is an HTTP server in a pod.
type Server struct {
	// IP is the IP address of the pod.
	IP string
	// CA contains the CA certificates, in PEM, with which the client verifies the server's certificate for the name
	// Host. If Host is empty, the server does not use TLS.
	CA, Host string
}

// GetFrom returns the status code and the body of the response of a server in a pod.
func (c *Client) GetFrom(ctx context.Context, s Server, port int, path string) (status int, body []byte, err error) {
	address := net.JoinHostPort(s.IP, strconv.Itoa(port)) + path
	if s.Host == "" {
		return c.Get(ctx, "http://"+address)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(s.CA))
	return c.over(&tls.Config{RootCAs: roots, ServerName: s.Host, MinVersion: tls.VersionTLS12}).Get(ctx, "https://"+address)
}

// GetUnverified is like Get, but accepts every certificate, so any program may have sent the response. Requests must
// contain no secret, and false responses must do little harm.
func (c *Client) GetUnverified(ctx context.Context, url string) (status int, body []byte, err error) {
	return c.over(&tls.Config{InsecureSkipVerify: true}).Get(ctx, url) //nolint:gosec // the request contains no secret
}

// over returns a client for one request that uses the given TLS configuration. The client does not keep the connection.
func (c *Client) over(config *tls.Config) *Client {
	client := New()
	client.http.Transport = &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: maxHeader, TLSClientConfig: config}
	return client
}

// Get returns the status code and the body of the response to a GET request. It has no timeout other than that of ctx.
func (c *Client) Get(ctx context.Context, url string) (status int, body []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = response.Body.Close() }() // if Close fails, the body is still complete
	body, err = io.ReadAll(io.LimitReader(response.Body, MaxBody))
	return response.StatusCode, body, err
}
