package redis

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/store/storetest"
	"github.com/parking-operator/parking-operator/test/servers"
)

// TestConformance_Sentinel runs the conformance suite on a primary that Sentinels monitor.
func TestConformance_Sentinel(t *testing.T) {
	t.Parallel()
	group := servers.NewSentinelGroup(t)
	storetest.Run(t, func(t *testing.T, partitions int) store.Store {
		return open(t, group.URIs(t)[0], servers.Name(t), partitions)
	})
}

// TestFailover_Sentinel_NewPrimaryIsUsed kills the primary under load, several times. The Sentinels promote the
// replica each time. Every step that was reported as durable must count exactly once.
func TestFailover_Sentinel_NewPrimaryIsUsed(t *testing.T) {
	t.Parallel()
	group := servers.NewSentinelGroup(t)
	// With short timeouts, a command on the dead primary ends soon. A step may be repeated, and still counts once.
	s := openWith(t, Config{Simulation: "sentinel", Partitions: 2}, Dependencies{Binding: exactSource(t, strings.Join(group.URIs(t), ","))})
	polltest.UntilNoError(t, "a step is durable", func() error { return recordDurably(t.Context(), s, 0) })
	w := &workers{}
	w.next.Store(1)
	w.start(t, s, 16)
	const kills = 3
	for range kills {
		w.perform(t, 100)
		killed := group.KillPrimary(t, "")
		began := time.Now()
		w.perform(t, 100)
		t.Logf("steps are durable %s after the primary was killed", time.Since(began).Round(time.Millisecond))
		group.Restart(t, killed)
	}
	steps := w.stop()

	missing := 0
	for seq := range steps {
		if !seen(t, s, seq) {
			missing++
		}
	}
	if recorded := countsOf(t, s).EntriesRecorded; missing > 0 || recorded != steps {
		t.Errorf("%d of %d steps are lost, and %d were recorded; want every step once", missing, steps, recorded)
	}
	if lostAt := datasetOf(t, s).LostAt; !lostAt.IsZero() {
		t.Errorf("a loss was detected at %v; want none", lostAt)
	}
}

// TestSentinel_UnusableSentinels_ErrorContainsTheRemedy checks errors of Sentinels. An unknown primary must not look like
// a missing key.
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
