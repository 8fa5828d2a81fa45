package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"math/bits"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/summary"
)

// readers is a pool of read-only connections with their prepared statements.
type readers struct {
	db *sql.DB

	find, listAll, listPlate, totals *sql.Stmt
}

const (
	findSQL = "SELECT id, plate, entry_at, exit_at FROM summaries WHERE id = ?"

	listAllSQL = `
		SELECT seq, id, plate, entry_at, exit_at
		FROM summaries INDEXED BY summaries_by_exit
		WHERE (exit_at, seq) > (?1, ?2) AND exit_at <= ?3
		ORDER BY exit_at, seq
		LIMIT ?4`

	listPlateSQL = `
		WITH RECURSIVE section (number) AS (
			SELECT 0
			UNION ALL
			SELECT number + 1 FROM section WHERE number < (SELECT max(seq) >> 12 FROM summaries)
		)
		SELECT s.seq, s.id, s.plate, s.entry_at, s.exit_at
		FROM section CROSS JOIN summaries AS s INDEXED BY summaries_by_plate
		WHERE s.seq >> 12 = section.number AND s.plate = ?5
			AND (s.exit_at, s.seq) > (?1, ?2) AND s.exit_at <= ?3
		ORDER BY s.exit_at, s.seq
		LIMIT ?4`

	totalsSQL = "SELECT summaries, seconds, nanos, shortest, longest, first_exit, last_exit FROM totals"
)

func openReaders(ctx context.Context, uri string) (*readers, error) {
	db, err := connect(uri, maxReaders)
	if err != nil {
		return nil, err
	}
	r := &readers{db: db}
	for _, s := range []struct {
		stmt  **sql.Stmt
		query string
	}{
		{&r.find, findSQL}, {&r.listAll, listAllSQL}, {&r.listPlate, listPlateSQL}, {&r.totals, totalsSQL},
	} {
		if *s.stmt, err = db.PrepareContext(ctx, s.query); err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	return r, nil
}

func (r *readers) close() error { return r.db.Close() }

func (r *readers) findByID(ctx context.Context, id string) (event.Summary, bool, error) {
	var (
		found           event.Summary
		entryAt, exitAt int64
	)
	err := r.find.QueryRowContext(ctx, id).Scan(&found.ID, &found.Plate, &entryAt, &exitAt)
	if errors.Is(err, sql.ErrNoRows) {
		return event.Summary{}, false, nil
	}
	if err != nil {
		return event.Summary{}, false, err
	}
	found.EntryAt, found.ExitAt = summary.Instant(entryAt), summary.Instant(exitAt)
	return found, true, nil
}

// list returns one page of results. It selects one summary more than the limit, to find out whether another page
// follows.
func (r *readers) list(ctx context.Context, q summary.Query) (summary.Page, error) {
	rows, err := r.query(ctx, q)
	if err != nil {
		return summary.Page{}, err
	}
	defer func() { _ = rows.Close() }() // ignore the error, because rows.Err returns it
	var (
		page summary.Page
		last summary.Position
	)
	for rows.Next() {
		if len(page.Summaries) == q.Limit {
			page.Next = last
			break
		}
		var (
			s               event.Summary
			entryAt, exitAt int64
		)
		if err := rows.Scan(&last.Seq, &s.ID, &s.Plate, &entryAt, &exitAt); err != nil {
			return summary.Page{}, err
		}
		s.EntryAt, s.ExitAt = summary.Instant(entryAt), summary.Instant(exitAt)
		last.ExitNanos = exitAt
		page.Summaries = append(page.Summaries, s)
	}
	return page, rows.Err()
}

func (r *readers) query(ctx context.Context, q summary.Query) (*sql.Rows, error) {
	after, last := q.Bounds()
	args := []any{after.ExitNanos, after.Seq, last, q.Limit + 1}
	if q.Plate == "" {
		return r.listAll.QueryContext(ctx, args...)
	}
	return r.listPlate.QueryContext(ctx, append(args, q.Plate)...)
}

// stats returns the totals, which are stored in a single row.
func (r *readers) stats(ctx context.Context) (summary.Stats, error) {
	var t totals
	err := r.totals.QueryRowContext(ctx).Scan(
		&t.summaries, &t.seconds, &t.nanos, &t.shortest, &t.longest, &t.firstExit, &t.lastExit)
	if err != nil || t.summaries == 0 {
		return summary.Stats{}, err
	}
	return summary.Stats{
		Count:    t.summaries,
		Mean:     t.mean(),
		Shortest: time.Duration(t.shortest), Longest: time.Duration(t.longest),
		FirstExit: summary.Instant(t.firstExit), LastExit: summary.Instant(t.lastExit),
	}, nil
}

// mean divides the sum of all durations by their number. It uses 128-bit arithmetic, because the sum in nanoseconds can
// exceed 64 bits.
func (t *totals) mean() time.Duration {
	high, low := bits.Mul64(uint64(t.seconds), uint64(time.Second))
	low, carry := bits.Add64(low, uint64(t.nanos), 0)
	quotient, _ := bits.Div64(high+carry, low, uint64(t.summaries)) // no panic: the mean fits into 64 bits
	return time.Duration(quotient)
}
