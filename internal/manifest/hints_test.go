package manifest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/manifest"
)

func TestReadManifest_SecretKeyWrittenAsField_ErrorNamesTheSecret(t *testing.T) {
	t.Parallel()
	const isKey = "%[1]s: Forbidden: unknown field: %[2]q is a key of the Secret that %[3]s.secretRef names"
	const belongs = "%[1]s: Forbidden: unknown field: %[2]q belongs in the key %[4]q of the Secret that %[3]s.secretRef names"
	check := func(path, name, key, format string) {
		t.Helper()
		objects := strings.Split(path, ".")
		text := head + strings.Join(objects, ": {") + ": {" + name + ": a" + strings.Repeat("}", len(objects)) + "\n"
		want := fmt.Sprintf(format, path+"."+name, name, path, key)
		if _, err := manifest.Read(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is\n%v, want it to contain\n%s", err, want)
		}
	}
	for path, service := range map[string]binding.Service{
		"spec.rabbitmq": binding.RabbitMQ(), "spec.redis": binding.Redis(), "spec.summaryAPI": binding.HTTP(), "spec.summaryAPI.managed.database": binding.PostgreSQL(),
	} {
		for _, key := range service.Keys() {
			if path == "spec.rabbitmq" && key == "type" {
				check(path, key, "", `%[1]s: Forbidden: unknown field: did you mean "queueType"?`)
				continue
			}
			check(path, key, key, isKey)
		}
	}
	for _, tt := range []struct{ path, name, key string }{
		{"spec.redis", "sentinelMaster", "sentinel-master"},
		{"spec.redis", "url", "uri"},
		{"spec.rabbitmq", "urls", "uris"},
		{"spec.rabbitmq", "virtualHost", "virtual-host"},
		{"spec.rabbitmq", "userName", "username"},
		{"spec.summaryAPI", "ca_crt", "ca.crt"},
		{"spec.summaryAPI.managed.database", "URL", "uri"},
	} {
		check(tt.path, tt.name, tt.key, belongs)
	}
}
