package client

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"strings"

	"github.com/parking-operator/parking-operator/internal/binding"
)

const remedyHTTPS = "the port speaks TLS: begin the URL with https://"

// remedyFor returns advice for a request that failed without a response, or "" if it has no advice.
func (t *transport) remedyFor(request *http.Request, err error) string {
	if remedy := binding.ExplainFiles(err); remedy != "" {
		return remedy
	}
	if strings.Contains(err.Error(), `malformed HTTP response "\x15\x03`) { // an alert of TLS
		return remedyHTTPS
	}
	if dial, ok := errors.AsType[*net.OpError](err); !ok || dial.Op != "dial" && dial.Op != "proxyconnect" {
		return ""
	}
	if proxy := t.proxyFor(request); proxy != "" {
		return "start the proxy " + proxy + ", which the environment names (HTTP_PROXY, HTTPS_PROXY), or add the host of the API to NO_PROXY"
	}
	return ""
}

// proxyFor returns the host of the HTTP proxy for a request, or "" if the request uses no proxy.
func (t *transport) proxyFor(request *http.Request) string {
	if !t.proxied {
		return ""
	}
	proxy, err := t.proxy(request)
	if err != nil || proxy == nil {
		return ""
	}
	return proxy.Host // the rest may contain a password
}

// wantsTLS reports whether a response says that the port expects TLS. Web servers respond to an unencrypted request on
// a TLS port with status 400 and one of the sentences below.
func (r *reply) wantsTLS() bool {
	if r.status != http.StatusBadRequest {
		return false
	}
	body := bytes.ToLower(r.body)
	return bytes.Contains(body, []byte("http request to an https server")) || // Go
		bytes.Contains(body, []byte("plain http request was sent to https port")) || // nginx
		bytes.Contains(body, []byte("speaking plain http to an ssl-enabled server port")) // Apache
}
