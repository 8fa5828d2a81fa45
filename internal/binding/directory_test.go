package binding

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDirectory_ReadsKeysOfAMountedSecret(t *testing.T) {
	t.Parallel()
	ca := certificate(t)
	tests := []struct {
		name    string
		service Service
		keys    map[string]string
		uri     string // expected URI, or "" for an invalid directory
		reason  string // expected error, or "" for a valid directory
	}{
		{"a uri is taken as it is", Redis(), map[string]string{"uri": "redis://u:p@h:1/2\n"}, "redis://u:p@h:1/2", ""},
		{"a uri without user is completed with user name and password", RabbitMQ(),
			map[string]string{"uri": "amqp://h:1/v", "username": "u", "password": "p"}, "amqp://u:p@h:1/v", ""},
		{"a uri with a user is completed with a password", RabbitMQ(), map[string]string{"uri": "amqp://a@h", "password": "p"}, "amqp://a:p@h", ""},
		{"a uri with a password is completed with a user name", Redis(), map[string]string{"uri": "redis://:p@h", "username": "u"}, "redis://u:p@h", ""},
		{"keys that repeat the credentials of the uri are accepted", RabbitMQ(),
			map[string]string{"uri": "amqp://a:b%2F@h", "username": "a", "password": "b/"}, "amqp://a:b%2F@h", ""},
		{"keys that contradict the credentials of the uri are rejected", RabbitMQ(),
			map[string]string{"uri": "amqp://a:b@h", "username": "a", "password": "p"}, "", `key "password" differs from the password in key "uri"`},
		{"host, port, user name and password make an address", RabbitMQ(),
			map[string]string{"type": "rabbitmq", "host": "h", "port": "5672", "username": "u", "password": "p/@\n"}, "amqp://u:p%2F%40@h:5672", ""},
		{"the port may be left out", Redis(), map[string]string{"host": "h"}, "redis://h", ""},
		{"a bare IPv6 host is taken", Redis(), map[string]string{"host": "::1"}, "redis://[::1]", ""},
		{"a password alone is taken", Redis(), map[string]string{"host": "h", "password": "p\r\n"}, "redis://:p@h", ""},
		{"certificates mean TLS", Redis(), map[string]string{"host": "h", "port": "6379", "ca.crt": ca}, "rediss://h:6379", ""},
		{"certificates mean TLS whatever the uri says", RabbitMQ(), map[string]string{"uri": "amqp://h:5671", "ca.crt": ca}, "amqps://h:5671", ""},
		{"Valkey is a store", Redis(), map[string]string{"type": "valkey", "host": "h"}, "redis://h", ""},
		{"a type that is not known does no harm", Redis(), map[string]string{"type": "cache", "host": "h"}, "redis://h", ""},
		{"an empty directory names the missing keys", RabbitMQ(), nil, "", `key "uri" is missing or empty, and so is "host"`},
		{"an empty uri and no host names the missing keys", RabbitMQ(), map[string]string{"uri": "\n"}, "", `key "uri" is missing or empty`},
		{"the Secret of another server is refused", RabbitMQ(), map[string]string{"type": "redis", "host": "h"}, "", `key "type" says that this is the Secret of a Redis server`},
		{"a uri that is not valid names its key", RabbitMQ(), map[string]string{"uri": "redis://h"}, "", `key "uri": the URI of RabbitMQ is invalid`},
		{"a port that is not a number names its key", RabbitMQ(), map[string]string{"host": "h", "port": "x"}, "", `the value of key "port" is not a number from 1 to 65535`},
		{"an invalid certificate, with the name of its key", RabbitMQ(), map[string]string{"host": "h", "ca.crt": "x"}, "", `key "ca.crt" contains no PEM certificate`},
		{"a file beyond all bounds is refused", RabbitMQ(), map[string]string{"host": strings.Repeat("h", maxFile+1)}, "", `key "host": the file is longer than`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := directoryOf(t, tt.keys)
			a, err := Directory(tt.service, dir)()
			if tt.reason != "" {
				if err == nil || !strings.Contains(err.Error(), tt.reason) || !strings.Contains(err.Error(), dir) {
					t.Fatalf("error %v does not say %q of %s", err, tt.reason, dir)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := a.URI.String(); got != tt.uri {
				t.Errorf("address is %q, want %q", got, tt.uri)
			}
			if got := string(a.CA); got != strings.TrimSuffix(tt.keys["ca.crt"], "\n") {
				t.Errorf("certificates are %q", got)
			}
		})
	}
}

func TestDirectory_MissingDirectory_IsNamedInTheError(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing")
	if _, err := Directory(Redis(), missing)(); err == nil || !strings.Contains(err.Error(), "check that the Secret is mounted there") {
		t.Errorf("error is %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Directory(Redis(), file)(); err == nil || !strings.Contains(err.Error(), "not a") {
		t.Errorf("error is %v", err)
	}
}

// This test replaces the symbolic link ..data, as a kubelet does when a mounted Secret changes. Each file is a link
// through ..data.
func TestDirectory_SecretChanges_NextCallReturnsTheNewBinding(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	version := func(name, password string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		for key, value := range map[string]string{"host": "h", "username": "u", "password": password} {
			if err := os.WriteFile(filepath.Join(dir, name, key), []byte(value), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(name, filepath.Join(dir, "..tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("..1", "old")
	source := Directory(Redis(), dir)
	for _, password := range []string{"old", "new"} {
		if password == "new" {
			version("..2", "new")
		}
		a, err := source()
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := a.URI.User.Password(); got != password {
			t.Errorf("password is %q, want %q", got, password)
		}
	}
}

func directoryOf(t *testing.T, keys map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for key, value := range keys {
		if err := os.WriteFile(filepath.Join(dir, key), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
