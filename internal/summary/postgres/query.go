package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/summary"
)

const (
	findSQL = "SELECT seq, id, plate, entry_at, exit_at FROM summaries WHERE id = $1"

	listAllSQL = `
		SELECT seq, id, plate, entry_at, exit_at FROM summaries
		WHERE (exit_at, seq) > ($1, $2) AND exit_at <= $3
		ORDER BY exit_at, seq LIMIT $4`

	listPlateSQL = `
		SELECT seq, id, plate, entry_at, exit_at FROM summaries
		WHERE plate = $5 AND (exit_at, seq) > ($1, $2) AND exit_at <= $3
		ORDER BY exit_at, seq LIMIT $4`

	totalsSQL = `
		SELECT sum(summaries)::bigint, coalesce(div(sum(nanos), nullif(sum(summaries), 0)), 0)::bigint,
			coalesce(min(shortest), 0), coalesce(max(longest), 0),
			coalesce(min(first_exit), 0), coalesce(max(last_exit), 0)
		FROM summary_totals`
)

// numbered is a summary together with its sequence number.
type numbered struct {
	event.Summary

	seq int64
}

func scanNumbered(row pgx.CollectableRow) (numbered, error) {
	var (
		n               numbered
		entryAt, exitAt int64
	)
	err := row.Scan(&n.seq, &n.ID, &n.Plate, &entryAt, &exitAt)
	n.EntryAt, n.ExitAt = summary.Instant(entryAt), summary.Instant(exitAt)
	return n, err
}

func (d *Database) find(ctx context.Context, id string) (event.Summary, bool, error) {
	rows, err := d.readers.Query(ctx, findSQL, id)
	if err != nil {
		return event.Summary{}, false, err
	}
	found, err := pgx.CollectExactlyOneRow(rows, scanNumbered)
	if errors.Is(err, pgx.ErrNoRows) {
		return event.Summary{}, false, nil
	}
	return found.Summary, err == nil, err
}

// list returns one page of results. It selects one summary more than the limit, to find out whether another page
// follows.
func (d *Database) list(ctx context.Context, q summary.Query) (summary.Page, error) {
	after, end := q.Bounds()
	query, args := listAllSQL, []any{after.ExitNanos, after.Seq, end, q.Limit + 1}
	if q.Plate != "" {
		query, args = listPlateSQL, append(args, q.Plate)
	}
	rows, err := d.readers.Query(ctx, query, args...)
	if err != nil {
		return summary.Page{}, err
	}
	found, err := pgx.CollectRows(rows, scanNumbered)
	if err != nil {
		return summary.Page{}, err
	}
	var page summary.Page
	for i, s := range found {
		if i == q.Limit {
			last := found[i-1]
			page.Next = summary.Position{ExitNanos: last.ExitAt.UnixNano(), Seq: last.seq}
			break
		}
		page.Summaries = append(page.Summaries, s.Summary)
	}
	return page, nil
}

func (d *Database) stats(ctx context.Context) (summary.Stats, error) {
	var stats summary.Stats
	var firstExit, lastExit int64
	err := d.readers.QueryRow(ctx, totalsSQL).Scan(
		&stats.Count, &stats.Mean, &stats.Shortest, &stats.Longest, &firstExit, &lastExit)
	if err != nil || stats.Count == 0 {
		return summary.Stats{}, err
	}
	stats.FirstExit, stats.LastExit = summary.Instant(firstExit), summary.Instant(lastExit)
	return stats, nil
}
