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
	apache := serve(t, answerWith(400, "text/html; charset=iso-8859-1", "<p>Reason: You're speaking plain HTTP to an SSL-enabled server port.<br /></p>"))
	tomcat := serve(t, answerWith(400, "text/plain;charset=UTF-8", "Bad Request\r\nThis combination of host and port requires TLS.\r\n"))
	envoy := serve(t, func(w http.ResponseWriter, _ *http.Request) { hijack(t, w, "") })
	for name, address := range map[string]string{
		"a server in Go": "http://" + server.Listener.Addr().String(), "a server that sends an alert": alert.URL, "nginx": nginx.URL,
		"Apache": apache.URL, "Tomcat": tomcat.URL, "Envoy": envoy.URL,
	} {
		t.Run(name, func(t *testing.T) {
			c := newExternal(t, Config{URL: address})
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
		c := newExternal(t, Config{URL: scheme + "://api.example/v1"})
		proxy, _ := url.Parse(closed.URL)
		proxy.User = url.UserPassword("user", "s3cret")
		c.transport.fromEnvironment = func(*http.Request) (*url.URL, error) { return proxy, nil }
		err := c.Reach(t.Context())
		if err == nil || !strings.Contains(err.Error(), "start the proxy "+proxy.Host) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v, want the remedy without the password", scheme, err)
		}
	}
}

func TestExternal_ProxyRefuses_ErrorNamesTheProxy(t *testing.T) {
	t.Parallel()
	proxyServer := serve(t, answerWith(http.StatusProxyAuthRequired, "text/plain", "no"))
	c := newExternal(t, Config{URL: "https://api.example/v1"})
	proxy, _ := url.Parse(proxyServer.URL)
	proxy.User = url.UserPassword("user", "s3cret")
	c.transport.fromEnvironment = func(*http.Request) (*url.URL, error) { return proxy, nil }
	for _, err := range []error{c.Reach(t.Context()), c.Post(t.Context(), visit("a"))} {
		if err == nil || !strings.Contains(err.Error(), "the proxy "+proxy.Host) || !strings.Contains(err.Error(), "answered 407 Proxy Authentication Required") ||
			!strings.Contains(err.Error(), "NO_PROXY") || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "start the API") {
			t.Errorf("%v, want the proxy and the remedy without the password", err)
		}
	}
}

func TestExternalPost_EachFailure_ErrorContainsTheRemedy(t *testing.T) {
	t.Parallel()
	secured := httptest.NewTLSServer(answerWith(201, "", ""))
	defer secured.Close()
	plain := serve(t, answerWith(201, "", ""))
	closed := httptest.NewServer(nil)
	closed.Close()
	for name, tt := range map[string]struct{ url, want string }{
		"an unknown CA":       {secured.URL, "put the certificate of that CA into ca.crt"},
		"a port without TLS":  {strings.Replace(plain.URL, "http:", "https:", 1), "does not speak TLS"},
		"no listener":         {closed.URL, "start the API there"},
		"missing credentials": {serve(t, answerWith(401, "text/plain", "no")).URL, "check the credentials"},
		"a wrong path":        {serve(t, answerWith(404, "text/plain", "no")).URL, "check the URL"},
	} {
		err := newExternal(t, Config{URL: tt.url}).Post(t.Context(), visit("a"))
		if kind(err) != "again" || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
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
