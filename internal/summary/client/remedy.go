package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/summary"
)

const (
	remedyHTTPS   = "the port speaks TLS: begin the URL with https://"
	remedyAddress = "start the API there, or correct the address"
	avoidProxy    = "add the host of the API to NO_PROXY"
)

// remedyFor returns advice for a request that failed without a response, or "" if there is no advice.
func (t *transport) remedyFor(request *http.Request, err error) string {
	dial, _ := errors.AsType[*net.OpError](err)
	isDial := dial != nil && (dial.Op == "dial" || dial.Op == "proxyconnect")
	var refusal proxyError
	switch {
	case errors.As(err, &refusal):
		return "" // a proxyError already says what to do
	case binding.ExplainFiles(err) != "":
		return binding.ExplainFiles(err)
	case strings.Contains(err.Error(), `malformed HTTP response "\x15\x03`): // the server responded with a TLS alert
		return remedyHTTPS
	case binding.IsTemporary(err):
		return binding.ExplainName(err)
	case isDial && t.proxyFor(request) != "":
		return "start the proxy " + t.proxyFor(request) + " (from HTTP_PROXY or HTTPS_PROXY), or " + avoidProxy
	case binding.ExplainTLS(err) != "":
		return binding.ExplainTLS(err)
	case binding.ExplainName(err) != "":
		return binding.ExplainName(err)
	case isDial:
		return remedyAddress
	case t.endpoint.Scheme == "http" && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)):
		// The port may expect TLS: Envoy, for example, then closes the connection without a response.
		return "if this error repeats, check the port, and check whether the API uses TLS (https://)"
	}
	return ""
}

// proxyError means that an HTTP proxy answered a request itself, instead of forwarding the request to the API.
type proxyError struct {
	proxy    string // the host of the proxy, or "" if the environment names no proxy for the request
	variable string // the environment variable that names the proxy
	status   string
}

// Error implements error. The text names the proxy and says what to do.
func (e proxyError) Error() string {
	if e.proxy == "" {
		return "a proxy in front of the API answered " + line(e.status) + ": correct the settings of the proxy, or the URL of the summary API"
	}
	return "the proxy " + e.proxy + " (from " + e.variable + ") answered " + line(e.status) +
		": correct the settings of the proxy, or " + avoidProxy
}

// checkProxy returns an error if the proxy does not connect to the API. The error matches summary.ErrNotReady, because
// the URL is not the cause.
func checkProxy(_ context.Context, proxy *url.URL, _ *http.Request, response *http.Response) error {
	if response.StatusCode == http.StatusOK {
		return nil
	}
	// Name only the host, because the URL may contain a password.
	return summary.NotReady(proxyError{proxy.Host, "HTTPS_PROXY", response.Status})
}

// checkPlainProxy returns an error if a proxy has rejected a request to an http:// URL. Package http calls checkProxy
// only for https:// URLs. Only proxies respond with the status 407.
func (t *transport) checkPlainProxy(request *http.Request, response *http.Response) error {
	if response.StatusCode != http.StatusProxyAuthRequired {
		return nil
	}
	return summary.NotReady(proxyError{t.plainProxyFor(request), "HTTP_PROXY", response.Status})
}

// proxyFor returns the host of the proxy for a request, or "" if the request uses no proxy.
func (t *transport) proxyFor(request *http.Request) string {
	if proxy := t.proxyURLFor(request); proxy != nil {
		return proxy.Host // return only the host, because the URL may contain a password
	}
	return ""
}

// plainProxyFor returns the host of an HTTP proxy that can read the request and respond itself, or "". Only requests
// without TLS are readable.
func (t *transport) plainProxyFor(request *http.Request) string {
	proxy := t.proxyURLFor(request)
	if proxy == nil || request.URL.Scheme != "http" || !strings.HasPrefix(proxy.Scheme, "http") {
		return ""
	}
	return proxy.Host
}

func (t *transport) proxyURLFor(request *http.Request) *url.URL {
	if !t.proxied {
		return nil
	}
	proxy, err := t.proxy(request)
	if err != nil {
		return nil
	}
	return proxy
}

// tlsSentences lists the answers of web servers, in lower case, to a request without TLS on a TLS port.
var tlsSentences = []string{
	"http request to an https server",                   // Go's package net/http
	"plain http request was sent to https port",         // nginx
	"speaking plain http to an ssl-enabled server port", // Apache
	"combination of host and port requires tls",         // Tomcat, the default server of Spring Boot
}

// wantsTLS reports whether a response says that the port expects TLS. Such a response has status 400.
func (r *reply) wantsTLS() bool {
	if r.status != http.StatusBadRequest {
		return false
	}
	body := string(bytes.ToLower(r.body))
	return slices.ContainsFunc(tlsSentences, func(sentence string) bool { return strings.Contains(body, sentence) })
}

// remedy returns advice for a response that accepts no summary, or "" if there is no advice.
func (r *reply) remedy() string {
	switch r.status {
	case http.StatusBadRequest:
		if r.wantsTLS() {
			return remedyHTTPS
		}
		return "check the URL of the summary API, and the host names that the API and its proxies allow"
	case http.StatusUnauthorized, http.StatusForbidden:
		return "check the credentials in the Secret of the summary API"
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return "check the URL of the summary API"
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		if r.proxy != "" {
			return "the response may come from the proxy " + r.proxy + " (from HTTP_PROXY): check the proxy, or " + avoidProxy
		}
	}
	return ""
}
