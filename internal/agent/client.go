package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// ServerName is the host name in the certificates of all agents. The certificates do not contain the addresses of pods,
// because these addresses change.
const ServerName = "agent"

// DefaultTimeout is the usual timeout of one request to an agent.
const DefaultTimeout = 5 * time.Second

// ErrUnknown is returned by Client.Fault if the agent has not injected the requested fault.
var ErrUnknown = errors.New("the agent has not injected this fault")

// Client sends commands to agents. All agents use the same token and the same certificate.
type Client struct {
	token string
	http  http.Client
}

// NewClient returns a client that trusts only the given certificate, which must be in PEM format. The timeout applies to
// each request.
func NewClient(token string, certificate []byte, timeout time.Duration) (*Client, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(certificate) {
		return nil, errors.New("the certificate of the agents is not valid PEM")
	}
	return &Client{token: token, http: http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: ServerName, MinVersion: tls.VersionTLS13},
			// Requests to agents are rare, and agents may be replaced in between, so connections are not kept open.
			DisableKeepAlives: true,
		},
	}}, nil
}

// Inject sends a command to the agent at address (host:port). It returns when the fault has taken effect.
func (c *Client) Inject(ctx context.Context, address string, command Command) (Fault, error) {
	body, err := json.Marshal(command)
	if err != nil {
		return Fault{}, err
	}
	return c.do(ctx, http.MethodPut, address, command.ID, body)
}

// Fault returns the fault with the given ID, as recorded by the agent at address (host:port). It returns ErrUnknown
// if the agent has not injected this fault.
func (c *Client) Fault(ctx context.Context, address, id string) (Fault, error) {
	return c.do(ctx, http.MethodGet, address, id, nil)
}

// Heal ends a pause or an isolation early.
func (c *Client) Heal(ctx context.Context, address, id string) error {
	_, err := c.do(ctx, http.MethodDelete, address, id, nil)
	return err
}

func (c *Client) do(ctx context.Context, method, address, id string, body []byte) (Fault, error) {
	target := url.URL{Scheme: "https", Host: address, Path: Path + "/" + id}
	request, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader(body))
	if err != nil {
		return Fault{}, err
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	response, err := c.http.Do(request)
	if err != nil {
		return Fault{}, fmt.Errorf("reach the agent: %w", err)
	}
	defer func() { _ = response.Body.Close() }() // ignore the error: the body has been read by then
	text, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return Fault{}, fmt.Errorf("read the answer of the agent: %w", err)
	}
	switch response.StatusCode {
	case http.StatusOK:
		var f Fault
		if err := json.Unmarshal(text, &f); err != nil {
			return Fault{}, fmt.Errorf("read the answer of the agent: %w", err)
		}
		return f, nil
	case http.StatusNoContent:
		return Fault{}, nil
	case http.StatusNotFound:
		return Fault{}, ErrUnknown
	case http.StatusConflict:
		return Fault{}, ErrBusy
	case http.StatusUnprocessableEntity:
		return Fault{}, &RejectedError{strings.TrimSpace(string(text))}
	}
	return Fault{}, fmt.Errorf("the agent answered with status %d: %s", response.StatusCode, strings.TrimSpace(string(text)))
}
