package summary_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/pingtest"
	"github.com/parking-operator/parking-operator/internal/summary/client"
)

// BenchmarkServiceStore stores summaries from two goroutines, in batches of the size that the client sends.
func BenchmarkServiceStore(b *testing.B) {
	const size = 256
	s, v := newService(b), newVisits()
	concurrently(b, 2, size, func(n int) error {
		_, err := s.Store(b.Context(), v.batch(n))
		return err
	})
}

// BenchmarkServicePost posts summaries to the service from many goroutines, one summary per call.
func BenchmarkServicePost(b *testing.B) {
	for _, posters := range []int{1, 256, 1024} {
		b.Run(fmt.Sprintf("posters=%d", posters), func(b *testing.B) {
			s, v := newService(b), newVisits()
			concurrently(b, posters, 1, func(int) error { return s.Post(b.Context(), v.generate()) })
		})
	}
}

// BenchmarkHTTPPost_ManySummariesPerRequest measures HTTP requests with many summaries each. The request bodies are
// prepared before the measurement.
func BenchmarkHTTPPost_ManySummariesPerRequest(b *testing.B) {
	for _, size := range []int{256, 4096} {
		b.Run(fmt.Sprintf("lines=%d", size), func(b *testing.B) {
			server, v := newServer(b, newService(b)), newVisits()
			bodies := make(chan []byte, b.N/size+1)
			for left := b.N; left > 0; left -= size {
				var body []byte
				for _, s := range v.batch(min(size, left)) {
					body = append(event.AppendSummary(body, s), '\n')
				}
				bodies <- body
			}
			concurrently(b, 2, size, func(int) error {
				response, err := http.Post(server.URL+"/v1/summaries", "application/x-ndjson", bytes.NewReader(<-bodies))
				if err != nil {
					return err
				}
				defer func() { _ = response.Body.Close() }()
				_, err = io.Copy(io.Discard, response.Body)
				return err
			})
		})
	}
}

// BenchmarkEmbeddedClient_OneSummaryPerPost posts summaries with client.Embedded from many goroutines, one summary per
// call.
func BenchmarkEmbeddedClient_OneSummaryPerPost(b *testing.B) {
	for _, posters := range []int{1, 256, 1024} {
		b.Run(fmt.Sprintf("posters=%d", posters), func(b *testing.B) {
			c, err := client.NewEmbedded(client.Config{URL: newServer(b, newService(b)).URL})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			v := newVisits()
			concurrently(b, posters, 1, func(int) error { return c.Post(b.Context(), v.generate()) })
		})
	}
}

// BenchmarkExternalPost posts summaries with client.External, which sends one request per summary.
func BenchmarkExternalPost(b *testing.B) {
	c, err := client.NewExternal(client.Config{URL: newServer(b, newService(b)).URL + "/v1/summaries"})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	v := newVisits()
	concurrently(b, 64, 1, func(int) error { return c.Post(b.Context(), v.generate()) })
}

// concurrently calls work until b.N summaries are stored, at most size per call.
func concurrently(b *testing.B, goroutines, size int, work func(n int) error) {
	b.Helper()
	var wg sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ReportAllocs()
	b.ResetTimer()
	before := pingtest.CPUTime(b)
	for range goroutines {
		wg.Go(func() {
			for {
				n := min(left.Add(int64(-size))+int64(size), int64(size))
				if n <= 0 {
					return
				}
				if err := work(int(n)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64((pingtest.CPUTime(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/row")
}
