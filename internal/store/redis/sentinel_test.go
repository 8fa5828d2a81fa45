package redis

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/store/storetest"
	"github.com/parking-operator/parking-operator/test/servers"
)

// TestConformance_Sentinel runs the conformance suite on a primary that Sentinels monitor. The first address in the URI
// refuses connections, so the store must also try the other addresses.
func TestConformance_Sentinel(t *testing.T) {
	t.Parallel()
	uris := servers.NewSentinelGroup(t).URIs(t)
	down, err := url.Parse(uris[0])
	noError(t, err)
	down.Host = servers.FreeAddress(t)
	uris = slices.Insert(uris, 0, down.String())
	list := strings.Join(uris, "&"+longTimeouts+",") + "&" + longTimeouts
	storetest.Run(t, func(t *testing.T, partitions int) store.Store {
		return open(t, list, servers.Name(t), partitions)
	})
}

// TestSentinel_UnusableSentinels_ErrorContainsTheRemedy checks errors of Sentinels. A Sentinel replies nil if it does
// not know the primary. The store must not mistake this reply for a missing key.
func TestSentinel_UnusableSentinels_ErrorContainsTheRemedy(t *testing.T) {
	t.Parallel()
	group := servers.NewSentinelGroup(t)
	with := func(name, value string) string {
		u, err := url.Parse(group.URIs(t)[0])
		noError(t, err)
		query := u.Query()
		query.Set(name, value)
		u.RawQuery = query.Encode()
		return u.String()
	}
	for uri, want := range map[string]string{
		with(binding.ParameterMaster, "unknown"):         "correct the parameter master_name",
		with(binding.ParameterSentinelPassword, "wrong"): "correct the parameters sentinel_username and sentinel_password",
	} {
		s := open(t, uri, "unusable", 1)
		_, err := s.Reserve(t.Context(), "owner")
		if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), want) {
			t.Errorf("Reserve: %v; want %q", err, want)
		}
	}
}

func TestSentinel_AddressOfARedisServer_ErrorAsksForASentinelAddress(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t, servers.RedisOptions{Config: []string{"user default on nopass ~* &* +@all"}})
	s := open(t, server.String()+"?master_name=park", "unusable", 1)
	err := s.Ping(t.Context())
	const want = "the server is not a Sentinel: ERR unknown command 'sentinel'"
	const remedy = "give the address of a Sentinel (default port 26379), or remove the parameter master_name"
	if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), remedy) || strings.Contains(err.Error(), "not of a Sentinel") {
		t.Errorf("Ping: %v; want %q and %q", err, want, remedy)
	}
}

func TestSentinel_InvalidURI_IsRejected(t *testing.T) {
	t.Parallel()
	for parameters, want := range map[string]string{
		"master_name=":                        "master_name of the Redis URI is empty",
		"master_name=m&cluster=true":          "cluster of the Redis URI cannot be used with master_name",
		"master_name=m&route_by_latency=true": "route_by_latency of the Redis URI cannot be used",
		"master_name=m&password=hunter2":      "put the credentials of Redis before the host",
		"master_name=m&hunter2=1":             "unknown parameter",
	} {
		b, err := binding.URI(binding.Redis(), fmt.Sprintf("redis://localhost/0?%s", parameters), "")
		noError(t, err)
		now, err := b()
		noError(t, err)
		if err := CheckBinding(now); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v; want %q", parameters, err, want)
		}
	}
}
