package binding_test

import (
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/internal/binding"
)

func TestData_ReadsTheKeysOfASecret(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		data map[string]string
		uri  string
		err  string
	}{
		"a uri is taken as it is":                              {data: map[string]string{"uri": "amqp://u:p@broker:5672/vhost\n"}, uri: "amqp://u:p@broker:5672/vhost"},
		"host, port and user make a uri":                       {data: map[string]string{"host": "broker", "port": "5672", "username": "u", "password": "p"}, uri: "amqp://u:p@broker:5672"},
		"a Secret without uri and host names the missing keys": {data: map[string]string{"password": "secret"}, err: `key "uri" is missing or empty, and so is "host"`},
		"a Secret of another server is rejected":               {data: map[string]string{"type": "redis", "host": "h"}, err: `key "type" says that this is the Secret of a Redis server`},
		"an invalid CA certificate names its key":              {data: map[string]string{"host": "h", "ca.crt": "secret"}, err: `key "ca.crt" contains no PEM certificate`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := map[string][]byte{}
			for key, value := range test.data {
				data[key] = []byte(value)
			}
			address, err := binding.Data(binding.RabbitMQ(), data)
			switch {
			case test.err != "":
				if err == nil || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "secret\"") {
					t.Errorf("error is %v, want %s", err, test.err)
				}
			case err != nil || address.URI.String() != test.uri:
				t.Errorf("address is %v (%v), want %s", address.URI, err, test.uri)
			}
		})
	}
}

func TestCheckData_ReportsUnusableSecrets(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, uri string
		data      map[string]string
		err       string
	}{
		{"a token", "https://h", map[string]string{"token": "t"}, ""},
		{"a user name", "http://h", map[string]string{"username": "u", "password": "p"}, ""},
		{"an invalid URI", "h", map[string]string{"token": "t"}, ""},
		{"a token under another name", "https://h", map[string]string{"access_token": "secret"}, `key "access_token" is unknown: rename it to "token"`},
		{"no key", "https://h", map[string]string{"a": "secret"}, "at least one of the following keys must exist and not be empty: username"},
		{"only the key type", "https://h", map[string]string{"type": "http"}, "at least one of the following keys must exist and not be empty: username"},
		{"a CA without certificates", "https://h", map[string]string{"token": "t", "ca.crt": "secret"}, `key "ca.crt" contains no PEM certificate`},
		{"a URI in the Secret", "https://h", map[string]string{"uri": "https://other"}, `key "uri" does not apply to the summary API`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			data := map[string][]byte{}
			for key, value := range test.data {
				data[key] = []byte(value)
			}
			err := binding.HTTP().CheckData(test.uri, data)
			if (err == nil) != (test.err == "") || err != nil && (!strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "secret")) {
				t.Errorf("error is %v, want %q", err, test.err)
			}
		})
	}
}
