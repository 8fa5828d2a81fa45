package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/parking-operator/parking-operator/internal/sizing"
)

// checkedShares are the rates at which predictions are checked, as shares of the highest rate. They lie between the
// rates at which the costs were measured.
var checkedShares = []float64{.15, .4, .65}

// checkedOutage is how long the processor is stopped in the check of the backlog.
const checkedOutage = 3 * time.Second

// tolerance is the largest permitted difference between a prediction and a measurement, as a share of the measurement.
const tolerance = .3

// checkSizing measures the pipeline at rates between those at which the costs were measured. It compares the results
// with the predictions of package sizing. The speed of a machine varies, so run the check soon after the costs were
// measured, on the same machine.
func checkSizing(ctx context.Context, env environment, r *report, o options) error {
	costs, err := sizing.Embedded()
	if err != nil {
		return err
	}
	check := sizing.Check{MeasuredAt: time.Now().UTC().Truncate(time.Second)}
	if check.Method, err = describeMethod(r, o); err != nil {
		return err
	}
	highest := costs.Points[len(costs.Points)-1]
	for _, share := range checkedShares {
		offered := int64(highest.Rate()*share/100) * 100
		progress("%d events/s, %s", offered, o.warmUp+o.length+2*checkedOutage)
		rows, err := checkRate(ctx, env, o, costs, offered)
		if err != nil {
			return err
		}
		check.Rows = append(check.Rows, rows...)
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
		if math.Abs(row.Ratio()-1) > tolerance {
			verdict = "beyond 30 %"
		}
		fmt.Fprintf(w, "%d\t%s\t%.3g\t%.3g\t%.2f\t%s\n", row.EventsPerSecond, row.Figure, row.Predicted, row.Measured, row.Ratio(), verdict)
	}
}

func checkRate(ctx context.Context, env environment, o options, costs *sizing.Costs, offered int64) ([]sizing.Compared, error) {
	p, err := startPipeline(ctx, env, fmt.Sprintf("check-%d", offered), offered)
	if err != nil {
		return nil, err
	}
	point, err := p.measureUsage(ctx, o.warmUp, o.length, p.hold)
	var peak, recovery float64
	if err == nil {
		peak, recovery, err = p.measureOutage(ctx, checkedOutage)
	}
	if err := errors.Join(err, p.stop(ctx)); err != nil {
		return nil, err
	}
	predicted, cores := predict(costs, offered)
	latency := point.EndToEnd
	var rows []sizing.Compared
	compare := func(figure string, predicted, measured float64) {
		rows = append(rows, sizing.Compared{EventsPerSecond: offered, Figure: figure, Predicted: predicted, Measured: measured})
	}
	const milli = 1e3
	compare("CPU in cores", cores, point.Cores())
	compare("end-to-end p50 in ms", predicted.EndToEnd.P50*milli, latency.Quantile(.5).Seconds()*milli)
	compare("end-to-end p99 in ms", predicted.EndToEnd.P99*milli, latency.Quantile(.99).Seconds()*milli)
	compare("events in flight", predicted.EventsInFlight, point.Rate()*latency.Mean().Seconds())
	compare(fmt.Sprintf("backlog of an outage of %s", checkedOutage), predicted.OutageBacklog, peak)
	compare("recovery from it in s", predicted.RecoverySeconds, recovery)
	return rows, nil
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

// measureOutage stops the processor for some time, and then lets it continue. It returns the largest number of waiting
// events, and the seconds from the time at which the processor continues until the number is normal again.
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
