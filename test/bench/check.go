package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"text/tabwriter"
	"time"

	reports "github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/sizing"
)

// checkedOutage is the length of the outage of the processors in the check of the predictions.
const checkedOutage = 3 * time.Second

// checkSizing compares measurements with the predictions of package sizing. It prints the comparison, and writes it to
// a JSON file.
func checkSizing(o options, costs *sizing.Costs, rates []int64, measured map[int64]*rateResult) error {
	check := sizing.Check{MeasuredAt: costs.MeasuredAt, Method: costs.Method}
	for _, rate := range rates {
		check.Rows = append(check.Rows, compare(costs, rate, measured[rate])...)
	}
	printCheck(&check)
	return writeJSON(o.checkPath, check)
}

func printCheck(check *sizing.Check) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer func() { _ = w.Flush() }()
	fmt.Fprintln(w, "events/s\tfigure\tpredicted\tmeasured\tratio\t")
	for _, row := range check.Rows {
		verdict := ""
		if !row.WithinTolerance() {
			verdict = fmt.Sprintf("beyond %.0f %%", 100*sizing.Tolerance)
		}
		fmt.Fprintf(w, "%d\t%s\t%.3g\t%.3g\t%.2f\t%s\n", row.EventsPerSecond, row.Figure, row.Predicted, row.Measured, row.Ratio(), verdict)
	}
}

// compare compares the predictions for a rate with the measurements of all rounds at this rate.
func compare(costs *sizing.Costs, offered int64, r *rateResult) []sizing.Compared {
	predicted, cores := predict(costs, offered)
	point := averageOf(r.points)
	latency := point.EndToEnd
	var rows []sizing.Compared
	add := func(figure string, predicted, measured float64) {
		rows = append(rows, sizing.Compared{EventsPerSecond: offered, Figure: figure, Predicted: predicted, Measured: measured})
	}
	const milli = 1e3
	add("CPU in cores", cores, point.Cores())
	add("end-to-end p50 in ms", predicted.EndToEnd.P50*milli, latency.Quantile(.5).Seconds()*milli)
	add("end-to-end p99 in ms", predicted.EndToEnd.P99*milli, latency.Quantile(.99).Seconds()*milli)
	add("events in flight", predicted.EventsInFlight, point.Rate()*latency.Mean().Seconds())
	add(fmt.Sprintf("backlog of an outage of %s", checkedOutage), predicted.OutageBacklog, reports.Median(r.backlogs))
	add("recovery from the outage in s", predicted.RecoverySeconds, reports.Median(r.recoveries))
	return rows
}

// predict returns the prediction for a rate on this machine, and the predicted CPU usage of all components in cores.
func predict(costs *sizing.Costs, offered int64) (sizing.Prediction, float64) {
	highest := &costs.Points[len(costs.Points)-1]
	half := float64(offered) / 2
	summaries := half * matchPercent / 100
	load := map[sizing.Component]float64{
		sizing.EntryGenerator: half, sizing.ExitGenerator: half, sizing.SummaryAPI: summaries,
	}
	cores := 0.0
	for _, component := range sizing.Components() {
		at, isPart := load[component]
		if !isPart {
			at = float64(offered)
		}
		cores += costs.UsageAt(component, at).Cores
	}
	return costs.Predict(sizing.Scenario{
		Rate: float64(offered), Capacity: highest.Rate(), Partitions: 1, Outage: checkedOutage, Seed: 1,
	}), cores
}

// measureOutage suspends the processor for some time. It returns the peak number of waiting events, and the seconds
// afterwards until the number is normal.
func (p *pipeline) measureOutage(ctx context.Context, length time.Duration) (peak, recovery float64, err error) {
	before, err := p.observe(ctx)
	if err != nil {
		return 0, 0, err
	}
	pid := p.stack.Processors[0].Pid()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return 0, 0, fmt.Errorf("stop the processor: %w", err)
	}
	err = repeat(ctx, length, p.hold)
	if err := errors.Join(err, syscall.Kill(pid, syscall.SIGCONT)); err != nil {
		return 0, 0, fmt.Errorf("continue the processor: %w", err)
	}
	resumed := time.Now()
	normal := max(before.published-before.processed, int64(float64(p.plan.Entry.Rate)/5))
	for {
		now, err := p.observe(ctx)
		if err != nil {
			return 0, 0, err
		}
		backlog := now.published - now.processed
		peak = max(peak, float64(backlog))
		if backlog <= normal {
			return peak, now.at.Sub(resumed).Seconds(), nil
		}
		select {
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}
