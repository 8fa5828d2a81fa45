package rabbitmq

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/tlstest"
)

func TestExplainConnectError_ConnectionFails_NamesTheRemedy(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		err    error
		remedy string
	}{
		{"a host that does not exist", &net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}, "correct the host name"},
		{"a DNS server that does not respond", &net.OpError{Op: "dial", Err: &net.DNSError{Err: "i/o timeout", IsTimeout: true}}, "check the DNS"},
		{"a lookup with too many open files", &net.DNSError{Err: "dial udp 192.0.2.53:53: socket: too many open files", IsTemporary: true}, "ulimit -n"},
		{"a port without a listener", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, "start RabbitMQ there"},
		{"a process with too many open files", os.NewSyscallError("socket", syscall.EMFILE), "ulimit -n"},
		{"a host that does not answer", context.DeadlineExceeded, "firewall"},
		{"a read that takes too long", os.ErrDeadlineExceeded, "firewall"},
		{"a server without TLS", &tlsError{tls.RecordHeaderError{}}, "does not speak TLS"},
		{"a certificate of an unknown CA", &tlsError{x509.UnknownAuthorityError{}}, "ca.crt"},
		{"a certificate for another host", &tlsError{x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"other"}}, Host: "h"}}, "host name"},
		{"another fault of TLS", &tlsError{io.EOF}, "certificate is valid"},
		{"a virtual host that does not exist", &amqp.Error{Code: amqp.NotAllowed, Reason: "NOT_ALLOWED - vhost x not found"}, "add_vhost"},
		{"a virtual host without permission", &amqp.Error{Code: amqp.NotAllowed, Reason: "NOT_ALLOWED - access to vhost 'x' refused for user 'u'"}, "set_permissions"},
		{"a limit of the virtual host", &amqp.Error{Code: amqp.NotAllowed, Reason: "NOT_ALLOWED - access to vhost '/' refused for user 'guest': connection limit (1) is reached"}, "set_vhost_limits"},
		{"a limit of the user", &amqp.Error{Code: amqp.NotAllowed, Reason: "NOT_ALLOWED - connection refused for user 'guest': user connection limit (1) is reached"}, "set_user_limits"},
		{"a limit of the node", &amqp.Error{Code: amqp.NotAllowed, Reason: "NOT_ALLOWED - connection refused: node connection limit (1) is reached"}, "connection_max in rabbitmq.conf"},
		{"a limit that cannot be read", &amqp.Error{Code: amqp.NotAllowed, Reason: "NOT_ALLOWED - access to vhost '/' refused for user 'u': connection limit cannot be queried, timeout"}, "cluster_status"},
		{"a virtual host that is down", &amqp.Error{Code: amqp.InternalError, Reason: "INTERNAL_ERROR - access to vhost 'v' refused for user 'u': vhost 'v' is down"}, "restart_vhost"},
		{"no common way to log in", amqp.ErrSASL, "auth_mechanisms"},
		{"a wrong password", &amqp.Error{Code: amqp.AccessRefused, Reason: "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile."}, "user name or password"},
		{"a rejected login without a reason", amqp.ErrCredentials, "user name or password"},
		{"a server that hangs up", &amqp.Error{Code: amqp.FrameError, Reason: "EOF"}, "amqps"},
		{"a server that hangs up before it sends data", io.EOF, "amqps"},
		{"an internal error of the server", &amqp.Error{Code: amqp.InternalError, Reason: "INTERNAL_ERROR"}, "log of RabbitMQ"},
	}
	address := binding.Binding{URI: &url.URL{
		Scheme: "amqp", User: url.UserPassword("someone", "secret"), Host: "127.0.0.1:5672", Path: "/",
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := explain(address, []failure{{endpoint: "127.0.0.1:5672", err: tt.err}})
			text := err.Error()
			if !strings.Contains(text, tt.remedy) || !strings.Contains(text, "127.0.0.1:5672") {
				t.Errorf("the explanation is %q", text)
			}
			if strings.Contains(text, "secret") || strings.ContainsRune(text, '\n') {
				t.Errorf("the explanation has the password or several lines: %q", text)
			}
			if !errors.Is(err, tt.err) {
				t.Error("the explanation does not wrap its cause")
			}
		})
	}
}

func TestConnectError_ServerCannotServe_IsErrNotReady(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err  error
		want bool
	}{
		"a limit of connections":             {&amqp.Error{Code: amqp.NotAllowed, Reason: "NOT_ALLOWED - connection refused for user 'u': user connection limit (1) is reached"}, true},
		"an internal error":                  {&amqp.Error{Code: amqp.InternalError, Reason: "INTERNAL_ERROR"}, true},
		"too many open files":                {os.NewSyscallError("socket", syscall.EMFILE), true},
		"a lookup with too many open files":  {&net.DNSError{Err: "dial udp 192.0.2.53:53: socket: too many open files", IsTemporary: true}, true},
		"a DNS server that does not respond": {&net.DNSError{Err: "i/o timeout", IsTimeout: true}, true},
		"a host that does not exist":         {&net.DNSError{Err: "no such host", IsNotFound: true}, false},
		"a wrong password":                   {amqp.ErrCredentials, false},
		"no listener":                        {errRefused, false},
	} {
		err := explain(binding.Binding{URI: parse(t, "amqp://h")}, []failure{{endpoint: "h:5672", err: tt.err}})
		if got := errors.Is(err, broker.ErrNotReady); got != tt.want {
			t.Errorf("%s: ErrNotReady is %t, want %t", name, got, tt.want)
		}
	}
}

func TestWithRemedy_ChannelErrorAfterOpening_NamesTheRemedy(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err      *amqp.Error
		remedy   string
		isConfig bool
	}{
		"no right to publish": {&amqp.Error{Code: amqp.AccessRefused, Reason: "ACCESS_REFUSED - write access to exchange 'parking.x' in vhost '/' refused for user 'u'"}, "write and read '^parking\\.'", true},
		"no right to consume": {&amqp.Error{Code: amqp.AccessRefused, Reason: "ACCESS_REFUSED - read access to queue 'parking.x.entry.0' in vhost '/' refused for user 'u'"}, "write and read '^parking\\.'", true},
		"a slow consumer": {&amqp.Error{Code: amqp.PreconditionFailed, Reason: "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. " +
			"Timeout value used: 1800000 ms. This timeout value can be configured, see consumers doc guide to learn more"}, "consumer_timeout", false},
		"too many channels of the user":       {&amqp.Error{Code: amqp.NotAllowed, Reason: "NOT_ALLOWED - number of channels opened for user 'u' has reached the maximum allowed user limit of (2)"}, "set_user_limits", false},
		"too many channels of the node":       {&amqp.Error{Code: amqp.NotAllowed, Reason: "NOT_ALLOWED - number of channels opened on node 'a@b' has reached the maximum allowed limit of (2)"}, "channel_max_per_node", false},
		"too many channels of the connection": {amqp.ErrChannelMax, "raise channel_max", true},
		"too many channels for the server":    {&amqp.Error{Code: amqp.NotAllowed, Reason: "NOT_ALLOWED - number of channels opened (3) has reached the negotiated channel_max (2)"}, "raise channel_max", true},
		"a shutdown of the server":            {&amqp.Error{Code: amqp.ConnectionForced, Reason: "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"}, "", false},
	} {
		err := withRemedy(tt.err)
		if !strings.Contains(err.Error(), tt.remedy) || !errors.Is(err, tt.err) || errors.Is(err, broker.ErrConfig) != tt.isConfig {
			t.Errorf("%s: error is %v, want the remedy %q", name, err, tt.remedy)
		}
		if tt.remedy == "" && err.Error() != tt.err.Error() {
			t.Errorf("%s: error is %v, want no remedy", name, err)
		}
		if wrapped := fmt.Errorf("delete: %w", err); withRemedy(wrapped).Error() != wrapped.Error() {
			t.Errorf("%s: error is %v, want the remedy once", name, withRemedy(wrapped))
		}
	}
}

// A client without a user name logs in as guest or with its certificate. The error must say which login failed.
func TestExplainLogin_BindingWithoutUserName_SaysWhichLoginFailed(t *testing.T) {
	t.Parallel()
	guest, certificate := &amqp.PlainAuth{}, &amqp.ExternalAuth{}
	for name, tt := range map[string]struct {
		logins, tried []amqp.Authentication
		err           error
		want          string
		isConfig      bool
	}{
		"no certificate": {[]amqp.Authentication{guest}, []amqp.Authentication{guest}, amqp.ErrCredentials,
			"log in as guest: the binding has no user name: ", false},
		"a certificate": {[]amqp.Authentication{certificate, guest}, []amqp.Authentication{certificate}, amqp.ErrCredentials,
			"create a user with the name in the client certificate", true},
		"a certificate that the server does not take": {[]amqp.Authentication{certificate, guest}, []amqp.Authentication{guest}, amqp.ErrCredentials,
			"log in as guest: the binding has no user name, and the server does not offer the login mechanism EXTERNAL", false},
		"a server that offers neither": {[]amqp.Authentication{certificate, guest}, []amqp.Authentication{certificate, guest}, amqp.ErrSASL,
			amqp.ErrSASL.Error(), false},
	} {
		err := explainLogin(target{logins: tt.logins}, tt.tried, tt.err)
		if !strings.Contains(err.Error(), tt.want) || !errors.Is(err, tt.err) || errors.Is(err, broker.ErrConfig) != tt.isConfig {
			t.Errorf("%s: error is %v, want %q", name, err, tt.want)
		}
	}
}

func TestReadTarget_ParsesAMQPURIs(t *testing.T) {
	t.Parallel()
	certificate, key := tlstest.NewAuthority(t, "test CA").Issue(t, "client")
	guest, external := &amqp.PlainAuth{Username: "guest", Password: "guest"}, &amqp.ExternalAuth{}
	tests := []struct {
		uri      string
		hasCert  bool
		hostPort string
		logins   []amqp.Authentication
		vhost    string
		tls      string // the server name for TLS, or "" without TLS
	}{
		{"amqp://", false, "localhost:5672", []amqp.Authentication{guest}, "/", ""},
		{"amqp://h", false, "h:5672", []amqp.Authentication{guest}, "/", ""},
		{"amqp://u:p%40@h:1/", false, "h:1", []amqp.Authentication{&amqp.PlainAuth{Username: "u", Password: "p@"}}, "/", ""},
		{"amqp://u@h/%2F", false, "h:5672", []amqp.Authentication{&amqp.PlainAuth{Username: "u"}}, "/", ""},
		{"amqps://u:p@h/v", true, "h:5671", []amqp.Authentication{&amqp.PlainAuth{Username: "u", Password: "p"}}, "v", "h"},
		{"amqps://h/v", true, "h:5671", []amqp.Authentication{external, guest}, "v", "h"},
		{"amqps://u:p@[::1]:7/v%2Fw", false, "[::1]:7", []amqp.Authentication{&amqp.PlainAuth{Username: "u", Password: "p"}}, "v/w", "::1"},
	}
	for _, tt := range tests {
		t.Run(tt.uri, func(t *testing.T) {
			t.Parallel()
			b := binding.Binding{URI: parse(t, tt.uri)}
			if tt.hasCert {
				b.Certificate, b.Key = certificate, key
			}
			got, err := readTarget(b)
			if err != nil {
				t.Fatal(err)
			}
			name := ""
			if got.tls != nil {
				name = got.tls.ServerName
			}
			if got.hostPort() != tt.hostPort || !reflect.DeepEqual(got.logins, tt.logins) || got.vhost != tt.vhost || name != tt.tls {
				t.Errorf("read %s, %v, virtual host %s, TLS %q", got.hostPort(), got.logins, got.vhost, name)
			}
		})
	}
}

func TestDial_InvalidBinding_ReturnsErrorWithoutThePassword(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		address binding.Binding
		want    string
	}{
		{"no URI", binding.Binding{}, "no URI"},
		{"another scheme", binding.Binding{URI: parse(t, "http://u:secret@h")}, "amqps for TLS"},
		{"a port above 65535", binding.Binding{URI: parse(t, "amqp://u:secret@h:65536")}, "65535"},
		{"unknown parameters", binding.Binding{URI: parse(t, "amqp://u:secret@h?heartbeat=x&channel_max=9")}, "remove the ? and everything after it"},
		{"a password in place of parameters", binding.Binding{URI: parse(t, "amqp://h?secret")}, "remove the ? and everything after it"},
		{"a CA without certificate", binding.Binding{URI: parse(t, "amqps://u:secret@h"), CA: []byte("-")}, "ca.crt"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			source := func() (binding.Binding, error) { return tt.address, nil }
			_, err := newDialer(source, "component", slog.New(slog.DiscardHandler)).dial(t.Context(), "test")
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("connecting returned %v", err)
			}
		})
	}
}

func parse(t *testing.T, uri string) *url.URL {
	t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
