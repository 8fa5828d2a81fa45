package binding

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/internal/tlstest"
)

// describeBinding returns all fields of a binding as text, so that tests can compare bindings.
func describeBinding(b Binding) string {
	parts := []string{b.URI.String()}
	for name, value := range map[string]string{"token": b.Token, "CA": string(b.CA), "certificate": string(b.Certificate), "key": string(b.Key)} {
		if value != "" {
			parts = append(parts, name+"="+value)
		}
	}
	slices.Sort(parts[1:])
	return strings.Join(parts, " ")
}

// In each test case, one key of a Secret changes the binding. The test fails if a key in keyTable has no test case,
// or if no code reads the key.
func TestSecretKeys_EachKey_IsRead(t *testing.T) {
	t.Parallel()
	ca := certificate(t)
	certificate, key := keyPair(t)
	tests := []struct {
		key     string
		service Service
		value   string
		with    map[string]string
		want    string // the expected binding, as text
		err     string // the expected error if the binding is invalid
	}{
		{key: "type", service: Redis(), value: "rabbitmq", with: map[string]string{"host": "h"}, err: `key "type" says`},
		{key: "uri", service: Redis(), value: "redis://a", want: "redis://a"},
		{key: "host", service: Redis(), value: "a", want: "redis://a"},
		{key: "port", service: Redis(), value: "7", with: map[string]string{"host": "h"}, want: "redis://h:7"},
		{key: "username", service: Redis(), value: "u", with: map[string]string{"host": "h"}, want: "redis://u:@h"},
		{key: "user", service: Redis(), value: "u", with: map[string]string{"host": "h"}, want: "redis://u:@h"},
		{key: "password", service: Redis(), value: "p", with: map[string]string{"host": "h"}, want: "redis://:p@h"},
		{key: "vhost", service: RabbitMQ(), value: "v", with: map[string]string{"host": "h"}, want: "amqp://h/v"},
		{key: "virtual-host", service: RabbitMQ(), value: "v", with: map[string]string{"uri": "amqp://h/"}, want: "amqp://h/v"},
		{key: "database", service: Redis(), value: "3", with: map[string]string{"host": "h"}, want: "redis://h/3"},
		{key: "db", service: Redis(), value: "3", with: map[string]string{"uri": "redis://h"}, want: "redis://h/3"},
		{key: "token", service: HTTP(), value: "t", want: "https://h token=t"},
		{key: "ca.crt", service: Redis(), value: ca, with: map[string]string{"host": "h"}, want: "rediss://h CA=" + strings.TrimSuffix(ca, "\n")},
		{key: "tls.crt", service: RabbitMQ(), value: certificate, with: map[string]string{"host": "h", "tls.key": key},
			want: "amqps://h certificate=" + strings.TrimSuffix(certificate, "\n") + " key=" + strings.TrimSuffix(key, "\n")},
		{key: "tls.key", service: RabbitMQ(), value: key, with: map[string]string{"host": "h", "tls.crt": certificate},
			want: "amqps://h certificate=" + strings.TrimSuffix(certificate, "\n") + " key=" + strings.TrimSuffix(key, "\n")},
	}
	tested := map[string]bool{}
	for _, tt := range tests {
		tested[tt.key] = true
		t.Run(tt.key, func(t *testing.T) {
			t.Parallel()
			keys := maps.Clone(tt.with)
			if keys == nil {
				keys = map[string]string{}
			}
			keys[tt.key] = tt.value
			source := Folder(tt.service, folderOf(t, keys))
			if tt.service == HTTP() {
				var err error
				if source, err = URI(HTTP(), "https://h", WithFolder(folderOf(t, keys))); err != nil {
					t.Fatal(err)
				}
			}
			b, err := source()
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error is %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := describeBinding(b); got != tt.want {
				t.Errorf("binding is %q, want %q", got, tt.want)
			}
		})
	}
	for _, service := range []Service{RabbitMQ(), Redis(), HTTP()} {
		for _, key := range service.Keys() {
			if !tested[key] {
				t.Errorf("key %q has no test", key)
			}
		}
	}
}

func TestSecretKeys_InvalidValues_AreRejected(t *testing.T) {
	t.Parallel()
	certificate, key := keyPair(t)
	_, otherKey := keyPair(t)
	tests := []struct {
		name    string
		service Service
		keys    map[string]string
		want    string
	}{
		{"a database of RabbitMQ", RabbitMQ(), map[string]string{"host": "h", "db": "1"}, `key "db" does not apply to RabbitMQ`},
		{"a virtual host of Redis", Redis(), map[string]string{"host": "h", "virtual-host": "v"}, `key "virtual-host" does not apply to Redis`},
		{"a token for RabbitMQ", RabbitMQ(), map[string]string{"host": "h", "token": "t"}, `key "token" does not apply to RabbitMQ`},
		{"a database that is no number", Redis(), map[string]string{"host": "h", "database": "main"}, `key "database" is not the number`},
		{"two virtual hosts", RabbitMQ(), map[string]string{"host": "h", "vhost": "a", "virtual-host": "b"}, `keys "vhost" and "virtual-host" mean the same and differ`},
		{"a virtual host that differs from the URI", RabbitMQ(), map[string]string{"uri": "amqp://h/a", "vhost": "b"}, `key "vhost" differs from the path of key "uri"`},
		{"a database that differs from the URI", Redis(), map[string]string{"uri": "redis://h/1", "db": "2"}, `key "database" differs from the path of key "uri"`},
		{"two line ends after a password", Redis(), map[string]string{"host": "h", "password": "secret\n\n"}, `key "password" has surplus white space`},
		{"a blank before a host", Redis(), map[string]string{"host": " h"}, `key "host" has surplus white space`},
		{"a blank after a URI", Redis(), map[string]string{"uri": "redis://h "}, `key "uri" has surplus white space`},
		{"a password of blanks", Redis(), map[string]string{"host": "h", "password": "  "}, `key "password" has surplus white space`},
		{"a certificate without a key", Redis(), map[string]string{"host": "h", "tls.crt": certificate}, `key "tls.crt" has no "tls.key"`},
		{"a key without a certificate", Redis(), map[string]string{"host": "h", "tls.key": key}, `key "tls.key" has no "tls.crt"`},
		{"a key of another certificate", Redis(), map[string]string{"host": "h", "tls.crt": certificate, "tls.key": otherKey}, `keys "tls.crt" and "tls.key" are not`},
		{"a key that is no PEM block", Redis(), map[string]string{"host": "h", "tls.crt": certificate, "tls.key": "secret"}, `keys "tls.crt" and "tls.key" are not`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := Folder(tt.service, folderOf(t, tt.keys))()
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("error is %v, want %q", err, tt.want)
			}
		})
	}
}

func TestURI_WithFolder_AddsTheKeysInTheFolder(t *testing.T) {
	t.Parallel()
	ca := certificate(t)
	tests := []struct {
		name, uri string
		keys      map[string]string
		want      string
		err       string
	}{
		{"the Secret's user replaces the URL's", "http://a:b@h", map[string]string{"username": "u", "password": "p"}, "http://u:p@h", ""},
		{"an empty folder adds nothing", "http://a:b@h", nil, "http://a:b@h", ""},
		{"a CA needs https", "http://h", map[string]string{"ca.crt": ca}, "", "use https://"},
		{"a URI in the Secret", "http://h", map[string]string{"uri": "http://other"}, "", `key "uri" does not apply to the summary API`},
		{"a token of two lines", "https://h", map[string]string{"token": "a\nb"}, "", `key "token" holds characters`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := folderOf(t, tt.keys)
			source, err := URI(HTTP(), tt.uri, WithFolder(dir))
			if err != nil {
				t.Fatal(err)
			}
			b, err := source()
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), dir) {
					t.Errorf("error is %v, want %q of %s", err, tt.err, dir)
				}
				return
			}
			if err != nil || describeBinding(b) != tt.want {
				t.Errorf("binding is %v (%v), want %q", b, err, tt.want)
			}
		})
	}
}

func TestURI_WithTLSFiles_AddsTheCertificates(t *testing.T) {
	t.Parallel()
	certificate, key := keyPair(t)
	dir := folderOf(t, map[string]string{"authority": certificate, "mine": certificate, "mine.key": key})
	source, err := URI(RabbitMQ(), "amqp://u:p@h:5671/v", WithTLSFiles(TLSFiles{
		CA: dir + "/authority", Certificate: dir + "/mine", Key: dir + "/mine.key",
	}))
	if err != nil {
		t.Fatal(err)
	}
	b, err := source()
	if err != nil {
		t.Fatal(err)
	}
	if b.URI.String() != "amqps://u:p@h:5671/v" || b.CA == nil || b.Certificate == nil || b.Key == nil {
		t.Errorf("binding is %q", describeBinding(b))
	}
	source, err = URI(RabbitMQ(), "amqp://h", WithTLSFiles(TLSFiles{CA: dir + "/missing"}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := source(); err == nil || !strings.Contains(err.Error(), dir+"/missing") {
		t.Errorf("error is %v, want one that names the missing file", err)
	}
}

func TestCheckFolder_ReportsInvalidFolders(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		keys map[string]string
		want string
	}{
		{"a token", map[string]string{"token": "t"}, ""},
		{"a user name", map[string]string{"username": "u"}, ""},
		{"a CA", map[string]string{"ca.crt": certificate(t)}, ""},
		{"no key", map[string]string{"readme": "x"}, "it has none of the files type, username, user, password, token, ca.crt, tls.crt, tls.key"},
		{"an invalid CA", map[string]string{"ca.crt": "x"}, `key "ca.crt" holds no PEM certificate`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := HTTP().CheckFolder(folderOf(t, tt.keys))
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want %q", err, tt.want)
			}
		})
	}
}

// certificate returns a CA certificate in PEM format.
func certificate(t *testing.T) string {
	t.Helper()
	return string(tlstest.NewAuthority(t, "test CA").PEM)
}

// keyPair returns a certificate and its private key in PEM format.
func keyPair(t *testing.T) (certificate, key string) {
	t.Helper()
	c, k := tlstest.NewAuthority(t, "test CA").Issue(t)
	return string(c), string(k)
}
