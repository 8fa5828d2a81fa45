package outage

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// newLog returns a log and what it has logged, line by line without times.
func newLog() (*Log, func() []string) {
	var text bytes.Buffer
	handler := slog.NewTextHandler(&text, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	return New(slog.New(handler), "down", "up"), func() []string {
		return strings.Split(strings.TrimSpace(text.String()), "\n")
	}
}

func TestAnOutageIsLoggedOnceHoweverManyMeetIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, lines := newLog()
		log.Fine("a") // that was never down
		var group sync.WaitGroup
		for range 100 {
			group.Go(func() { log.Fault("a", errors.New("refused")) })
		}
		group.Wait()
		time.Sleep(3 * time.Second)
		for range 100 {
			log.Fine("a")
		}
		want := []string{"level=WARN msg=down error=refused", "level=INFO msg=up after=3s"}
		if got := lines(); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("logged %q, want %q", got, want)
		}
	})
}

func TestAnOutageThatLastsIsLoggedAgainNowAndThen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, lines := newLog()
		for range 70 {
			log.Fault("a", errors.New("refused"))
			time.Sleep(time.Second)
		}
		want := []string{
			"level=WARN msg=down error=refused",
			"level=WARN msg=down error=refused for=30s",
			"level=WARN msg=down error=refused for=1m0s",
		}
		if got := lines(); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("logged %q, want %q", got, want)
		}
	})
}

func TestItIsUpWhenEveryPartIs(t *testing.T) {
	t.Parallel()
	log, lines := newLog()
	log.Fault("a", errors.New("refused"))
	log.Fault("b", errors.New("read-only"))
	log.Fine("a")
	if got := lines(); len(got) != 1 {
		t.Fatalf("logged %q although a part is down", got)
	}
	log.Fine("a", "b")
	log.Fault("a", errors.New("refused"))
	if got := lines(); len(got) != 3 || !strings.HasPrefix(got[1], "level=INFO msg=up") || got[2] != got[0] {
		t.Errorf("logged %q, want the end of one outage and the beginning of another", got)
	}
}
