package binding

import (
	"slices"
	"strings"
	"testing"
)

func TestDirectory_SeveralAddresses_ReturnsAllEndpoints(t *testing.T) {
	t.Parallel()
	ca := certificate(t)
	for _, tt := range []struct {
		name    string
		service Service
		keys    map[string]string
		want    []string // the URIs of the endpoints
		err     string
	}{
		{"URIs separated by commas", RabbitMQ(), map[string]string{"uris": "amqp://u:p@a/v,amqp://u:p@b:1/v"}, []string{"amqp://u:p@a/v", "amqp://u:p@b:1/v"}, ""},
		{"URIs on lines of their own", RabbitMQ(), map[string]string{"uris": "amqp://a\r\namqp://b\n"}, []string{"amqp://a", "amqp://b"}, ""},
		{"URIs separated by commas and spaces", Redis(), map[string]string{"uris": "redis://a, redis://b"}, []string{"redis://a", "redis://b"}, ""},
		{"a password with a comma", RabbitMQ(), map[string]string{"uris": "amqp://u:p,q@a,amqp://b"}, []string{"amqp://u:p,q@a", "amqp://u:p,q@b"}, ""},
		{"credentials in the last URI only", RabbitMQ(), map[string]string{"uris": "amqp://a,amqp://u:p@b"}, []string{"amqp://u:p@a", "amqp://u:p@b"}, ""},
		{"credentials in keys", RabbitMQ(), map[string]string{"uris": "amqp://a,amqp://b", "username": "u", "password": "p"}, []string{"amqp://u:p@a", "amqp://u:p@b"}, ""},
		{"a URI, and a list that contains it", RabbitMQ(), map[string]string{"uri": "amqp://b", "uris": "amqp://a,amqp://b"}, []string{"amqp://b", "amqp://a"}, ""},
		{"a virtual host in a key", RabbitMQ(), map[string]string{"uris": "amqp://a,amqp://b/", "vhost": "v"}, []string{"amqp://a/v", "amqp://b/v"}, ""},
		{"a certificate", RabbitMQ(), map[string]string{"uris": "amqp://a,amqp://b", "ca.crt": ca}, []string{"amqps://a", "amqps://b"}, ""},
		{"hosts with a common port", RabbitMQ(), map[string]string{"host": "a, b", "port": "1"}, []string{"amqp://a:1", "amqp://b:1"}, ""},
		{"hosts with ports of their own", Redis(), map[string]string{"hosts": "a:1,b,[::1]:2,::2", "port": "3"},
			[]string{"redis://a:1", "redis://b:3", "redis://[::1]:2", "redis://[::2]:3"}, ""},
		{"a URI of Sentinels, and a list", Redis(), map[string]string{"uri": "redis://a?master_name=m", "uris": "redis://a?master_name=m,redis://b?master_name=m"},
			[]string{"redis://a?master_name=m", "redis://b?master_name=m"}, ""},
		{"hosts of Sentinels with keys", Redis(), map[string]string{"host": "a:1,b:1", "password": "p", "sentinel-master": "m", "sentinel-username": "u", "sentinel-password": "s&"},
			[]string{"redis://:p@a:1?master_name=m&sentinel_password=s%26&sentinel_username=u", "redis://:p@b:1?master_name=m&sentinel_password=s%26&sentinel_username=u"}, ""},
		{"Sentinels of another primary", Redis(), map[string]string{"uri": "redis://a?master_name=n", "sentinel-master": "m"}, nil, `key "sentinel-master" differs`},
		{"no Sentinels of RabbitMQ", RabbitMQ(), map[string]string{"uri": "amqp://a", "sentinel-master": "m"}, nil, `key "sentinel-master" does not apply`},
		{"hosts of PostgreSQL", PostgreSQL(), map[string]string{"host": "a,b", "port": "1", "database": "d"}, []string{"postgres://a:1,b:1/d"}, ""},
		{"no two schemes", RabbitMQ(), map[string]string{"uris": "amqp://a,amqps://b"}, nil, "differ in their scheme"},
		{"no two virtual hosts", RabbitMQ(), map[string]string{"uris": "amqp://a/v,amqp://b"}, nil, "the virtual host must be the same"},
		{"no two databases", Redis(), map[string]string{"uris": "redis://a/1,redis://a/2"}, nil, "the database must be the same"},
		{"no two passwords", RabbitMQ(), map[string]string{"uris": "amqp://u:secret@a,amqp://u:p@b"}, nil, "differ in their user name or password"},
		{"no two sets of parameters", Redis(), map[string]string{"uris": "redis://a?cluster=true,redis://b"}, nil, "differ in their parameters"},
		{"no invalid URI in a list", RabbitMQ(), map[string]string{"uris": "amqp://u:secret@a,http://b"}, nil, `key "uris": URI 2 of 2: the URI of RabbitMQ is invalid`},
		{"no list of hosts in a URI", RabbitMQ(), map[string]string{"uri": "amqp://u:secret@a:1,b:2"}, nil, "there are several hosts in one URI"},
		{"no list in the key for one URI", RabbitMQ(), map[string]string{"uri": "amqp://u:secret@a,amqp://b"}, nil, `key "uri"`},
		{"no list without hosts", RabbitMQ(), map[string]string{"host": ","}, nil, "the list of hosts is empty"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, err := Directory(tt.service, directoryOf(t, tt.keys))()
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "secret") {
					t.Errorf("error is %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := urisOf(b); !slices.Equal(got, tt.want) {
				t.Errorf("endpoints are %q, want %q", got, tt.want)
			}
		})
	}
}

func TestBindingURI_List_ReturnsAllEndpoints(t *testing.T) {
	t.Parallel()
	source, err := URI(RabbitMQ(), "amqp://u:secret@a:1/v,amqp://b:2/v", directoryOf(t, map[string]string{"username": "w", "password": "x"}))
	if err != nil {
		t.Fatal(err)
	}
	b, err := source()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := urisOf(b), []string{"amqp://w:x@a:1/v", "amqp://w:x@b:2/v"}; !slices.Equal(got, want) {
		t.Errorf("endpoints are %q, want %q", got, want)
	}
	if got, want := b.Redacted(), "amqp://a:1,b:2/v"; got != want {
		t.Errorf("redacted is %q, want %q", got, want)
	}
	_, err = URI(RabbitMQ(), "amqp://u:secret@a,amqp://u:secret@b:x", "")
	if err == nil || !strings.Contains(err.Error(), "URI 2 of 2") || strings.Contains(err.Error(), "secret") {
		t.Errorf("error is %v", err)
	}
}

func urisOf(b Binding) []string {
	var uris []string
	for _, endpoint := range b.Endpoints() {
		uris = append(uris, endpoint.URI.String())
	}
	return uris
}
