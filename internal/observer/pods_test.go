package observer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/parking-operator/parking-operator/internal/metrics"
)

// pod starts a server at an IP address of its own, as a pod has, and returns the address.
func pod(t *testing.T, handler http.Handler) string {
	t.Helper()
	for host := 2; host < 250; host++ {
		ip := fmt.Sprintf("127.87.65.%d", host)
		listener, err := net.Listen("tcp", ip+":8080")
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}}
		server.Start()
		t.Cleanup(server.Close)
		return ip
	}
	t.Fatal("no address is free")
	return ""
}

// processor starts a pod that exports the given number of durations of 1 ms, and returns its address.
func processor(t *testing.T, durations int) string {
	t.Helper()
	reg := prometheus.NewRegistry()
	for _, name := range []string{"event_processing_seconds", "event_end_to_end_seconds"} {
		h := prometheus.NewHistogramVec(metrics.Latency(name, "test"), []string{"event_type"})
		reg.MustRegister(h)
		for i := range durations {
			h.WithLabelValues([]string{"entry", "exit"}[i%2]).Observe(0.001)
		}
	}
	return pod(t, promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
}

func answer(body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) })
}

func TestMeasure_MergesAllPods(t *testing.T) {
	t.Parallel()
	m, err := NewHTTPMeter(8080).Measure(t.Context(), Pods{
		Processors: []string{processor(t, 3), processor(t, 4)}, Summaries: pod(t, answer(`{"count":12,"more":"x"}`)),
	})
	if err != nil {
		t.Fatal(err)
	}
	const want = 7
	if m.Processing.Count() != want || m.EndToEnd.Count() != want || m.Summaries == nil || m.Summaries.Held != 12 {
		t.Errorf("measured %+v, want %d durations of each kind and 12 summaries", m, want)
	}
}

func TestMeasure_KeepsMeasurementsWhenSomePodsFail(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	tests := map[string]struct {
		handler http.Handler
		want    string
	}{
		"nothing listens":            {nil, "connection refused"},
		"the pod is not a processor": {http.NotFoundHandler(), "404"},
		"the answer is not a metric": {answer("\x20nonsense"), "read the metrics"},
		"the answer is a redirect":   {http.RedirectHandler("http://127.0.0.1:1/", http.StatusFound), "302"},
		"the pod takes too long":     {http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { block(r.Context(), release) }), "deadline exceeded"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			faulty := "127.87.66.1"
			if tt.handler != nil {
				faulty = pod(t, tt.handler)
			}
			m, err := NewHTTPMeter(8080).Measure(t.Context(), Pods{Processors: []string{faulty, processor(t, 5)}})
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), faulty) {
				t.Errorf("the error is %v, want one of pod %s with %q", err, faulty, tt.want)
			}
			const want = 5
			if m.Processing.Count() != want {
				t.Errorf("%d durations were measured, want the %d of the pod that answers", m.Processing.Count(), want)
			}
		})
	}
}

func block(ctx context.Context, release <-chan struct{}) {
	select {
	case <-ctx.Done():
	case <-release:
	}
}

func TestMeasure_RejectsStatisticsWithoutCount(t *testing.T) {
	t.Parallel()
	for _, body := range []string{`{}`, `[]`, ``, `{"count":"7"}`} {
		if m, err := NewHTTPMeter(8080).Measure(t.Context(), Pods{Summaries: pod(t, answer(body))}); err == nil || m.Summaries.Err == nil {
			t.Errorf("the statistics %s yield %v (%v)", body, m.Summaries.Held, err)
		}
	}
}
