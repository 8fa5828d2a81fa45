package timeline

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// marksAt calls the method Observe of a new Marker at each of the given seconds after the start. It returns the marks
// that the Marker creates.
func marksAt(p *plan.Plan, seconds ...int) (marks []string) {
	start := time.Unix(1000, 0)
	m := NewMarker(func(m Mark) {
		marks = append(marks, m.At.Sub(start).String()+" "+string(m.Kind)+" "+m.Subject+" "+m.Message)
	}, event.TypeEntry, event.TypeExit)
	for _, s := range seconds {
		m.Observe(p, start, start.Add(time.Duration(s)*time.Second))
	}
	return marks
}

func TestMarkerObserve_RepeatedCalls_MarkEachStageAtMostOnce(t *testing.T) {
	t.Parallel()
	stages := []plan.Stage{
		{Duration: plan.Duration(20 * time.Second), Rate: 5}, {Duration: plan.Duration(30 * time.Second), Rate: 9},
		{Duration: plan.Duration(time.Second), Rate: 0},
	}
	p := &plan.Plan{Entry: plan.Entry{Schedule: plan.Schedule{Stages: stages}}}
	const first, second, third = "0s stage entries stage 1 of 3, to 5 events/s within 20s",
		"20s stage entries stage 2 of 3, to 9 events/s within 30s", "50s stage entries stage 3 of 3, to 0 events/s within 1s"
	for name, tt := range map[string]struct {
		seconds []int
		want    []string
	}{
		"from the start":                 {[]int{-1, 0, 1, 19, 21, 22, 50, 52, 99}, []string{first, second, third}},
		"with a gap":                     {[]int{0, 60}, []string{first, second, third}},
		"from the middle of a stage":     {[]int{40, 51}, []string{third}},
		"from the beginning of a stage":  {[]int{21, 22}, []string{second}},
		"before the start":               {[]int{-20, -1}, nil},
		"from the end of the last stage": {[]int{90, 91}, nil},
	} {
		if diff := cmp.Diff(tt.want, marksAt(p, tt.seconds...)); diff != "" {
			t.Errorf("%s: marks differ (-want +got):\n%s", name, diff)
		}
	}
	exits := &plan.Plan{Exit: plan.Exit{Schedule: plan.Schedule{Stages: stages[:1]}, MinStay: plan.Duration(time.Minute)}}
	if got := marksAt(exits, 0, 30, 59, 70); len(got) != 1 || !cmp.Equal(got[0], exits.ExitDelay().String()+" stage exits stage 1 of 1, to 5 events/s within 20s") {
		t.Errorf("the marks of the exits are %q", got)
	}
}

// The kubelet updates the mounted plan late, so the process learns the start time only 25 s after the start.
func TestMarker_StartTimeArrivesLate_MarksTheFirstStage(t *testing.T) {
	t.Parallel()
	p := &plan.Plan{Entry: plan.Entry{Schedule: plan.Schedule{Stages: []plan.Stage{{Duration: plan.Duration(time.Minute), Rate: 5}}}}}
	start, marks := time.Unix(1000, 0), 0
	m := NewMarker(func(Mark) { marks++ }, event.TypeEntry)
	m.Observe(p, time.Time{}, start)
	m.Observe(p, start, start.Add(25*time.Second))
	if marks != 1 {
		t.Errorf("%d marks, want 1", marks)
	}
}

func TestMarksOf_OmitsRepetitions(t *testing.T) {
	t.Parallel()
	at := time.Unix(1000, 0)
	stage, later := Mark{At: at, Kind: MarkStage, Subject: "entries"}, Mark{At: at.Add(time.Second), Kind: MarkStage, Subject: "entries"}
	missed := Mark{At: at, Kind: MarkObjective, Subject: "end-to-end p99", Message: "2s"}
	missedByOther := Mark{At: at.Add(time.Second), Kind: MarkObjective, Subject: "end-to-end p99", Message: "3s"}
	server := func(seconds int, k MarkKind) Mark {
		return Mark{At: at.Add(time.Duration(seconds) * time.Second), Kind: k, Subject: "broker"}
	}
	rows := []Row{
		{Marks: []Mark{stage, missed}}, {}, {Marks: []Mark{stage, later, missedByOther}},
		{Marks: []Mark{server(3, MarkUnavailable)}}, {Marks: []Mark{server(4, MarkUnavailable)}}, // two processes report one failure
		{Marks: []Mark{server(5, MarkAvailable)}}, {Marks: []Mark{server(6, MarkAvailable)}},
		{Marks: []Mark{server(7, MarkUnavailable)}},
	}
	want := []Mark{stage, missed, later, server(3, MarkUnavailable), server(5, MarkAvailable), server(7, MarkUnavailable)}
	if diff := cmp.Diff(want, MarksOf(rows)); diff != "" {
		t.Errorf("marks differ (-want +got):\n%s", diff)
	}
}
