package observer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/parking-operator/parking-operator/internal/latency"
	"github.com/parking-operator/parking-operator/internal/ledger"
)

// Pods are the IP addresses of the pods that serve measurements.
type Pods struct {
	Processors []string
	// Summaries is the pod of a managed summary API; "" if the summary API is not managed.
	Summaries string
}

// Measurement is what a simulation's pods have measured.
type Measurement struct {
	// Processing is the time that processing an event took. EndToEnd is the time from the instant for which an
	// event was scheduled to its effect.
	Processing, EndToEnd latency.Snapshot
	// Summaries is how many summaries the summary API holds. It is nil if the API was not asked.
	Summaries *ledger.SummaryCount
}

// The metrics that are read from processors.
const (
	processingMetric = "parking_event_processing_seconds"
	endToEndMetric   = "parking_event_end_to_end_seconds"
)

const (
	// measureTimeout bounds one call of Measure.
	measureTimeout = 4 * time.Second
	// measureParallel is the number of pods that are asked at the same time.
	measureParallel = 16
	// maxAnswer is the number of bytes that are read of an answer.
	maxAnswer = 16 << 20
)

// HTTPMeter reads measurements from pods over HTTP.
type HTTPMeter struct {
	client *http.Client
	port   int
}

// NewHTTPMeter returns a meter of pods that serve at the given port. It uses no proxy and follows no redirect.
func NewHTTPMeter(port int) *HTTPMeter {
	return &HTTPMeter{port: port, client: &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Measure implements Meter. It returns within 4 s.
func (m *HTTPMeter) Measure(ctx context.Context, pods Pods) (Measurement, error) {
	ctx, cancel := context.WithTimeout(ctx, measureTimeout)
	defer cancel()
	var measured Measurement
	var mu sync.Mutex
	var work sync.WaitGroup
	errs := make([]error, len(pods.Processors)+1)
	slots := make(chan struct{}, measureParallel)
	for i, ip := range pods.Processors {
		work.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			families, err := m.metrics(ctx, ip)
			mu.Lock()
			defer mu.Unlock()
			errs[i] = err
			measured.add(families)
		})
	}
	if pods.Summaries != "" {
		held, err := m.summaries(ctx, pods.Summaries)
		measured.Summaries = &ledger.SummaryCount{Held: held, Err: err}
		errs[len(pods.Processors)] = err
	}
	work.Wait()
	return measured, errors.Join(errs...)
}

// add merges the histograms of one processor.
func (m *Measurement) add(families []*dto.MetricFamily) {
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			switch family.GetName() {
			case processingMetric:
				m.Processing = latency.Merge(m.Processing, latency.FromNative(metric.GetHistogram()))
			case endToEndMetric:
				m.EndToEnd = latency.Merge(m.EndToEnd, latency.FromNative(metric.GetHistogram()))
			}
		}
	}
}

// metrics reads the metrics of a processor. It asks for protocol buffers: the text formats have no native
// histograms.
func (m *HTTPMeter) metrics(ctx context.Context, ip string) (families []*dto.MetricFamily, err error) {
	format := expfmt.NewFormat(expfmt.TypeProtoDelim)
	body, err := m.get(ctx, ip, "/metrics", string(format))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	decoder := expfmt.NewDecoder(io.LimitReader(body, maxAnswer), format)
	for {
		family := &dto.MetricFamily{}
		switch err := decoder.Decode(family); {
		case errors.Is(err, io.EOF):
			return families, nil
		case err != nil:
			return nil, fmt.Errorf("read the metrics of pod %s: %w", ip, err)
		}
		families = append(families, family)
	}
}

// summaries reads how many summaries the summary API has stored.
func (m *HTTPMeter) summaries(ctx context.Context, ip string) (held int64, err error) {
	body, err := m.get(ctx, ip, "/v1/stats", "application/json")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	var stats struct {
		Count *int64 `json:"count"`
	}
	if err := json.NewDecoder(io.LimitReader(body, maxAnswer)).Decode(&stats); err != nil {
		return 0, fmt.Errorf("read the statistics of the summary API at %s: %w", ip, err)
	}
	if stats.Count == nil {
		return 0, fmt.Errorf("read the statistics of the summary API at %s: the field count is missing", ip)
	}
	return *stats.Count, nil
}

func (m *HTTPMeter) get(ctx context.Context, ip, path, accept string) (io.ReadCloser, error) {
	url := "http://" + net.JoinHostPort(ip, strconv.Itoa(m.port)) + path
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("measure pod %s: %w", ip, err)
	}
	request.Header.Set("Accept", accept)
	response, err := m.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("measure pod %s: %w", ip, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("measure pod %s: GET %s returned %s", ip, path, response.Status), response.Body.Close())
	}
	return response.Body, nil
}
