package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/parking-operator/parking-operator/internal/histogram"
)

// families contains the Prometheus metric families of one process, by name.
type families map[string]*dto.MetricFamily

// scrape reads the metrics of a process in the protobuf format, because no other format contains native histograms.
func scrape(ctx context.Context, url string) (families, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("scrape %s: %w", url, err)
	}
	format := expfmt.NewFormat(expfmt.TypeProtoDelim)
	request.Header.Set("Accept", string(format))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("scrape: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("scrape %s: status %s", url, response.Status)
	}
	decoder := expfmt.NewDecoder(response.Body, expfmt.ResponseFormat(response.Header))
	all := families{}
	for {
		family := &dto.MetricFamily{}
		err := decoder.Decode(family)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("scrape %s: %w", url, err)
		}
		all[family.GetName()] = family
	}
}

// sum adds up those counters of a metric family that have one of the given label values.
func (f families) sum(name, label string, values ...string) int64 {
	var total float64
	for _, m := range f[name].GetMetric() {
		if slices.Contains(values, labelOf(m, label)) {
			total += m.GetCounter().GetValue()
		}
	}
	return int64(total)
}

// total adds up all counters of a metric family.
func (f families) total(name string) int64 {
	var total float64
	for _, m := range f[name].GetMetric() {
		total += m.GetCounter().GetValue()
	}
	return int64(total)
}

func labelOf(m *dto.Metric, name string) string {
	for _, pair := range m.GetLabel() {
		if pair.GetName() == name {
			return pair.GetValue()
		}
	}
	return ""
}

// distribution merges all native histograms of a metric family.
func (f families) distribution(name string) histogram.Snapshot {
	var merged histogram.Snapshot
	for _, m := range f[name].GetMetric() {
		merged = histogram.Merge(merged, histogram.FromNative(m.GetHistogram()))
	}
	return merged
}

// meanMicros returns the mean, in microseconds, of a histogram in seconds. It uses only the series in which the
// label has the value.
func (f families) meanMicros(name, label, value string) float64 {
	var sum, count float64
	for _, m := range f[name].GetMetric() {
		if labelOf(m, label) == value {
			sum += m.GetHistogram().GetSampleSum()
			count += float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum * 1e6 / max(count, 1)
}
