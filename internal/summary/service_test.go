package summary_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/summary"
)

func TestValidateSummary_RejectsSummariesThatCannotBeStored(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
	valid := event.Summary{ID: "a", Plate: "P", EntryAt: at, ExitAt: at.Add(time.Hour)}
	with := func(change func(*event.Summary)) event.Summary {
		s := valid
		change(&s)
		return s
	}
	tests := []struct {
		name    string
		summary event.Summary
		want    string // a substring of the expected error detail; empty if the summary is valid
	}{
		{"a visit of an hour is valid", valid, ""},
		{"a visit of duration 0 is valid", with(func(s *event.Summary) { s.ExitAt = s.EntryAt }), ""},
		{"the longest id and plate are valid", with(func(s *event.Summary) { s.ID, s.Plate = strings.Repeat("i", 128), strings.Repeat("p", 32) }), ""},
		{"an entry in the year 1678 is valid", with(func(s *event.Summary) { s.EntryAt, s.ExitAt = at.AddDate(1678-2026, 0, 0), at.AddDate(1969-2026, 0, 0) }), ""},
		{"an empty id", with(func(s *event.Summary) { s.ID = "" }), "id has 0 bytes"},
		{"an id of 129 bytes", with(func(s *event.Summary) { s.ID = strings.Repeat("i", 129) }), "id has 129 bytes"},
		{"an empty plate", with(func(s *event.Summary) { s.Plate = "" }), "vehicle_plate has 0 bytes"},
		{"a plate of 33 bytes", with(func(s *event.Summary) { s.Plate = strings.Repeat("p", 33) }), "vehicle_plate has 33 bytes"},
		{"an id with the character U+0000", with(func(s *event.Summary) { s.ID = "a\x00" }), "id must be valid UTF-8"},
		{"a plate that is not UTF-8", with(func(s *event.Summary) { s.Plate = "\xff" }), "vehicle_plate must be valid UTF-8"},
		{"an exit before the entry", with(func(s *event.Summary) { s.ExitAt = at.Add(-1) }), "exit_date_time is before"},
		{"an entry in the year 0", with(func(s *event.Summary) { s.EntryAt = at.AddDate(-2026, 0, 0) }), "entry_date_time must be between the years 1678 and 2261"},
		{"an exit in the year 9999", with(func(s *event.Summary) { s.ExitAt = at.AddDate(9999-2026, 0, 0) }), "exit_date_time must be between the years 1678 and 2261"},
		{"a visit of 300 years", with(func(s *event.Summary) { s.EntryAt = at.AddDate(-300, 0, 0) }), "longer than 2562047 hours"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := summary.Validate(tt.summary)
			if tt.want == "" {
				if err != nil {
					t.Errorf("the summary is rejected: %v", err)
				}
				return
			}
			rejected, ok := errors.AsType[*summary.RejectedError](err)
			if !ok || rejected.Conflict || !strings.Contains(rejected.Detail, tt.want) {
				t.Errorf("error is %v, want a rejection with %q", err, tt.want)
			}
		})
	}
}

// fakeDatabase stores nothing. The test decides when each transaction ends, and with which error.
type fakeDatabase struct {
	summary.Database // nil, because the service calls only the methods that fakeDatabase overrides

	// Each transaction sends its number of rows to the channel entered. It then blocks until the test sends an error or
	// nil to the channel result.
	entered chan int
	result  chan error
	closed  chan struct{}
}

func newFake() *fakeDatabase {
	return &fakeDatabase{entered: make(chan int), result: make(chan error), closed: make(chan struct{})}
}

func (d *fakeDatabase) Insert(_ context.Context, rows []event.Summary, outcomes []summary.Outcome) error {
	d.entered <- len(rows)
	for i := range outcomes {
		outcomes[i] = summary.Created
	}
	return <-d.result
}

func (d *fakeDatabase) String() string { return "a fake" }

func (d *fakeDatabase) Close() error {
	close(d.closed)
	return nil
}

func serve(t *testing.T, db summary.Database, log *slog.Logger) (*summary.Service, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	s, err := summary.New(db, registry, log)
	if err != nil {
		t.Fatal(err)
	}
	return s, registry
}

func TestService_PostsDuringATransaction_ShareTheNextTransaction(t *testing.T) {
	t.Parallel()
	const posts = 100
	db, v := newFake(), newVisits()
	s, _ := serve(t, db, slog.New(slog.DiscardHandler))
	results := make(chan error, posts+1)
	post := func() { results <- s.Post(context.Background(), v.generate()) }

	go post()
	if rows := <-db.entered; rows != 1 {
		t.Fatalf("the transaction of the first post has %d summaries, want 1", rows)
	}
	for range posts {
		go post()
	}
	polltest.Until(t, "all posts to be queued", func() bool { return s.Queued() == posts })
	db.result <- nil
	if rows := <-db.entered; rows != posts {
		t.Errorf("the next transaction has %d summaries, want %d", rows, posts)
	}
	db.result <- nil
	for range posts + 1 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestService_TransactionsFail_EveryPostReturnsTheErrorButTheErrorIsLoggedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testFailure) // the clock is fake: it advances when all goroutines are blocked
}

func testFailure(t *testing.T) {
	t.Helper()
	db, v := newFake(), newVisits()
	var log bytes.Buffer
	s, _ := serve(t, db, slog.New(slog.NewTextHandler(&log, nil)))
	attempt := func(result error) error {
		done := make(chan error)
		go func() { done <- s.Post(context.Background(), v.generate()) }()
		<-db.entered
		db.result <- result
		return <-done
	}
	cause := errors.New("the volume is full")
	for range 3 {
		err := attempt(cause)
		unavailable, ok := errors.AsType[*summary.UnavailableError](err)
		if !ok || !errors.Is(err, cause) || unavailable.RetryAfter() <= 0 {
			t.Errorf("error is %v, want an UnavailableError with the cause and a positive RetryAfter", err)
		}
	}
	for range 2 {
		if err := attempt(nil); err != nil {
			t.Error(err)
		}
	}
	time.Sleep(time.Minute) // long enough for the outage to end, which takes 5 s without failures
	synctest.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if failed := strings.Count(log.String(), "the volume is full"); failed != 1 {
		t.Errorf("the fault is logged %d times, want 1:\n%s", failed, &log)
	}
	if healed := strings.Count(log.String(), "can be stored again"); healed != 1 {
		t.Errorf("the end of the fault is logged %d times, want 1:\n%s", healed, &log)
	}
}

func TestServicePost_ContextEnds_ReturnsTheErrorOfTheContext(t *testing.T) {
	t.Parallel()
	db, v := newFake(), newVisits()
	s, _ := serve(t, db, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Post(ctx, v.generate()) }()
	<-db.entered // Post is waiting for the database
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want the error of the context", err)
	}
	db.result <- nil
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestServicePost_DatabaseHangs_ReturnsAfterTheTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // the clock is fake: it advances when all goroutines are blocked
		db, v := newFake(), newVisits()
		s, _ := serve(t, db, slog.New(slog.DiscardHandler))
		start := time.Now()
		done := make(chan error)
		go func() { done <- s.Post(context.Background(), v.generate()) }()
		<-db.entered
		err := <-done
		if _, ok := errors.AsType[*summary.UnavailableError](err); !ok || !strings.Contains(err.Error(), "does not respond") {
			t.Errorf("error is %v, want an UnavailableError that says that the database does not respond", err)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("Post took %v, want 10 s", took)
		}
		db.result <- nil
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestServiceClose_StoresQueuedSummariesAndRejectsSummariesPostedAfterwards(t *testing.T) {
	t.Parallel()
	db, v := newFake(), newVisits()
	s, _ := serve(t, db, slog.New(slog.DiscardHandler))
	results := make(chan error, 2)
	post := func() { results <- s.Post(context.Background(), v.generate()) }
	go post()
	<-db.entered
	go post()
	polltest.Until(t, "the second post to be queued", func() bool { return s.Queued() == 1 })
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	polltest.Until(t, "the service to refuse posts", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		return errors.Is(s.Post(ctx, v.generate()), summary.ErrClosed)
	})
	for stored := false; !stored; {
		select {
		case db.result <- nil:
		case <-db.entered:
		case <-db.closed:
			stored = true
		}
	}
	for range 2 {
		if err := <-results; err != nil {
			t.Errorf("a post that was sent before Close fails: %v", err)
		}
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err := s.Post(t.Context(), v.generate()); !errors.Is(err, summary.ErrClosed) {
		t.Errorf("a post after Close has the error %v, want ErrClosed", err)
	}
}

func TestServicePost_SameSummaryFromManyCallers_IsStoredOnce(t *testing.T) {
	t.Parallel()
	const callers, each = 16, 50
	s, registry := newServiceWithMetrics(t)
	batch := newVisits().batch(each)
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			for i := range batch {
				if err := s.Post(t.Context(), batch[(i+caller)%each]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if stats, err := s.Stats(t.Context()); err != nil || stats.Count != each {
		t.Errorf("%d summaries are stored (%v), want %d", stats.Count, err, each)
	}
	other := batch[0]
	other.Plate = "ANOTHER"
	err := s.Post(t.Context(), other)
	if rejected, ok := errors.AsType[*summary.RejectedError](err); !ok || !rejected.Conflict {
		t.Errorf("a different summary with the same id has the error %v, want a conflict", err)
	}
	if found, ok, err := s.Find(t.Context(), other.ID); err != nil || !ok || found != batch[0] {
		t.Errorf("Find returned %v %v %v, want the first summary", found, ok, err)
	}
	want := map[string]float64{
		"parking_summaries_stored_total":      each,
		"parking_summaries_duplicate_total":   callers*each - each,
		"parking_summaries_conflicting_total": 1,
	}
	if diff := cmp.Diff(want, counters(t, registry, want)); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

// counters returns the values of the counters whose names are keys of the given map.
func counters(t *testing.T, registry *prometheus.Registry, names map[string]float64) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		if _, wanted := names[family.GetName()]; wanted {
			values[family.GetName()] = family.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return values
}

func TestServiceStore_BatchWithInvalidSummary_IsRejected(t *testing.T) {
	t.Parallel()
	s := newService(t)
	batch := newVisits().batch(3)
	batch[1].Plate = ""
	if _, err := s.Store(t.Context(), batch); err == nil {
		t.Error("the batch was stored")
	}
	if stats, err := s.Stats(t.Context()); err != nil || stats.Count != 0 {
		t.Errorf("%d summaries are stored (%v), want none", stats.Count, err)
	}
}

func TestServiceReady_WriteSucceedsOrFails_ReturnsTheResultOfTheWrite(t *testing.T) {
	t.Parallel()
	db := newFake()
	s, registry := serve(t, db, slog.New(slog.DiscardHandler))
	for _, result := range []error{nil, errors.New("read-only")} {
		done := make(chan error)
		go func() { done <- s.Ready(context.Background()) }()
		if rows := <-db.entered; rows != 0 {
			t.Errorf("the probe stores %d summaries", rows)
		}
		db.result <- result
		if err := <-done; !errors.Is(err, result) {
			t.Errorf("Ready returned %v, want %v", err, result)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Ready(ctx) }()
	<-db.entered
	cancel()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("while the database did not respond, Ready returned %v, want the error of the latest transaction", err)
	}
	db.result <- nil
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	want := map[string]float64{"parking_summary_commit_failures_total": 1, "parking_summaries_stored_total": 0}
	if diff := cmp.Diff(want, counters(t, registry, want)); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}
