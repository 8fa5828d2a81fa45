package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/summary"
)

// find responds with the summary whose identifier is in the URL path.
func (a *api) find(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), a.limits.timeout)
	defer cancel()
	found, ok, err := a.summaries.Find(ctx, r.PathValue("id"))
	if err != nil {
		return err
	}
	if !ok {
		return problemf(http.StatusNotFound, "no summary is stored under this id")
	}
	a.answer(w, http.StatusOK, typeJSON, append(event.AppendSummary(nil, found), '\n'))
	return nil
}

// list responds with one page of the summaries that the query parameters select.
func (a *api) list(w http.ResponseWriter, r *http.Request) error {
	q, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.limits.timeout)
	defer cancel()
	page, err := a.summaries.List(ctx, q)
	if err != nil {
		return err
	}
	a.answer(w, http.StatusOK, typeJSON, appendPage(nil, page))
	return nil
}

func appendPage(b []byte, page summary.Page) []byte {
	b = append(b, `{"items":[`...)
	for i := range page.Summaries {
		if i > 0 {
			b = append(b, ',')
		}
		b = event.AppendSummary(b, page.Summaries[i])
	}
	b = append(b, ']')
	if !page.Next.IsZero() {
		b = append(b, `,"next_cursor":`...)
		b = event.AppendString(b, formatCursor(page.Next))
	}
	return append(b, '}', '\n')
}

// stats responds with totals over all stored summaries.
func (a *api) stats(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), a.limits.timeout)
	defer cancel()
	stats, err := a.summaries.Stats(ctx)
	if err != nil {
		return err
	}
	body, err := json.Marshal(describe(stats))
	if err != nil {
		return fmt.Errorf("encode the totals: %w", err)
	}
	a.answer(w, http.StatusOK, typeJSON, append(body, '\n'))
	return nil
}

// statsBody is the response body of the totals. If no summaries are stored, it contains only the count.
type statsBody struct {
	Count           int64      `json:"count"`
	Duration        *extremes  `json:"duration,omitempty"`
	DurationSeconds *extremes  `json:"duration_seconds,omitempty"`
	FirstExit       *time.Time `json:"first_exit_date_time,omitempty"`
	LastExit        *time.Time `json:"last_exit_date_time,omitempty"`
}

// extremes contains the mean, the shortest and the longest duration, either as Go duration strings or as numbers of
// seconds.
type extremes struct {
	Mean any `json:"mean"`
	Min  any `json:"min"`
	Max  any `json:"max"`
}

func describe(s summary.Stats) statsBody {
	if s.Count == 0 {
		return statsBody{}
	}
	return statsBody{
		Count:           s.Count,
		Duration:        &extremes{s.Mean.String(), s.Shortest.String(), s.Longest.String()},
		DurationSeconds: &extremes{seconds(s.Mean), seconds(s.Shortest), seconds(s.Longest)},
		FirstExit:       &s.FirstExit,
		LastExit:        &s.LastExit,
	}
}

// seconds returns a non-negative duration as an exact decimal number of seconds.
func seconds(d time.Duration) json.Number {
	return json.Number(fmt.Sprintf("%d.%09d", d/time.Second, d%time.Second))
}
