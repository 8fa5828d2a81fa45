package client

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/parking-operator/parking-operator/internal/summary"
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
				t.Errorf("post: %v, want a temporary error that names the remedy", err)
			}
			if err := c.Reach(t.Context()); err == nil || !strings.Contains(err.Error(), "https://") {
				t.Errorf("reach: %v, want the remedy", err)
			}
		})
	}
}

// newProxied returns a client of the API at the URL api. The client uses the proxy at the URL proxy, with a password.
func newProxied(t *testing.T, api, proxy string) (c *External, proxyHost string) {
	t.Helper()
	c = newExternal(t, Config{URL: api})
	u, err := url.Parse(proxy)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("user", "s3cret")
	c.transport.fromEnvironment = func(*http.Request) (*url.URL, error) { return u, nil }
	return c, u.Host
}

func TestExternal_ProxyIsDown_ErrorNamesTheProxy(t *testing.T) {
	t.Parallel()
	closed := httptest.NewServer(nil)
	closed.Close()
	for _, scheme := range []string{"http", "https"} {
		c, proxy := newProxied(t, scheme+"://api.example/v1", closed.URL)
		err := c.Reach(t.Context())
		if err == nil || !strings.Contains(err.Error(), "start the proxy "+proxy) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v, want the remedy without the password", scheme, err)
		}
	}
}

// For an http:// URL, the response of the proxy looks like a response of the API. Only the status 407 shows that a
// proxy sent it.
func TestExternal_ProxyRefuses_ErrorNamesTheProxy(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		url, variable string
		status        int
	}{
		{"https://api.example/v1", "HTTPS_PROXY", http.StatusProxyAuthRequired},
		{"https://api.example/v1", "HTTPS_PROXY", http.StatusBadGateway},
		{"http://api.example/v1", "HTTP_PROXY", http.StatusProxyAuthRequired},
	} {
		c, proxy := newProxied(t, tt.url, serve(t, answerWith(tt.status, "text/plain", "no")).URL)
		for _, err := range []error{c.Reach(t.Context()), c.Post(t.Context(), visit("a"))} {
			if err == nil || !errors.Is(err, summary.ErrNotReady) {
				t.Errorf("%s, %d: %v, want one that matches ErrNotReady", tt.url, tt.status, err)
				continue
			}
			answered := fmt.Sprintf("the proxy %s (from %s) answered %d %s: ", proxy, tt.variable, tt.status, http.StatusText(tt.status))
			if text := err.Error(); !strings.Contains(text, answered) || !strings.Contains(text, "NO_PROXY") ||
				strings.Contains(text, "s3cret") || strings.Contains(text, "start the API") {
				t.Errorf("%v, want %q and the remedy without the password", err, answered)
			}
		}
	}
}

// A gateway error may come from the proxy or from the API. So Post names the proxy, and Reach returns no error.
func TestExternal_HTTPURLAndGatewayError_ErrorNamesTheProxyIfThereIsOne(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout} {
		server := serve(t, answerWith(status, "text/plain", "no"))
		proxied, proxy := newProxied(t, "http://api.example/v1", server.URL)
		direct := newExternal(t, Config{URL: server.URL})
		err := proxied.Post(t.Context(), visit("a"))
		if kind(err) != "again" || !strings.Contains(err.Error(), "may come from the proxy "+proxy) || !strings.Contains(err.Error(), "NO_PROXY") ||
			strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%d through a proxy: %v, want the proxy and the remedy without the password", status, err)
		}
		if err := direct.Post(t.Context(), visit("a")); kind(err) != "again" || strings.Contains(err.Error(), "proxy") {
			t.Errorf("%d without a proxy: %v, want an error that names no proxy", status, err)
		}
		if err := errors.Join(proxied.Reach(t.Context()), direct.Reach(t.Context())); err != nil {
			t.Errorf("%d: %v", status, err)
		}
	}
}

// A SOCKS proxy, or the proxy of an https:// URL, does not read the requests, so it cannot respond to them.
func TestPlainProxyFor_ProxyCannotReadTheRequest_ReturnsNone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ url, proxy, want string }{
		{"http://api.example/v1", "http://proxy.example:3128", "proxy.example:3128"},
		{"http://api.example/v1", "socks5://proxy.example:1080", ""},
		{"https://api.example/v1", "http://proxy.example:3128", ""},
	} {
		c, _ := newProxied(t, tt.url, tt.proxy)
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, tt.url, http.NoBody)
		if got := c.transport.plainProxyFor(request); got != tt.want {
			t.Errorf("%s through %s: the proxy that may respond is %q, want %q", tt.url, tt.proxy, got, tt.want)
		}
	}
}

// A service mesh can have a proxy that the client does not know.
func TestExternal_UnknownProxyRefuses_ErrorSaysThatAProxyAnswered(t *testing.T) {
	t.Parallel()
	c := newExternal(t, Config{URL: serve(t, answerWith(http.StatusProxyAuthRequired, "text/plain", "no")).URL})
	for _, err := range []error{c.Reach(t.Context()), c.Post(t.Context(), visit("a"))} {
		if err == nil || !strings.Contains(err.Error(), "a proxy in front of the API answered 407") {
			t.Errorf("%v, want one that names a proxy", err)
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

func TestTransport_ConnectionFails_ErrorContainsTheRemedy(t *testing.T) {
	t.Parallel()
	endpoint, _ := url.Parse("http://api.example/v1")
	c := transport{endpoint: endpoint, proxied: true}
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, endpoint.String(), http.NoBody)
	for _, proxied := range []bool{false, true} {
		c.fromEnvironment = func(*http.Request) (*url.URL, error) {
			if proxied {
				return &url.URL{Scheme: "http", Host: "proxy.example:3128"}, nil
			}
			return nil, nil //nolint:nilnil // the result of http.ProxyFromEnvironment without a proxy
		}
		for name, tt := range map[string]struct {
			cause         error
			want, byProxy string
			isNotReady    bool
		}{
			"too many open files":                {os.NewSyscallError("socket", syscall.EMFILE), "ulimit -n", "ulimit -n", true},
			"too many open files in a lookup":    {&net.DNSError{Err: "dial udp 192.0.2.53:53: socket: too many open files", IsTemporary: true}, "ulimit -n", "ulimit -n", true},
			"a DNS server that does not respond": {&net.DNSError{Err: "i/o timeout", IsTimeout: true}, "check the DNS", "check the DNS", true},
			"a host that does not exist":         {&net.DNSError{Err: "no such host", IsNotFound: true}, "correct the host name", "start the proxy", false},
			"a port without a listener":          {os.NewSyscallError("connect", syscall.ECONNREFUSED), "start the API there", "start the proxy", false},
		} {
			err := &net.OpError{Op: "dial", Net: "tcp", Err: tt.cause}
			want := tt.want
			if proxied {
				want = tt.byProxy
			}
			if got := c.remedyFor(request, err); !strings.Contains(got, want) {
				t.Errorf("%s, through a proxy: %t: the remedy is %q, want %q", name, proxied, got, want)
			}
			if got := errors.Is(fault{err: err}, summary.ErrNotReady); got != tt.isNotReady {
				t.Errorf("%s: ErrNotReady is %t, want %t", name, got, tt.isNotReady)
			}
		}
	}
}
