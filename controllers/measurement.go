package controllers

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

	"github.com/parking-operator/parking-operator/internal/resources"
)

// Endpoints are where the pods of a simulation serve what they measured, as IP addresses.
type Endpoints struct {
	Processors []string
	// Summaries is that of a managed summary API; "" when it is not managed.
	Summaries string
}

// Measurement is what a simulation's pods have measured when it is at rest.
type Measurement struct {
	processing, endToEnd distribution
	// summariesHeld is nil when the summary API was not asked.
	summariesHeld *int64
}

// The metrics of processors that are read.
const (
	processingMetric = "parking_event_processing_seconds"
	endToEndMetric   = "parking_event_end_to_end_seconds"
)

const (
	// measureTimeout bounds one measurement, measurers is how many pods are asked at a time.
	measureTimeout = 4 * time.Second
	measurers      = 16
	// maxAnswer bounds what is read of one pod's answer, in bytes.
	maxAnswer = 16 << 20
)

// prober asks pods over HTTP.
type prober struct {
	client *http.Client
}

// newProber returns a prober that goes to the pods directly, and follows nobody who sends it elsewhere.
func newProber() *prober {
	return &prober{client: &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Measure asks all pods. What some could not tell is an error, what the others told is there all the same.
func (p *prober) Measure(ctx context.Context, e Endpoints) (Measurement, error) {
	ctx, cancel := context.WithTimeout(ctx, measureTimeout)
	defer cancel()
	var m Measurement
	var mu sync.Mutex
	var work sync.WaitGroup
	errs := make([]error, len(e.Processors)+1)
	slots := make(chan struct{}, measurers)
	for i, ip := range e.Processors {
		work.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			families, err := p.metrics(ctx, ip)
			mu.Lock()
			defer mu.Unlock()
			errs[i] = err
			m.add(families)
		})
	}
	if e.Summaries != "" {
		m.summariesHeld, errs[len(e.Processors)] = p.summaries(ctx, e.Summaries)
	}
	work.Wait()
	return m, errors.Join(errs...)
}

// add takes in the metrics of one processor.
func (m *Measurement) add(families []*dto.MetricFamily) {
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			switch family.GetName() {
			case processingMetric:
				m.processing.add(metric.GetHistogram())
			case endToEndMetric:
				m.endToEnd.add(metric.GetHistogram())
			}
		}
	}
}

// metrics reads what a processor exports, as protocol buffers because native histograms have no text.
func (p *prober) metrics(ctx context.Context, ip string) (families []*dto.MetricFamily, err error) {
	format := expfmt.NewFormat(expfmt.TypeProtoDelim)
	body, err := p.get(ctx, ip, "/metrics", string(format))
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

// summaries asks the summary API how many summaries it has stored.
func (p *prober) summaries(ctx context.Context, ip string) (held *int64, err error) {
	body, err := p.get(ctx, ip, "/v1/stats", "application/json")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	var stats struct {
		Count *int64 `json:"count"`
	}
	if err := json.NewDecoder(io.LimitReader(body, maxAnswer)).Decode(&stats); err != nil {
		return nil, fmt.Errorf("read the totals of the summary API at %s: %w", ip, err)
	}
	if stats.Count == nil {
		return nil, fmt.Errorf("read the totals of the summary API at %s: they have no count", ip)
	}
	return stats.Count, nil
}

func (p *prober) get(ctx context.Context, ip, path, accept string) (io.ReadCloser, error) {
	url := "http://" + net.JoinHostPort(ip, strconv.Itoa(resources.HTTPPort)) + path
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("ask pod %s: %w", ip, err)
	}
	request.Header.Set("Accept", accept)
	response, err := p.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask pod %s: %w", ip, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("ask pod %s: it answers %s with %s", ip, path, response.Status), response.Body.Close())
	}
	return response.Body, nil
}
