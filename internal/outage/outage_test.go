package outage

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parking-operator/parking-operator/internal/logtest"
)

// newLog returns a Log, and a function that returns the lines that the Log has written, without their times.
func newLog() (*Log, func() []string) {
	var text logtest.Buffer
	handler := slog.NewTextHandler(&text, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	return New(slog.New(handler), "down", "up"), func() []string {
		synctest.Wait()
		return strings.Split(strings.TrimSpace(text.String()), "\n")
	}
}

func wantLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("logged %q, want %q", got, want)
	}
}

func TestOutageLog_ManyFaults_LogsOneOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, lines := newLog()
		log.Fine("a") // must log nothing, because there is no outage yet
		var group sync.WaitGroup
		for range 100 {
			group.Go(func() { log.Fault("a", errors.New("refused")) })
		}
		group.Wait()
		time.Sleep(3 * time.Second)
		for range 100 {
			log.Fine("a")
		}
		time.Sleep(quiet)
		wantLines(t, lines(), "level=WARN msg=down error=refused", "level=INFO msg=up after=3s")
	})
}

func TestOutageLog_LongOutage_IsLoggedRepeatedly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, lines := newLog()
		for range 70 {
			log.Fault("a", errors.New("refused"))
			time.Sleep(time.Second)
		}
		wantLines(t, lines(),
			"level=WARN msg=down error=refused",
			"level=WARN msg=down error=refused for=30s",
			"level=WARN msg=down error=refused for=1m0s")
	})
}

func TestOutageLog_SeveralPartsOfADependencyFail_OutageLastsUntilAllPartsWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, lines := newLog()
		log.Fault("a", errors.New("refused"))
		log.Fault("b", errors.New("read-only"))
		log.Fine("a")
		time.Sleep(10 * time.Second)
		wantLines(t, lines(), "level=WARN msg=down error=refused")
		log.Fine("a", "b")
		time.Sleep(quiet)
		wantLines(t, lines(), "level=WARN msg=down error=refused", "level=INFO msg=up after=10s")
		log.Fault("a", errors.New("refused"))
		wantLines(t, lines(), "level=WARN msg=down error=refused", "level=INFO msg=up after=10s", "level=WARN msg=down error=refused")
	})
}

// A server that is out of memory accepts some requests and rejects others. This must count as one outage.
func TestOutageLog_SuccessesAndFailuresAlternate_LogsOneOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, lines := newLog()
		for range 200 {
			log.Fault("a", errors.New("out of memory"))
			time.Sleep(50 * time.Millisecond)
			log.Fine("a")
			time.Sleep(50 * time.Millisecond)
		}
		wantLines(t, lines(), "level=WARN msg=down error=\"out of memory\"")
		time.Sleep(quiet)
		wantLines(t, lines(), "level=WARN msg=down error=\"out of memory\"", "level=INFO msg=up after=19.95s")
	})
}

func TestOutageLog_FailedConnectionIsNoLongerUsed_OutageEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, lines := newLog()
		log.Fault("abandoned", errors.New("refused"))
		log.Fault("a", errors.New("refused"))
		time.Sleep(stale - time.Second)
		log.Fine("a")
		time.Sleep(time.Second)
		wantLines(t, lines(), "level=WARN msg=down error=refused")
		time.Sleep(quiet)
		wantLines(t, lines(), "level=WARN msg=down error=refused", "level=INFO msg=up after=1m0s")
	})
}

// An idle connection reports neither successes nor failures. So its last failure must expire. Otherwise, the outage
// would not end.
func TestOutageLog_FailedConnectionBecomesIdle_OutageEndsAfterAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, lines := newLog()
		for outage := range 2 {
			log.Fault("used", errors.New("refused"))
			log.Fault("idle", errors.New("refused"))
			time.Sleep(3 * time.Second)
			log.Fine("used")
			time.Sleep(time.Hour)
			want := slices.Repeat([]string{"level=WARN msg=down error=refused", "level=INFO msg=up after=1m0s"}, outage+1)
			wantLines(t, lines(), want...)
		}
	})
}
