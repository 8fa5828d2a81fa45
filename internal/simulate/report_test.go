package simulate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/report"
)

// reportOf runs a simulation with two faults and returns its report. It stops the simulation after the given time at
// the latest.
func reportOf(t *testing.T, stop time.Duration) *report.Document {
	t.Helper()
	var d report.Document
	synctest.Test(t, func(t *testing.T) {
		o := rehearsal(t,
			plan.Fault{
				Name: "stall", Target: plan.TargetRedis, Action: plan.ActionPause, Instances: 1,
				At: plan.Duration(12 * time.Second), For: plan.Duration(3 * time.Second),
			},
			plan.Fault{Name: "crash", Target: plan.TargetSummaryAPI, Action: plan.ActionKill, Instances: 1, At: plan.Duration(22 * time.Second)},
		)
		o.Plan.Objectives.EndToEndP99 = plan.Duration(time.Minute)
		s, err := New(o.Config, o.Dependencies)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), stop, errors.New("stopped"))
		defer cancel()
		s.observed.recordLags(time.Hour, time.Hour) // the report must contain the lags of the timeline instead of these
		r := s.Run(ctx)
		rows, err := ledger.ReadTimeline(t.Context(), o.Store)
		if err != nil {
			t.Fatal(err)
		}
		d = report.New(r, report.Environment{Parking: "v1", RabbitMQ: report.InMemory, Nodes: []report.Node{{CPUs: 1}}, Manifest: json.RawMessage("{}")}, rows)
	})
	return &d
}

func TestSimulationRun_Report_FollowsTheSchemaAndCanBeRead(t *testing.T) {
	t.Parallel()
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	schema, err := compiler.Compile("../../docs/report.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		stop     time.Duration
		outcomes []fault.Outcome
		cutShort string
	}{
		"a complete run":           {time.Hour, []fault.Outcome{fault.OutcomeRecovered, fault.OutcomeRecovered}, ""},
		"a run that was cut short": {14 * time.Second, []fault.Outcome{fault.OutcomeAborted}, "the run was cut short after 0:14 of 0:30 (stopped)"},
	} {
		d := reportOf(t, tt.stop)
		text, err := d.JSON()
		if err != nil {
			t.Fatal(err)
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(value); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		read, err := report.Read(bytes.NewReader(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var outcomes []fault.Outcome
		for _, f := range read.Faults {
			outcomes = append(outcomes, f.Outcome)
		}
		if !slices.Equal(outcomes, tt.outcomes) || read.CutShort != tt.cutShort || len(read.Timeline) == 0 {
			t.Errorf("%s: the report has the outcomes %v, %d rows and %q, want %v and %q", name, outcomes, len(read.Timeline), read.CutShort, tt.outcomes, tt.cutShort)
		}
		lag := max(read.Rates.Entry.MaxLagSeconds, read.Rates.Exit.MaxLagSeconds)
		if peak := read.Faults[0].PeakLagSeconds; lag != peak {
			t.Errorf("%s: the max lag is %g s in the rates and %g s under the fault, want the same", name, lag, peak)
		}
	}
}
