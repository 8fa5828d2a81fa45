package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// families holds the metrics of one process, by name.
type families map[string]*dto.MetricFamily

// scrape reads the metrics of a process in the protobuf format, which is the only one with native histograms.
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

// sum returns the total of the counters of a family whose label has one of the values.
func (f families) sum(name, label string, values ...string) int64 {
	var total float64
	for _, m := range f[name].GetMetric() {
		if slices.Contains(values, labelOf(m, label)) {
			total += m.GetCounter().GetValue()
		}
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

// distribution is a native histogram of seconds: counts by bucket index of its schema.
type distribution struct {
	schema int32
	zero   float64
	counts map[int]float64
}

// distribution merges the native histograms of a family, whatever their labels.
func (f families) distribution(name string) distribution {
	d := distribution{counts: map[int]float64{}}
	for _, m := range f[name].GetMetric() {
		h := m.GetHistogram()
		d.schema = h.GetSchema()
		d.zero += float64(h.GetZeroCount())
		index, count := 0, int64(0)
		delta := h.GetPositiveDelta()
		for _, span := range h.GetPositiveSpan() {
			index += int(span.GetOffset())
			for range span.GetLength() {
				count += delta[0]
				delta = delta[1:]
				d.counts[index] += float64(count)
				index++
			}
		}
	}
	return d
}

// since returns what was observed after the earlier state.
func (d distribution) since(earlier distribution) distribution {
	diff := distribution{schema: d.schema, zero: d.zero - earlier.zero, counts: map[int]float64{}}
	for index, n := range d.counts {
		if rest := n - earlier.counts[index]; rest > 0 {
			diff.counts[index] = rest
		}
	}
	return diff
}

// quantile returns the upper bound of the bucket in which the quantile q in (0, 1] lies, which is at
// most a bucket's factor (here 1.09) above it; 0 when nothing was observed.
func (d distribution) quantile(q float64) time.Duration {
	total := d.zero
	indexes := make([]int, 0, len(d.counts))
	for index, n := range d.counts {
		total += n
		indexes = append(indexes, index)
	}
	slices.Sort(indexes)
	seen := d.zero
	for _, index := range indexes {
		if seen += d.counts[index]; seen >= q*total {
			upper := math.Exp2(float64(index) * math.Exp2(-float64(d.schema)))
			return time.Duration(upper * float64(time.Second))
		}
	}
	return 0
}

// meanMicros is the mean of a histogram of seconds, in microseconds, over the metrics with the label.
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
