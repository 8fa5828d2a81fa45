package redis

import "testing"

func TestVersionIn_ReturnsNameAndVersion(t *testing.T) {
	t.Parallel()
	for info, want := range map[string]string{
		"# Server\r\nredis_version:7.4.1\r\nredis_mode:standalone\r\n":                      "Redis 7.4.1",
		"# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.3\r\n": "Valkey 8.1.3",
	} {
		if got := versionIn(info); got != want {
			t.Errorf("the version in %q is %q, want %q", info, got, want)
		}
	}
}
