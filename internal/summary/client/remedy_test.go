package client

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestExternal_HTTPURLOfTLSPort_ErrorSuggestsHTTPS(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(answerWith(201, "", ""))
	defer server.Close()
	alert := serve(t, func(w http.ResponseWriter, _ *http.Request) { hijack(t, w, "\x15\x03\x01\x00\x02\x02\x46") })
	nginx := serve(t, answerWith(400, "text/html", "<html><center>The plain HTTP request was sent to HTTPS port</center></html>"))
	for name, address := range map[string]string{
		"a server in Go": "http://" + server.Listener.Addr().String(), "a server that sends an alert": alert.URL, "nginx": nginx.URL,
	} {
		t.Run(name, func(t *testing.T) {
			c := newExternal(t, Options{URL: address})
			if err := c.Post(t.Context(), visit("a")); kind(err) != "again" || !strings.Contains(err.Error(), "https://") {
				t.Errorf("post: %v, want one that passes and names the remedy", err)
			}
			if err := c.Reach(t.Context()); err == nil || !strings.Contains(err.Error(), "https://") {
				t.Errorf("reach: %v, want the remedy", err)
			}
		})
	}
}

func TestExternal_ProxyIsDown_ErrorNamesTheProxy(t *testing.T) {
	t.Parallel()
	closed := httptest.NewServer(nil)
	closed.Close()
	for _, scheme := range []string{"http", "https"} {
		c := newExternal(t, Options{URL: scheme + "://api.example/v1"})
		proxy, _ := url.Parse(closed.URL)
		proxy.User = url.UserPassword("user", "s3cret")
		c.transport.fromEnvironment = func(*http.Request) (*url.URL, error) { return proxy, nil }
		err := c.Reach(t.Context())
		if err == nil || !strings.Contains(err.Error(), "start the proxy "+proxy.Host) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v, want the remedy without the password", scheme, err)
		}
	}
}

func TestTransport_TooManyOpenFiles_ErrorContainsTheRemedy(t *testing.T) {
	t.Parallel()
	var c transport
	if got := c.remedyFor(nil, os.NewSyscallError("socket", syscall.EMFILE)); !strings.Contains(got, "ulimit -n") {
		t.Errorf("the remedy is %q", got)
	}
}
