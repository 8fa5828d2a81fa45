package resources

import (
	"fmt"
	"strconv"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/plan"
)

func (b *builder) prometheusRule() client.Object {
	s := series{b.sim.Namespace, b.sim.Name}
	return b.unstructured(PrometheusRuleKind(), b.sim.Name+"-rules", componentMonitor, map[string]any{
		"groups": []any{
			map[string]any{"name": "parking." + b.plan.Simulation + ".records", "rules": records(s)},
			map[string]any{"name": "parking." + b.plan.Simulation + ".alerts", "rules": append(alerts(s), objectiveAlerts(s, b.plan.Objectives)...)},
		},
	})
}

// series builds PromQL selectors for the time series of one simulation.
type series struct{ namespace, simulation string }

// selector returns a selector for a metric that the pods of the simulation export, or that Prometheus
// records about them. The selector also contains the given label matchers.
func (s series) selector(metric string, matchers ...string) string {
	return selector(metric, append([]string{fmt.Sprintf("namespace=%q,simulation=%q", s.namespace, s.simulation)}, matchers...))
}

// ofOperator returns a selector for a metric that the operator exports about the simulation. The selector also matches
// "exported_namespace", to which Prometheus renames "namespace" if it does not honor labels.
func (s series) ofOperator(metric string, matchers ...string) string {
	honored := fmt.Sprintf("namespace=%q,exported_namespace=\"\",simulation=%q", s.namespace, s.simulation)
	renamed := fmt.Sprintf("exported_namespace=%q,simulation=%q", s.namespace, s.simulation)
	return fmt.Sprintf("(%s or %s)", selector(metric, append([]string{honored}, matchers...)), selector(metric, append([]string{renamed}, matchers...)))
}

func selector(metric string, matchers []string) string {
	return metric + "{" + strings.Join(matchers, ",") + "}"
}

// by returns a "by" clause of PromQL with the labels of the simulation and the given labels.
func by(labels string) string {
	if labels != "" {
		labels = "," + labels
	}
	return "by(namespace,simulation" + labels + ")"
}

// average returns a PromQL expression for the mean of a histogram over 5 minutes. The expression prefers the classic
// form, and uses the native form if Prometheus stores only that.
func (s series) average(histogram, labels string) string {
	rate := fmt.Sprintf("sum %s (rate(%s[5m]))", by(labels), s.selector(histogram))
	return fmt.Sprintf("sum %[1]s (rate(%[2]s[5m])) / sum %[1]s (rate(%[3]s[5m])) or histogram_sum(%[4]s) / histogram_count(%[4]s)",
		by(labels), s.selector(histogram+"_sum"), s.selector(histogram+"_count"), rate)
}

// quantile returns a PromQL expression for a quantile of a histogram over 5 minutes. It works with the classic and
// the native form.
func (s series) quantile(q, histogram, labels string) string {
	classic := by("le")
	if labels != "" {
		classic = by(labels + ",le")
	}
	return fmt.Sprintf("histogram_quantile(%s, sum %s (rate(%s[5m]))) or histogram_quantile(%s, sum %s (rate(%s[5m])))",
		q, classic, s.selector(histogram+"_bucket"), q, by(labels), s.selector(histogram))
}

// The names of histograms that processors export.
const (
	processingSeconds = "parking_event_processing_seconds"
	endToEndSeconds   = "parking_event_end_to_end_seconds"
)

func records(s series) []any {
	const eventType = "event_type"
	rules := []any{
		record("parking_events_published:rate5m", fmt.Sprintf("sum %s (rate(%s[5m]))", by(eventType), s.selector("parking_events_published_total"))),
		record("parking_events_processed:rate5m", fmt.Sprintf("sum %s (rate(%s[5m]))", by("event_type,outcome"), s.selector("parking_events_processed_total"))),
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

// record returns a recording rule. By the convention of Prometheus, its name begins with the aggregation level.
func record(name, expression string) map[string]any {
	return map[string]any{"record": "simulation:" + name, "expr": expression}
}

func alerts(s series) []any {
	increase := func(labels, metric string, matchers ...string) string {
		return fmt.Sprintf("sum %s (increase(%s[5m])) > 0", by(labels), s.selector(metric, matchers...))
	}
	return []any{
		s.alert("ParkingExitUnexpectedlyUnmatched", "critical", "0m",
			increase("", "parking_events_processed_total", `outcome="unmatched_unexpected"`),
			"Exits of parked vehicles found no visit",
			"In the last 5 minutes, {{ printf \"%.0f\" $value }} exits used a plate that had entered, but no visit was found after all retries. Either Redis lost data, or plates.maxStay is too short. See status.ledger of the simulation and the logs of its processors."),
		s.alert("ParkingEventsLost", "critical", "0m",
			fmt.Sprintf("max(%s) > 0", s.ofOperator("parking_simulation_lost")),
			"Events were lost",
			"RabbitMQ confirmed {{ $value | humanize }} events whose processing is not recorded in Redis. The status of the simulation gives the reasons. 'parking audit' lists the events."),
		s.alert("ParkingLedgerUnreadable", "warning", "2m",
			fmt.Sprintf("max(%s) == 0", s.ofOperator("parking_simulation_condition", `type="LedgerReadable"`)),
			"The operator cannot read the ledger",
			"The operator cannot read the ledger in Redis or the queues in RabbitMQ. The condition LedgerReadable of the simulation says why. The simulation itself may be running."),
		s.alert("ParkingOperatorNotScraped", "warning", "15m",
			fmt.Sprintf("absent(%s)", s.ofOperator("parking_simulation_condition")),
			"Prometheus has no metrics of the operator about this simulation",
			"Without the metrics of the operator, the alerts ParkingEventsLost and ParkingLedgerUnreadable cannot fire. Check that the operator runs and that Prometheus scrapes it: set metrics.serviceMonitor.enabled in the chart, or apply config/prometheus."),
		s.alert("ParkingPodsNotScraped", "warning", "15m",
			fmt.Sprintf("absent(%s)", s.selector("up")),
			"Prometheus scrapes no pod of this simulation",
			"No alert about the pods of the simulation can fire. Check that the pods exist and that Prometheus selects the ServiceMonitors of the simulation: spec.monitoring.labels sets their labels."),
		s.alert("ParkingEventsFailing", "warning", "5m",
			increase("event_type,stage", "parking_event_errors_total"),
			"Processing of {{ $labels.event_type }} events fails at stage {{ $labels.stage }}",
			"Processing has failed for 5 minutes. No event is lost: messages that can never be processed go to the dead-letter queue, and all other messages are retried. The stage names the cause: \"store\" is Redis, \"post\" is the summary API, \"settle\" is RabbitMQ, and \"parse\" means malformed messages."),
		s.alert("ParkingGeneratorLagging", "warning", "2m",
			fmt.Sprintf("max %s (%s) > 5", by("event_type"), s.selector("parking_generator_lag_seconds")),
			"The generator of {{ $labels.event_type }} events is behind its schedule",
			"The next event was due {{ $value | humanizeDuration }} ago. Either RabbitMQ confirms events too slowly, or the generator needs more CPU. See parking_publish_confirm_seconds, raise the generator's replicas, or lower the rate."),
		s.alert("ParkingBrokerDisconnected", "warning", "1m",
			fmt.Sprintf("sum %s (%s) == 0", by("component,pod"), s.selector("parking_broker_connected")),
			"{{ $labels.pod }} is not connected to RabbitMQ",
			"The pod keeps trying to connect. Its log gives the cause."),
		s.alert("ParkingBrokerBlocked", "warning", "1m",
			fmt.Sprintf("max %s (%s) == 1", by("component"), s.selector("parking_broker_blocked")),
			"RabbitMQ accepts no messages",
			"RabbitMQ is short of memory or disk space and blocks publishers. Give it more of either, or process events faster."),
		s.alert("ParkingStoreRestarted", "warning", "0m",
			increase("", "parking_store_restarts_total"),
			"Redis has restarted or failed over",
			"Redis may have lost changes that were not yet in its append-only file or on its replicas. The events that made these changes are processed again. If the restart or failover was not intended, check the memory limit of Redis and, if it has replicas, why one of them was promoted."),
		s.alert("ParkingSummariesNotStored", "warning", "1m",
			increase("", "parking_summary_commit_failures_total"),
			"The summary API cannot write to its database",
			"Summaries stay in Redis until the summary API can write again. Its log gives the cause, such as a full volume or a PostgreSQL server that cannot be reached."),
		s.alert("ParkingTargetDown", "warning", "5m",
			fmt.Sprintf("sum %s (%s == bool 0) > 0", by("component"), s.selector("up")),
			"Prometheus cannot scrape the {{ $labels.component }} pods",
			"{{ $value }} pods do not answer. Check whether they run, and whether a NetworkPolicy blocks Prometheus."),
	}
}

// objectiveAlerts returns one alert for each latency objective. An alert fires if the objective is missed for some
// minutes, so that users learn of it before the verdict.
func objectiveAlerts(s series, o plan.Objectives) []any {
	var rules []any
	for _, objective := range []struct {
		name, summary, histogram string
		limit                    plan.Duration
	}{
		{"ParkingProcessingSlow", "Processing takes longer than objectives.processingP99", processingSeconds, o.ProcessingP99},
		{"ParkingEndToEndSlow", "Events take effect later than objectives.endToEndP99", endToEndSeconds, o.EndToEndP99},
	} {
		if objective.limit == 0 {
			continue
		}
		seconds := strconv.FormatFloat(objective.limit.D().Seconds(), 'g', -1, 64)
		rules = append(rules, s.alert(objective.name, "warning", "5m",
			fmt.Sprintf("(%s) > %s", s.quantile("0.99", objective.histogram, ""), seconds),
			objective.summary,
			fmt.Sprintf("The 99th percentile is {{ $value | humanizeDuration }}. The objective is %s.", objective.limit)))
	}
	return rules
}

// alert returns an alert with the labels of the simulation. It sets the labels explicitly, because the results of
// some expressions have none, for example when a metric is absent.
func (s series) alert(name, severity, duration, expression, summary, description string) map[string]any {
	return map[string]any{
		"alert":  name,
		"expr":   expression,
		"for":    duration,
		"labels": map[string]any{"severity": severity, "namespace": s.namespace, "simulation": s.simulation},
		"annotations": map[string]any{
			"summary":     fmt.Sprintf("%s/%s: %s", s.namespace, s.simulation, summary),
			"description": description,
		},
	}
}
