package binding

import (
	"strings"
	"testing"
)

func TestBindingURI_AcceptsValidAndRejectsInvalidURIs(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		service  Service
		uri      string
		redacted string // expected redacted form, or "" for an invalid URI
		reason   string // expected error, or "" for a valid URI
	}{
		{"the user and password of a RabbitMQ URI are hidden", RabbitMQ(), "amqp://guest:s3cr3t@127.0.0.1:5672/", "amqp://127.0.0.1:5672/", ""},
		{"a RabbitMQ URI with TLS is accepted", RabbitMQ(), "amqps://broker.example", "amqps://broker.example", ""},
		{"a Redis password without a user name is hidden", Redis(), "redis://:s3cr3t@localhost:6379/0", "redis://localhost:6379/0", ""},
		{"a Redis password in the place of the user name is hidden", Redis(), "rediss://s3cr3t@localhost", "rediss://localhost", ""},
		{"the parameters of a URI are hidden", Redis(), "redis://localhost?password=s3cr3t", "redis://localhost", ""},
		{"a password with an @ is accepted", Redis(), "redis://u:s3@cr3t@localhost", "redis://localhost", ""},
		{"a virtual host is shown with its escapes", RabbitMQ(), "amqp://h/a%2Fb", "amqp://h/a%2Fb", ""},
		{"an IPv6 address is accepted", Redis(), "redis://[::1]:6379", "redis://[::1]:6379", ""},
		{"another scheme is rejected", RabbitMQ(), "http://guest:s3cr3t@127.0.0.1", "", "does not begin with amqp:// or amqps://"},
		{"a host and port without a scheme are rejected", Redis(), "localhost:6379", "", "does not begin with redis:// or rediss://"},
		{"an IP address without a scheme is rejected", Redis(), "127.0.0.1:6379", "", "does not begin with redis:// or rediss://"},
		{"a comma at the end is explained", Redis(), "redis://h:1,", "", "the URI ends with a comma; remove the comma"},
		{"a comma and a space at the end are explained", RabbitMQ(), "amqp://a,amqp://b/v, ", "", "the URI ends with a comma; remove the comma"},
		{"an empty text is rejected", Redis(), "", "", "does not begin with"},
		{"a URI without a host is rejected", RabbitMQ(), "amqp://guest:s3cr3t@", "", "the URI has no host"},
		{"a URI with a port but no host is rejected", RabbitMQ(), "amqp://:5672", "", "the URI has no host"},
		{"a port that is no number is rejected", RabbitMQ(), "amqp://u@h:s3cr3t/", "", "the syntax is wrong"},
		{"a port above 65535 is rejected", RabbitMQ(), "amqp://u@h:65536/", "", "the port is not a number"},
		{"port zero is rejected", RabbitMQ(), "amqp://u@h:0/", "", "the port is not a number"},
		{"an empty port is rejected", RabbitMQ(), "amqp://u@h:/", "", "the port is not a number"},
		{"a bare % is explained", RabbitMQ(), "amqp://u:s3cr3t%zz@h", "", "write a bare % as %25"},
		{"a space in the host is explained", RabbitMQ(), "amqp://u:s3cr3t@h h", "", "the host name contains"},
		{"a bare slash in the password is explained", RabbitMQ(), "amqp://u:12/s3cr3t@h", "", "write these characters as %2F"},
		{"a bare ? in the password is explained", RabbitMQ(), "amqp://u:12?s3cr3t@h", "", "write these characters as %2F"},
		{"a bare # in the password is explained", RabbitMQ(), "amqp://u:12#s3cr3t@h", "", "write these characters as %2F"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			source, err := URI(tt.service, tt.uri, "")
			if tt.reason != "" {
				if err == nil || !strings.Contains(err.Error(), tt.reason) {
					t.Fatalf("error %v does not say %q", err, tt.reason)
				}
				if !strings.Contains(err.Error(), tt.service.Example) {
					t.Errorf("error %q shows no example", err)
				}
				assertNoSecret(t, err.Error(), "s3cr3t")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			a, err := source()
			if err != nil {
				t.Fatal(err)
			}
			if got := a.Redacted(); got != tt.redacted {
				t.Errorf("redacted is %q, want %q", got, tt.redacted)
			}
			if got := a.URI.String(); got != tt.uri && !strings.Contains(tt.uri, "3@c") {
				t.Errorf("address is %q, want the URI as it was given", got)
			}
		})
	}
}

func TestBindingURI_CallerModifiesResult_NextResultIsUnchanged(t *testing.T) {
	t.Parallel()
	source, err := URI(Redis(), "redis://localhost:6379", "")
	if err != nil {
		t.Fatal(err)
	}
	first, _ := source()
	first.URI.Host = "changed"
	if second, _ := source(); second.URI.Host != "localhost:6379" {
		t.Errorf("the next address has host %q", second.URI.Host)
	}
}

func TestRedacted_ZeroBinding_IsEmpty(t *testing.T) {
	t.Parallel()
	if got := (Binding{}).Redacted(); got != "" {
		t.Errorf("redacted is %q", got)
	}
}

func assertNoSecret(t *testing.T, text, secret string) {
	t.Helper()
	if strings.Contains(text, secret) {
		t.Errorf("%q contains the password", text)
	}
}

const fuzzedSecret = "s3cr3tPassw0rd"

// The test puts a known password into URIs of any form. Neither errors nor redacted URIs may contain the password.
func FuzzURI_PasswordInURI_IsNeverShown(f *testing.F) {
	addSecretShapes(f)
	f.Fuzz(func(t *testing.T, scheme, before, after, rest string) {
		if strings.Contains(rest, fuzzedSecret) || !strings.HasPrefix(rest, "@") {
			t.Skip("not a URI with the password before its @")
		}
		for _, s := range []Service{RabbitMQ(), Redis(), PostgreSQL(), HTTP()} {
			source, err := URI(s, scheme+before+fuzzedSecret+after+rest, "")
			showNoSecret(t, source, err)
		}
	})
}

// The test puts a known password into the files of a mounted Secret. Neither errors nor redacted URIs may contain the
// password.
func FuzzDirectory_PasswordInFiles_IsNeverShown(f *testing.F) {
	addSecretShapes(f)
	f.Fuzz(func(t *testing.T, scheme, before, after, rest string) {
		if strings.Contains(rest, fuzzedSecret) || !strings.HasPrefix(rest, "@") {
			t.Skip("not a URI with the password before its @")
		}
		password := before + fuzzedSecret + after
		host := strings.TrimPrefix(rest, "@")
		for _, keys := range []map[string]string{
			{"uri": scheme + password + rest},
			{"uri": scheme + host, "password": password},
			{"host": host, "username": "user", "password": password},
			{"host": scheme + password + rest, "port": password},
			{"host": "localhost", "port": fuzzedSecret, "type": fuzzedSecret, "ca.crt": fuzzedSecret},
		} {
			showNoSecret(t, Directory(RabbitMQ(), directoryOf(t, keys)), nil)
		}
	})
}

func addSecretShapes(f *testing.F) {
	for _, seed := range [][4]string{
		{"amqp://user:", "", "", "@localhost:5672/"},
		{"redis://:", "%zz", "", "@localhost:6379/0"},
		{"redis://", "12/", "?#", "@localhost"},
		{"amqps://user:", "x@y/", "", "@h h:0"},
		{"rediss://u:", "1:2:", "[", "@[::1"},
		{"user:", "", "", "@localhost"},
		{"", ":", "\x7f", "@"},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3])
	}
}

func showNoSecret(t *testing.T, source Source, err error) {
	t.Helper()
	if err == nil {
		var a Binding
		a, err = source()
		assertNoSecret(t, a.Redacted(), fuzzedSecret)
	}
	if err != nil {
		assertNoSecret(t, err.Error(), fuzzedSecret)
	}
}
