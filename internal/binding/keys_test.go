package binding

import (
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/internal/tlstest"
)

func describeBinding(b Binding) string {
	parts := append([]string{b.URI.String()}, b.Alternatives...)
	for name, value := range map[string]string{"token": b.Token, "CA": string(b.CA), "certificate": string(b.Certificate), "key": string(b.Key)} {
		if value != "" {
			parts = append(parts, name+"="+value)
		}
	}
	slices.Sort(parts[1:])
	return strings.Join(parts, " ")
}

func TestSecretKeys_EachKey_IsRead(t *testing.T) {
	t.Parallel()
	ca := certificate(t)
	certificate, key := keyPair(t)
	tests := []struct {
		key     string
		service Service
		value   string
		with    map[string]string
		want    string // the expected result of describeBinding
		err     string
	}{
		{key: "type", service: Redis(), value: "rabbitmq", with: map[string]string{"host": "h"}, err: `key "type" says`},
		{key: "uri", service: Redis(), value: "redis://a", want: "redis://a"},
		{key: "uris", service: RabbitMQ(), value: "amqp://a,amqp://b:1", want: "amqp://a b:1"},
		{key: "host", service: Redis(), value: "a", want: "redis://a"},
		{key: "hosts", service: Redis(), value: "a,b:7", want: "redis://a b:7"},
		{key: "addresses", service: RabbitMQ(), value: "a:1,b:2", want: "amqp://a:1 b:2"},
		{key: "port", service: Redis(), value: "7", with: map[string]string{"host": "h"}, want: "redis://h:7"},
		{key: "username", service: Redis(), value: "u", with: map[string]string{"host": "h"}, want: "redis://u:@h"},
		{key: "user", service: Redis(), value: "u", with: map[string]string{"host": "h"}, want: "redis://u:@h"},
		{key: "password", service: Redis(), value: "p", with: map[string]string{"host": "h"}, want: "redis://:p@h"},
		{key: "vhost", service: RabbitMQ(), value: "v", with: map[string]string{"host": "h"}, want: "amqp://h/v"},
		{key: "virtual-host", service: RabbitMQ(), value: "v", with: map[string]string{"uri": "amqp://h/"}, want: "amqp://h/v"},
		{key: "database", service: Redis(), value: "3", with: map[string]string{"host": "h"}, want: "redis://h/3"},
		{key: "db", service: Redis(), value: "3", with: map[string]string{"uri": "redis://h"}, want: "redis://h/3"},
		{key: "dbname", service: PostgreSQL(), value: "d", with: map[string]string{"uri": "postgresql://h/d"}, want: "postgresql://h/d"},
		{key: "sentinel-master", service: Redis(), value: "m", with: map[string]string{"host": "h"}, want: "redis://h?master_name=m"},
		{key: "sentinel-username", service: Redis(), value: "u", with: map[string]string{"uri": "redis://h?master_name=m"}, want: "redis://h?master_name=m&sentinel_username=u"},
		{key: "sentinel-password", service: Redis(), value: "p", with: map[string]string{"uri": "redis://h?master_name=m"}, want: "redis://h?master_name=m&sentinel_password=p"},
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
			source := Directory(tt.service, directoryOf(t, keys))
			if tt.service == HTTP() {
				var err error
				if source, err = URI(HTTP(), "https://h", directoryOf(t, keys)); err != nil {
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
	for _, service := range []Service{RabbitMQ(), Redis(), PostgreSQL(), HTTP()} {
		for _, key := range service.Keys() {
			if !tested[key] {
				t.Errorf("key %q has no test case", key)
			}
		}
	}
}

// Earlier versions ignored unused address keys, so the Secrets of running simulations may contain them.
func TestSecretKeys_AddressInSeveralKeys_UnusedKeysCauseNoError(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		service Service
		keys    map[string]string
		want    string
	}{
		{RabbitMQ(), map[string]string{"uri": "amqp://a", "hosts": "b,c"}, "amqp://a"},
		{RabbitMQ(), map[string]string{"uri": "amqp://a", "host": "a", "hosts": "b,c", "addresses": "b:1"}, "amqp://a"},
		{RabbitMQ(), map[string]string{"uri": "amqp://a", "hosts": " b\n\n", "port": "1"}, "amqp://a"},
		{RabbitMQ(), map[string]string{"host": "a", "hosts": "b,c"}, "amqp://a"},
		{RabbitMQ(), map[string]string{"hosts": "b,c", "addresses": "d"}, "amqp://b c"},
		{RabbitMQ(), map[string]string{"uri": "amqp://a", "uris": "amqp://b"}, "amqp://a b"},
		{RabbitMQ(), map[string]string{"uri": "amqp://u:p@a", "uris": "amqp://v:q@b"}, "amqp://u:p@a"},
		{RabbitMQ(), map[string]string{"uri": "amqp://a", "uris": "http://b"}, "amqp://a"},
		{RabbitMQ(), map[string]string{"uri": "amqp://a", "uris": "amqp://u:p@b,amqp://c/v"}, "amqp://a"},
		{RabbitMQ(), map[string]string{"uri": "amqp://a", "uris": "amqp://u:p@b/v"}, "amqp://a"},
		{Redis(), map[string]string{"uri": "redis://a", "uris": "redis://a,redis://replica"}, "redis://a"},
		{Redis(), map[string]string{"uri": "redis://a?cluster=false", "uris": "redis://b?cluster=false"}, "redis://a?cluster=false"},
		{Redis(), map[string]string{"uri": "redis://a?cluster=true", "uris": "redis://b?cluster=true"}, "redis://a?cluster=true b"},
		{Redis(), map[string]string{"uri": "redis://a?cluster=true", "uris": "redis://b"}, "redis://a?cluster=true"},
		{PostgreSQL(), map[string]string{"uri": "postgres://a/d", "hosts": "b,c", "uris": "postgres://b/d"}, "postgres://a/d"},
	} {
		b, err := Directory(tt.service, directoryOf(t, tt.keys))()
		if err != nil {
			t.Errorf("%s with %q: %v", tt.service.Name, tt.keys, err)
		} else if got := describeBinding(b); got != tt.want {
			t.Errorf("%s with %q: binding is %q, want %q", tt.service.Name, tt.keys, got, tt.want)
		}
	}
	source, err := URI(HTTP(), "https://h", directoryOf(t, map[string]string{"token": "t", "hosts": "a,b", "uris": "x"}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := source(); err != nil {
		t.Errorf("a Secret of the summary API: %v", err)
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
		{"a database in a Secret for RabbitMQ", RabbitMQ(), map[string]string{"host": "h", "db": "1"}, `key "db" does not apply to RabbitMQ`},
		{"a virtual host in a Secret for Redis", Redis(), map[string]string{"host": "h", "virtual-host": "v"}, `key "virtual-host" does not apply to Redis`},
		{"a token in a Secret for RabbitMQ", RabbitMQ(), map[string]string{"host": "h", "token": "t"}, `key "token" does not apply to RabbitMQ`},
		{"a Redis database that is not a number", Redis(), map[string]string{"host": "h", "database": "main"}, `key "database" must be the number`},
		{"two virtual hosts", RabbitMQ(), map[string]string{"host": "h", "vhost": "a", "virtual-host": "b"}, `keys "vhost" and "virtual-host" are synonyms but have different values`},
		{"a virtual host that differs from the URI", RabbitMQ(), map[string]string{"uri": "amqp://h/a", "vhost": "b"}, `key "vhost" differs from the path of the URI in key "uri"`},
		{"a database that differs from the URIs", Redis(), map[string]string{"uris": "redis://h/1", "database": "2"}, `key "database" differs from the path of the URI in key "uris"`},
		{"a user name that differs from the one in the host", RabbitMQ(), map[string]string{"host": "u@h", "username": "v"}, `key "username" differs from the username in key "host"`},
		{"a database that differs from the URI", Redis(), map[string]string{"uri": "redis://h/1", "db": "2"}, `key "database" differs from the path of the URI in key "uri"`},
		{"two line ends after a password", Redis(), map[string]string{"host": "h", "password": "secret\n\n"}, `key "password" starts or ends with white space`},
		{"a blank before a host", Redis(), map[string]string{"host": " h"}, `key "host" starts or ends with white space`},
		{"a blank after a URI", Redis(), map[string]string{"uri": "redis://h "}, `key "uri" starts or ends with white space`},
		{"a password of blanks", Redis(), map[string]string{"host": "h", "password": "  "}, `key "password" starts or ends with white space`},
		{"a certificate without a private key", Redis(), map[string]string{"host": "h", "tls.crt": certificate}, `key "tls.crt" is set, but key "tls.key" is missing`},
		{"a private key without a certificate", Redis(), map[string]string{"host": "h", "tls.key": key}, `key "tls.key" is set, but key "tls.crt" is missing`},
		{"a password that differs from the URI", Redis(), map[string]string{"uri": "redis://u:a@h", "password": "b"}, `key "password" differs from the password in key "uri"`},
		{"a user name that differs from the URI", Redis(), map[string]string{"uri": "redis://u:a@h", "username": "v"}, `key "username" differs from the username in key "uri"`},
		{"a URI as a host", Redis(), map[string]string{"host": "redis://h"}, `key "host" contains a URI: use the key "uri"`},
		{"an IPv6 address without brackets", Redis(), map[string]string{"uri": "redis://2001:db8::7"}, `write the host as [::1]`},
		{"a private key of another certificate", Redis(), map[string]string{"host": "h", "tls.crt": certificate, "tls.key": otherKey}, `keys "tls.crt" and "tls.key" are not`},
		{"a private key that is not a PEM block", Redis(), map[string]string{"host": "h", "tls.crt": certificate, "tls.key": "secret"}, `keys "tls.crt" and "tls.key" are not`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := Directory(tt.service, directoryOf(t, tt.keys))()
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("error is %v, want %q", err, tt.want)
			}
		})
	}
}

// A misspelled key must not be ignored. Clients would silently use a default, such as the virtual host "/" or a
// connection without TLS.
func TestSecretKeys_UnknownKeyResemblesKnownKey_ErrorNamesBoth(t *testing.T) {
	t.Parallel()
	lookalikes := map[string]string{
		"uri": "URI url URL Url connection_string connectionString connection-string connection dsn amqp_url redis_url REDIS_URL " +
			"AMQP_URL RABBITMQ_URL RABBITMQ_URI CLOUDAMQP_URL DATABASE-URL service-uri",
		"uris": "URIS urls REDIS_URLS amqp-urls connection_urls",
		"host": "HOST Host hostname hostName host_name HOST_NAME server address addr endpoint endpoints nodes REDIS_HOST rabbitmq-host sentinels sentinel_hosts " +
			"service_host serverName node_addresses HOSTS",
		"port":     "PORT Port ports port_number portNumber amqp-port redis_port REDIS_PORT sslPort tls-port SERVICE_PORT",
		"username": "USERNAME USER userName user_name user-name login RABBITMQ_DEFAULT_USER default_user redis-user loginName usr",
		"password": "PASSWORD pass passwd pwd redis-password rabbitmq-password RABBITMQ_DEFAULT_PASS default_pass requirepass REDIS_PASSWORD authPassword user_password auth redis-auth passphrase credentials",
		"token":    "TOKEN access_token accessToken access-token bearer bearerToken api_key apiKey api-key API_TOKEN authToken",
		"vhost": "VHOST vHost Vhost v_host vhost_name vhostName virtual_host virtualHost virtualhost VirtualHost VIRTUAL-HOST rabbitmq-vhost " +
			"rabbitmq_vhost RABBITMQ_VHOST RABBITMQ_DEFAULT_VHOST default_vhost amqp.vhost",
		"database": "DATABASE Database DB db_name dbName DB_NAME database_name databaseName db_number dbNumber dbIndex db-index db_index databaseNumber " +
			"database_number database-number redis-db REDIS_DB index databaseIndex select selected-db db0 database2",
		"sentinel-master":   "master_name masterName MASTER_NAME masterGroupName sentinelMaster sentinel_master_name REDIS_SENTINEL_MASTER_NAME redis-sentinel-master-set",
		"sentinel-username": "sentinel_username SENTINEL_USER sentinelUser redis-sentinel-username",
		"sentinel-password": "sentinel_password SENTINEL_PASSWORD sentinelPass redis-sentinel-password",
		"ca.crt": "ca CA ca.pem ca.cert ca-cert ca_cert caCert cacert cacert.pem ca-certificate ca-bundle.crt ca-bundle ca-cert.pem caCert.pem ca_crt ca-crt " +
			"caBundle ca_bundle CA.crt CA_CERT root.crt rootCA.pem tls.ca tls-ca.crt sslrootcert service-ca.crt server-ca.pem certificates caCertificates ca_file",
		"tls.crt": "tls.cert tls.pem client.crt client.pem cert.pem certificate tls-cert cert cert.crt client-cert.pem client.cert TLS_CRT tlsCert clientCertificate sslcert user.crt",
		"tls.key": "client.key client-key.pem key.pem privateKey private-key TLS_KEY tls-key sslkey user.key private_key.pem",
	}
	for _, service := range []Service{RabbitMQ(), Redis(), PostgreSQL(), HTTP()} {
		for _, key := range keyTable() {
			if !slices.Contains(key.services, service) || key.name == "type" {
				continue
			}
			if lookalikes[key.name] == "" {
				t.Errorf("no lookalikes of key %q are tested", key.name)
			}
			for name := range strings.FieldsSeq(lookalikes[key.name]) {
				keys := secretReader(map[string][]byte{name: []byte("secret")})
				u := &url.URL{Scheme: service.TLSScheme}
				values, err := service.values(keys)
				if err != nil {
					t.Fatal(err)
				}
				if isLocation := slices.Contains([]string{"uri", "uris", "host", "port"}, key.name); isLocation {
					values["host"], u = "h", &url.URL{Scheme: service.Scheme, Host: "h"}
					if key.name != "port" {
						values["host"], u = "", nil
					}
				}
				err = service.checkLookalikes(keys, values, u)
				if err == nil || !strings.Contains(err.Error(), `key "`+name+`" is unknown: rename it to "`) || strings.Contains(err.Error(), "secret") {
					t.Errorf("%s with key %q: error is %v", service.Name, name, err)
				} else if key.name != "uris" && !strings.Contains(err.Error(), `rename it to "`+key.name+`"`) {
					t.Errorf("%s with key %q: error is %v, want one with %q", service.Name, name, err, key.name)
				}
				if slices.Contains(service.Keys(), name) {
					t.Errorf("%s: key %q is valid, but is rejected", service.Name, name)
				}
				values[key.name] = "value"
				if err := service.checkLookalikes(keys, values, &url.URL{Host: "h"}); err != nil {
					t.Errorf("%s with keys %q and %q: error is %v", service.Name, name, key.name, err)
				}
			}
		}
	}
	for _, tt := range []struct {
		service Service
		keys    map[string]string
		want    string
	}{
		{RabbitMQ(), map[string]string{"host": "h", "virtual_host": "secret"}, `key "virtual_host" is unknown: rename it to "vhost"`},
		{RabbitMQ(), map[string]string{"uri": "amqp://h", "virtualHost": "secret"}, `key "virtualHost" is unknown: rename it to "vhost"`},
		{RabbitMQ(), map[string]string{"connection_string": "amqp://u:secret@h"}, `key "connection_string" is unknown: rename it to "uri"`},
		{RabbitMQ(), map[string]string{"connection_string": "amqp://u:secret@h", "host": "h"}, ""},
		{Redis(), map[string]string{"hostname": "h", "password": "secret"}, `key "hostname" is unknown: rename it to "host"`},
		{Redis(), map[string]string{"host": "h", "pass": "secret"}, `key "pass" is unknown: rename it to "password"`},
		{Redis(), map[string]string{"host": "h", "ca.pem": "secret"}, `key "ca.pem" is unknown: rename it to "ca.crt"`},
		{Redis(), map[string]string{"host": "h", "tls": "true"}, `key "tls" asks for TLS, but has no effect: set "uri" to a URI that begins with rediss://`},
		{RabbitMQ(), map[string]string{"uri": "amqp://h", "ssl": "required"}, `key "ssl" asks for TLS`},
		{RabbitMQ(), map[string]string{"uri": "amqps://h", "ssl": "true"}, ""},
		{Redis(), map[string]string{"host": "h", "tls": "false"}, ""},
		{Redis(), map[string]string{"host": "h", "tlsEnabled": "true"}, `key "tlsEnabled" asks for TLS`},
		{Redis(), map[string]string{"host": "h", "SSL_ENABLED": "1"}, `key "SSL_ENABLED" asks for TLS`},
		{Redis(), map[string]string{"host": "h", "enableTLS": "yes"}, `key "enableTLS" asks for TLS`},
		{Redis(), map[string]string{"host": "h", "tls.enabled": "on"}, `key "tls.enabled" asks for TLS`},
		{Redis(), map[string]string{"host": "h", "secure": "true"}, `key "secure" asks for TLS`},
		{Redis(), map[string]string{"host": "h", "mtls": "true"}, `key "mtls" asks for TLS`},
		{RabbitMQ(), map[string]string{"host": "h", "encryption": "required"}, `key "encryption" asks for TLS`},
		{RabbitMQ(), map[string]string{"host": "h", "sslmode": "require"}, `key "sslmode" asks for TLS`},
		{Redis(), map[string]string{"host": "h", "scheme": "rediss"}, `key "scheme" asks for TLS`},
		{RabbitMQ(), map[string]string{"host": "h", "protocol": "amqps"}, `key "protocol" asks for TLS`},
		{RabbitMQ(), map[string]string{"host": "h", "protocol": "amqp"}, ""},
		{PostgreSQL(), map[string]string{"host": "h", "sslmode": "verify-full"}, `key "sslmode" asks for TLS, but has no effect: set "uri" to a URI that has sslmode=verify-full`},
		{PostgreSQL(), map[string]string{"host": "h", "sslmode": "prefer"}, ""},
		{PostgreSQL(), map[string]string{"uri": "postgres://h/d?sslmode=require", "sslmode": "require"}, ""},
		{RabbitMQ(), map[string]string{"host": "h", "password": "secret", "default_user.conf": "x", "provider": "rabbitmq", "connection_string": "x", "username": "u"}, ""},
		{Redis(), map[string]string{"host": "h", "tls.crl": "x", "keystore.p12": "x", "server.crt": "x", "server.key": "x", "ca.key": "x"}, ""},
		{Redis(), map[string]string{"host": "h", "readme": "secret"}, ""},
		{Redis(), map[string]string{"uri": "redis://:secret@h:6379/3", "redis-password": "secret", "db_number": "3"}, ""},
		{RabbitMQ(), map[string]string{"uri": "amqp://u:secret@h/v", "USERNAME": "u", "pass": "secret", "virtual_host": "v"}, ""},
		{RabbitMQ(), map[string]string{"uri": "amqp://u:secret@h/", "virtual_host": "v"}, `key "virtual_host" is unknown`},
		{Redis(), map[string]string{"uri": "redis://h?master_name=m", "master_name": "m"}, ""},
		{Redis(), map[string]string{"uri": "redis://h/3", "redis-password": "secret"}, `key "redis-password" is unknown`},
	} {
		_, err := Directory(tt.service, directoryOf(t, tt.keys))()
		if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s with %q: error is %v, want %q", tt.service.Name, tt.keys, err, tt.want)
		}
	}
}

func TestBindingKeys_AreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, service := range []Service{RabbitMQ(), Redis(), PostgreSQL(), HTTP()} {
		for _, key := range service.Keys() {
			if !strings.Contains(string(text), "`"+key+"`") {
				t.Errorf("docs/operations.md does not mention the key %q", key)
			}
		}
	}
}

func TestPostgreSQL_SecretContainsCA_URIMakesClientsVerifyServer(t *testing.T) {
	t.Parallel()
	ca := certificate(t)
	tests := []struct {
		name string
		uri  string
		ca   string
		want string
		err  string
	}{
		{"without certificates, the URI does not change", "postgres://h/d?sslmode=disable", "", "postgres://h/d?sslmode=disable", ""},
		{"with a CA, the default is to verify the server and its host", "postgres://h/d", ca, "postgres://h/d?sslmode=verify-full", ""},
		{"a CA and sslmode=require verify the server but not its host", "postgresql://h/d?sslmode=require", ca, "postgresql://h/d?sslmode=verify-ca", ""},
		{"a CA does not change sslmode=verify-ca", "postgresql://h/d?sslmode=verify-ca", ca, "postgresql://h/d?sslmode=verify-ca", ""},
		{"a CA does not change other parameters", "postgres://h/d?options=-c%20a%3Db", ca, "postgres://h/d?options=-c%20a%3Db&sslmode=verify-full", ""},
		{"a CA with several hosts", "postgres://a:1,b:2/d", ca, "postgres://a:1,b:2/d?sslmode=verify-full", ""},
		{"a CA and sslmode=prefer contradict each other", "postgres://h/d?sslmode=prefer", ca, "", "set it to verify-full"},
		{"the scheme mysql is rejected", "mysql://h/d", "", "", "it does not begin with postgres:// or postgresql://"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, err := Data(PostgreSQL(), map[string][]byte{"uri": []byte(tt.uri), "ca.crt": []byte(tt.ca)})
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error is %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || b.URI.String() != tt.want {
				t.Errorf("URI is %v (%v), want %s", b.URI, err, tt.want)
			}
		})
	}
}

// The keys are those of the Secret that CloudNativePG creates for the owner of a database.
func TestPostgreSQL_SecretOfCloudNativePG_IsRead(t *testing.T) {
	t.Parallel()
	data := map[string][]byte{}
	for key, value := range map[string]string{
		"dbname": "app", "fqdn-jdbc-uri": "jdbc:postgresql://c-rw.ns.svc.cluster.local:5432/app?password=p&user=app",
		"fqdn-uri": "postgresql://app:p@c-rw.ns.svc.cluster.local:5432/app", "host": "c-rw",
		"jdbc-uri": "jdbc:postgresql://c-rw.ns:5432/app?password=p&user=app", "password": "p",
		"pgpass": "c-rw:5432:app:app:p\n", "port": "5432", "uri": "postgresql://app:p@c-rw.ns:5432/app",
		"user": "app", "username": "app",
	} {
		data[key] = []byte(value)
	}
	const want = "postgresql://app:p@c-rw.ns:5432/app"
	if b, err := Data(PostgreSQL(), data); err != nil || b.URI.String() != want {
		t.Errorf("URI is %v (%v), want %s", b.URI, err, want)
	}
	delete(data, "uri")
	const wantParts = "postgres://app:p@c-rw:5432/app"
	if b, err := Data(PostgreSQL(), data); err != nil || b.URI.String() != wantParts {
		t.Errorf("without the key \"uri\", the URI is %v (%v), want %s", b.URI, err, wantParts)
	}
}

func TestBindingURI_WithMountedSecret_CombinesURIAndSecret(t *testing.T) {
	t.Parallel()
	ca := certificate(t)
	tests := []struct {
		name, uri string
		keys      map[string]string
		want      string
		err       string
	}{
		{"the user and password of the Secret replace those of the URL", "http://a:b@h", map[string]string{"username": "u", "password": "p"}, "http://u:p@h", ""},
		{"an empty directory adds nothing", "http://a:b@h", nil, "http://a:b@h", ""},
		{"the password of the Secret is added to the user of the URL", "http://a@h", map[string]string{"password": "p"}, "http://a:p@h", ""},
		{"a key asks for TLS, but the URL begins with http://", "http://h", map[string]string{"token": "t", "tls": "true"}, "", `key "tls" asks for TLS`},
		{"a CA needs a URL with https://", "http://h", map[string]string{"ca.crt": ca}, "", "use https://"},
		{"a URI in the Secret is rejected", "http://h", map[string]string{"uri": "http://other"}, "", `key "uri" does not apply to the summary API`},
		{"a token of two lines is rejected", "https://h", map[string]string{"token": "a\nb"}, "", `the value of key "token" contains characters`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := directoryOf(t, tt.keys)
			source, err := URI(HTTP(), tt.uri, dir)
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

// The URI is given separately from the Secret, so the error must not call it a key of the Secret.
func TestBindingURI_SecretContradictsURI_ErrorNamesKeyAndURI(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		service Service
		uri     string
		keys    map[string]string
		want    string
	}{
		{PostgreSQL(), "postgres://u@h/a", map[string]string{"database": "b"}, `key "database" differs from the path of the URI: remove one`},
		{RabbitMQ(), "amqp://h/a", map[string]string{"vhost": "b"}, `key "vhost" differs from the path of the URI: remove one`},
		{Redis(), "redis://h?master_name=a", map[string]string{"sentinel-master": "b"}, `key "sentinel-master" differs from the parameter master_name of the URI: remove one`},
		{Redis(), "redis://h", map[string]string{"tls": "true"}, `key "tls" asks for TLS, but has no effect: give a URI that begins with rediss://`},
	} {
		source, err := URI(tt.service, tt.uri, directoryOf(t, tt.keys))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := source(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s with %q: error is %v, want %q", tt.uri, tt.keys, err, tt.want)
		}
	}
}

func TestCheckDirectory_ReportsInvalidDirectories(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		keys map[string]string
		want string
	}{
		{"a token", map[string]string{"token": "t"}, ""},
		{"a user name", map[string]string{"username": "u"}, ""},
		{"a CA", map[string]string{"ca.crt": certificate(t)}, ""},
		{"no known key", map[string]string{"readme": "x"}, "at least one of the following files must exist and not be empty: username, user, password, token, ca.crt, tls.crt, tls.key"},
		{"an invalid CA", map[string]string{"ca.crt": "x"}, `key "ca.crt" contains no PEM certificate`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := HTTP().CheckDirectory(directoryOf(t, tt.keys))
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want %q", err, tt.want)
			}
		})
	}
}

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
