// Package podhttp sends HTTP requests to pods of simulations.
//
// The author of a simulation may run any program in its pods. Network policies may let the operator reach addresses
// that the pods cannot reach. Therefore the client follows no redirects, and limits the size of responses.
package podhttp

import (
	"context"
	"io"
	"net/http"
)

const (
	// MaxBody is the maximum number of bytes of a body that Get reads. It ignores the rest.
	MaxBody = 1 << 20
	// maxHeader is the maximum size of the header of a response, in bytes.
	maxHeader = 64 << 10
)

// Client sends requests to pods. It uses no proxy and follows no redirects. It is safe for concurrent use.
type Client struct{ http *http.Client }

// New returns a Client.
func New() *Client {
	return &Client{&http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: maxHeader},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
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
	defer func() { _ = response.Body.Close() }() // reading needs no error of Close
	body, err = io.ReadAll(io.LimitReader(response.Body, MaxBody))
	return response.StatusCode, body, err
}
