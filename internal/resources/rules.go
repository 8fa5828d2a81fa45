package resources

import (
	"fmt"
	"strconv"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/plan"
)

// prometheusRule records what is looked at often, and alerts on what somebody should look at.
func (b *builder) prometheusRule() client.Object {
	return b.unstructured(PrometheusRuleKind(), b.sim.Name+"-rules", componentMonitor, map[string]any{
		"groups": []any{
			map[string]any{"name": "parking." + b.plan.Simulation + ".records", "rules": records(b.series())},
			map[string]any{"name": "parking." + b.plan.Simulation + ".alerts", "rules": append(alerts(b.series()), objectiveAlerts(b.series(), b.plan.Objectives)...)},
		},
	})
}

// series selects this simulation's.
type series struct{ namespace, simulation string }

func (b *builder) series() series { return series{b.sim.Namespace, b.sim.Name} }

// of selects the series of a metric; more are further matchers.
func (s series) of(metric string, more ...string) string {
	matchers := append([]string{fmt.Sprintf("namespace=%q,simulation=%q", s.namespace, s.simulation)}, more...)
	return metric + "{" + strings.Join(matchers, ",") + "}"
}

// by lists the labels that stay: those that identify the simulation, and more.
func by(more string) string {
	if more != "" {
		more = "," + more
	}
	return "by(namespace,simulation" + more + ")"
}

// average is the mean of a histogram over 5 minutes. Prometheus keeps histograms in their classic form,
// in their native form, or in both, as it is configured: the classic one is used where it is there.
func (s series) average(histogram, labels string) string {
	rate := fmt.Sprintf("sum %s (rate(%s[5m]))", by(labels), s.of(histogram))
	return fmt.Sprintf("sum %[1]s (rate(%[2]s[5m])) / sum %[1]s (rate(%[3]s[5m])) or histogram_sum(%[4]s) / histogram_count(%[4]s)",
		by(labels), s.of(histogram+"_sum"), s.of(histogram+"_count"), rate)
}

// quantile is one of a histogram over 5 minutes, in whichever form it is there.
func (s series) quantile(q, histogram, labels string) string {
	classic := by("le")
	if labels != "" {
		classic = by(labels + ",le")
	}
	return fmt.Sprintf("histogram_quantile(%s, sum %s (rate(%s[5m]))) or histogram_quantile(%s, sum %s (rate(%s[5m])))",
		q, classic, s.of(histogram+"_bucket"), q, by(labels), s.of(histogram))
}

// The histograms of the processors.
const (
	processingSeconds = "parking_event_processing_seconds"
	endToEndSeconds   = "parking_event_end_to_end_seconds"
)

func records(s series) []any {
	const eventType = "event_type"
	rules := []any{
		record("parking_events_published:rate5m", fmt.Sprintf("sum %s (rate(%s[5m]))", by(eventType), s.of("parking_events_published_total"))),
		record("parking_events_processed:rate5m", fmt.Sprintf("sum %s (rate(%s[5m]))", by("event_type,outcome"), s.of("parking_events_processed_total"))),
	}
	for _, histogram := range []string{processingSeconds, endToEndSeconds} {
		rules = append(rules,
			record(histogram+":avg5m", s.average(histogram, eventType)),
			record(histogram+":p50_5m", s.quantile("0.5", histogram, eventType)),
			record(histogram+":p99_5m", s.quantile("0.99", histogram, eventType)),
		)
	}
	return rules
}

// record names a rule after the labels that it keeps: those of the simulation.
func record(name, expression string) map[string]any {
	return map[string]any{"record": "simulation:" + name, "expr": expression}
}

func alerts(s series) []any {
	increase := func(labels, metric string, matchers ...string) string {
		return fmt.Sprintf("sum %s (increase(%s[5m])) > 0", by(labels), s.of(metric, matchers...))
	}
	return []any{
		alert("ParkingExitUnexpectedlyUnmatched", "critical", "0m",
			increase("", "parking_events_processed_total", `outcome="unmatched_unexpected"`),
			"Exits of parked cars found no visit",
			"{{ printf \"%.0f\" $value }} exits in 5 minutes left with a plate that had entered, but found no visit, however often they were tried. Effects were lost in the store, or plates.maxStay is too short: read the simulation's status.ledger and the log of its processors."),
		alert("ParkingEventsLost", "critical", "0m",
			fmt.Sprintf("max %s (%s) > 0", by(""), s.of("parking_simulation_lost")),
			"Events were lost",
			"RabbitMQ confirmed {{ $value | humanize }} events that never took effect. The reasons of the verdict are in the simulation's status; 'parking audit' names the events."),
		alert("ParkingLedgerUnreadable", "warning", "2m",
			fmt.Sprintf("max %s (%s) == 0", by(""), s.of("parking_simulation_condition", `type="LedgerReadable"`)),
			"The ledger cannot be read",
			"The operator cannot read the simulation's ledger in Redis, or its queues on RabbitMQ: the condition LedgerReadable of the simulation says why. The simulation itself may well run."),
		alert("ParkingEventsFailing", "warning", "5m",
			increase("event_type,stage", "parking_event_errors_total"),
			"Processing of {{ $labels.event_type }} events fails at stage {{ $labels.stage }}",
			"Events are tried again, so that none is lost, but they have been failing for 5 minutes. The stage says which server to look at: store is Redis, post the summary API, settle RabbitMQ; parse means malformed messages, which go to the dead-letter queue."),
		alert("ParkingGeneratorLagging", "warning", "2m",
			fmt.Sprintf("max %s (%s) > 5", by("event_type"), s.of("parking_generator_lag_seconds")),
			"The generator of {{ $labels.event_type }} events is behind its schedule",
			"The event that is next was due {{ $value | humanizeDuration }} ago. RabbitMQ confirms more slowly than events are due, or the generator needs more CPU: look at parking_publish_confirm_seconds, raise replicas, or lower the rate."),
		alert("ParkingBrokerDisconnected", "warning", "1m",
			fmt.Sprintf("sum %s (%s) == 0", by("component,pod"), s.of("parking_broker_connected")),
			"{{ $labels.pod }} has no connection to RabbitMQ",
			"It goes on trying. Its log says why it fails."),
		alert("ParkingBrokerBlocked", "warning", "1m",
			fmt.Sprintf("max %s (%s) == 1", by("component"), s.of("parking_broker_blocked")),
			"RabbitMQ accepts no messages",
			"A resource alarm blocks publishers: RabbitMQ is short of memory or disk. Give it more, or process faster."),
		alert("ParkingStoreRestarted", "warning", "0m",
			increase("", "parking_store_restarts_total"),
			"Redis has restarted",
			"Events whose effects its log did not hold yet are processed again. If nobody restarted it on purpose, look at its memory limit."),
		alert("ParkingSummariesNotStored", "warning", "1m",
			increase("", "parking_summary_commit_failures_total"),
			"The summary API cannot write its database",
			"Summaries wait in Redis until it can. Look at the space on its volume and at its log."),
		alert("ParkingTargetDown", "warning", "5m",
			fmt.Sprintf("sum %s (%s == bool 0) > 0", by("component"), s.of("up")),
			"Metrics of {{ $labels.component }} cannot be scraped",
			"Pods that do not answer Prometheus: {{ $value }}. Look at them, and whether a NetworkPolicy forbids it."),
	}
}

// objectiveAlerts tell before the end that the verdict is going to be FAIL.
func objectiveAlerts(s series, o plan.Objectives) []any {
	var rules []any
	for _, objective := range []struct {
		name, what, histogram string
		limit                 plan.Duration
	}{
		{"ParkingProcessingSlow", "Processing an event", processingSeconds, o.ProcessingP99},
		{"ParkingEndToEndSlow", "The way of an event from its schedule to its effect", endToEndSeconds, o.EndToEndP99},
	} {
		if objective.limit == 0 {
			continue
		}
		seconds := strconv.FormatFloat(objective.limit.D().Seconds(), 'g', -1, 64)
		rules = append(rules, alert(objective.name, "warning", "5m",
			fmt.Sprintf("(%s) > %s", s.quantile("0.99", objective.histogram, ""), seconds),
			objective.what+" takes longer than its objective",
			fmt.Sprintf("1 of 100 takes longer than {{ $value | humanizeDuration }}; the objective is %s.", objective.limit)))
	}
	return rules
}

func alert(name, severity, lasting, expression, summary, description string) map[string]any {
	return map[string]any{
		"alert":  name,
		"expr":   expression,
		"for":    lasting,
		"labels": map[string]any{"severity": severity},
		"annotations": map[string]any{
			"summary":     "{{ $labels.namespace }}/{{ $labels.simulation }}: " + summary,
			"description": description,
		},
	}
}
