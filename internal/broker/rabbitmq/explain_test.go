package rabbitmq

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/binding"
)

func TestExplain_NamesTheRemedy(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		err    error
		remedy string
	}{
		{"a host that does not exist", &net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}, "correct the host name"},
		{"a port without a listener", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, "start RabbitMQ there"},
		{"a process with too many open files", os.NewSyscallError("socket", syscall.EMFILE), "ulimit -n"},
		{"a host that does not answer", context.DeadlineExceeded, "firewall"},
		{"a read that takes too long", os.ErrDeadlineExceeded, "firewall"},
		{"a server without TLS", &tlsError{tls.RecordHeaderError{}}, "does not speak TLS"},
		{"a certificate of an unknown CA", &tlsError{x509.UnknownAuthorityError{}}, "ca.crt"},
		{"a certificate for another host", &tlsError{x509.HostnameError{Certificate: &x509.Certificate{}}}, "host name"},
		{"another fault of TLS", &tlsError{io.EOF}, "certificate is valid"},
		{"a virtual host that does not exist", &amqp.Error{Code: amqp.NotAllowed, Reason: "NOT_ALLOWED - vhost x not found"}, "add_vhost"},
		{"a virtual host without permission", &amqp.Error{Code: amqp.NotAllowed, Reason: "NOT_ALLOWED - access to vhost 'x' refused for user 'u'"}, "set_permissions"},
		{"a limit of connections", &amqp.Error{Code: amqp.NotAllowed, Reason: "NOT_ALLOWED - limit is reached"}, "limits"},
		{"a wrong password", amqp.ErrCredentials, "user name or password"},
		{"a server that hangs up", &amqp.Error{Code: amqp.FrameError, Reason: "EOF"}, "amqps"},
		{"a server that hangs up before anything", io.EOF, "amqps"},
		{"a server in trouble", &amqp.Error{Code: amqp.InternalError, Reason: "INTERNAL_ERROR"}, "broker's log"},
	}
	address := binding.Binding{URI: &url.URL{
		Scheme: "amqp", User: url.UserPassword("someone", "secret"), Host: "127.0.0.1:5672", Path: "/",
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := explain(address, tt.err)
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

func TestReadTarget(t *testing.T) {
	t.Parallel()
	tests := []struct {
		uri      string
		hostPort string
		login    amqp.PlainAuth
		vhost    string
		tls      string // the server's name; empty means no TLS
	}{
		{"amqp://", "localhost:5672", amqp.PlainAuth{Username: "guest", Password: "guest"}, "/", ""},
		{"amqp://h", "h:5672", amqp.PlainAuth{Username: "guest", Password: "guest"}, "/", ""},
		{"amqp://u:p%40@h:1/", "h:1", amqp.PlainAuth{Username: "u", Password: "p@"}, "/", ""},
		{"amqp://u@h/%2F", "h:5672", amqp.PlainAuth{Username: "u"}, "/", ""},
		{"amqps://u:p@h/v", "h:5671", amqp.PlainAuth{Username: "u", Password: "p"}, "v", "h"},
		{"amqps://u:p@[::1]:7/v%2Fw", "[::1]:7", amqp.PlainAuth{Username: "u", Password: "p"}, "v/w", "::1"},
	}
	for _, tt := range tests {
		t.Run(tt.uri, func(t *testing.T) {
			t.Parallel()
			got, err := readTarget(binding.Binding{URI: parse(t, tt.uri)})
			if err != nil {
				t.Fatal(err)
			}
			name := ""
			if got.tls != nil {
				name = got.tls.ServerName
			}
			if got.hostPort != tt.hostPort || got.login != tt.login || got.vhost != tt.vhost || name != tt.tls {
				t.Errorf("read %s, %v, virtual host %s, TLS %q", got.hostPort, got.login, got.vhost, name)
			}
		})
	}
}

func TestDial_RejectsInvalidBindings(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		address binding.Binding
		want    string
	}{
		{"no URI", binding.Binding{}, "no URI"},
		{"another scheme", binding.Binding{URI: parse(t, "http://u:secret@h")}, "amqps for TLS"},
		{"a port beyond the last", binding.Binding{URI: parse(t, "amqp://u:secret@h:65536")}, "65535"},
		{"unknown parameters", binding.Binding{URI: parse(t, "amqp://u:secret@h?heartbeat=x&channel_max=9")}, "remove the ? and everything after it"},
		{"a password in place of parameters", binding.Binding{URI: parse(t, "amqp://h?secret")}, "remove the ? and everything after it"},
		{"a CA without certificate", binding.Binding{URI: parse(t, "amqps://u:secret@h"), CA: []byte("-")}, "ca.crt"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			source := func() (binding.Binding, error) { return tt.address, nil }
			_, err := dial(t.Context(), source, "test")
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
