package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"strings"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/summary"
)

// columns is the number of values that are bound per row.
const columns = 4

// writer is the connection for writing, with its prepared statements. It must not be used after an error.
type writer struct {
	db *sql.DB

	begin, addTotals, find, commit *sql.Stmt
	// inserts are the prepared insert statements, one for each element of rowsPerInsert and in the same order.
	inserts []insertion
	// args is a buffer for the arguments of the current statement.
	args []any
}

type insertion struct {
	rows int
	stmt *sql.Stmt
}

// rowsPerInsert contains the numbers of rows for which insert statements are prepared. Statements with more than 64
// rows are not faster per row.
var rowsPerInsert = [...]int{64, 8, 1}

const (
	// insertSQL, rowSQL and skipSQL form a statement that skips stored identifiers. OR ROLLBACK saves a fifth of the
	// time, because SQLite need not be able to undo a single statement.
	insertSQL = "INSERT OR ROLLBACK INTO summaries (id, plate, entry_at, exit_at) VALUES "
	rowSQL    = "(?, ?, ?, ?)"
	skipSQL   = " ON CONFLICT (id) DO NOTHING"

	storedSQL = "SELECT seq, plate, entry_at, exit_at FROM summaries WHERE id = ?"

	addTotalsSQL = `UPDATE totals SET
		summaries  = summaries + ?1,
		seconds    = seconds + ?2 + (nanos + ?3) / 1000000000,
		nanos      = (nanos + ?3) % 1000000000,
		shortest   = min(shortest, ?4),
		longest    = max(longest, ?5),
		first_exit = min(first_exit, ?6),
		last_exit  = max(last_exit, ?7)`
)

func openWriter(ctx context.Context, uri string) (*writer, error) {
	db, err := connect(uri, 1)
	if err != nil {
		return nil, err
	}
	w := &writer{db: db, args: make([]any, 0, rowsPerInsert[0]*columns)}
	if err := w.prepare(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return w, nil
}

func (w *writer) prepare(ctx context.Context) error {
	var errs []error
	prepare := func(query string) *sql.Stmt {
		stmt, err := w.db.PrepareContext(ctx, query)
		errs = append(errs, err)
		return stmt
	}
	w.begin = prepare("BEGIN IMMEDIATE")
	w.addTotals = prepare(addTotalsSQL)
	w.find = prepare(storedSQL)
	w.commit = prepare("COMMIT")
	for _, rows := range rowsPerInsert {
		values := strings.Repeat(rowSQL+", ", rows-1) + rowSQL
		w.inserts = append(w.inserts, insertion{rows: rows, stmt: prepare(insertSQL + values + skipSQL)})
	}
	return errors.Join(errs...)
}

// close closes the connection. This rolls back an open transaction.
func (w *writer) close() error { return w.db.Close() }

// insert stores the summaries in one transaction.
func (w *writer) insert(ctx context.Context, summaries []event.Summary, outcomes []summary.Outcome) error {
	if _, err := w.begin.ExecContext(ctx); err != nil {
		return err
	}
	sum := noTotals()
	for len(summaries) > 0 {
		in := w.largest(len(summaries))
		if err := w.insertRows(ctx, in.stmt, summaries[:in.rows], outcomes[:in.rows]); err != nil {
			return err
		}
		sum.add(summaries[:in.rows], outcomes[:in.rows])
		summaries, outcomes = summaries[in.rows:], outcomes[in.rows:]
	}
	if _, err := w.addTotals.ExecContext(ctx, sum.args()...); err != nil {
		return err
	}
	_, err := w.commit.ExecContext(ctx)
	return err
}

// largest returns the prepared statement that inserts the most rows, but no more than n.
func (w *writer) largest(n int) insertion {
	for _, in := range w.inserts {
		if in.rows <= n {
			return in
		}
	}
	return w.inserts[len(w.inserts)-1]
}

// insertRows inserts summaries with one statement, and sets their outcomes.
func (w *writer) insertRows(ctx context.Context, stmt *sql.Stmt, rows []event.Summary, outcomes []summary.Outcome) error {
	w.args = w.args[:0]
	for i := range rows {
		r := &rows[i]
		w.args = append(w.args, r.ID, r.Plate, r.EntryAt.UnixNano(), r.ExitAt.UnixNano())
	}
	result, err := stmt.ExecContext(ctx, w.args...)
	if err != nil {
		return err
	}
	created, err := result.RowsAffected()
	if err != nil {
		return err
	}
	if created == int64(len(rows)) {
		for i := range outcomes {
			outcomes[i] = summary.Created
		}
		return nil
	}
	first, err := firstCreated(result, created)
	if err != nil {
		return err
	}
	return w.lookUpOutcomes(ctx, rows, outcomes, first)
}

// firstCreated returns the row number of the first created row, or math.MaxInt64 if no row was created. SQLite numbers
// new rows consecutively.
func firstCreated(result sql.Result, created int64) (int64, error) {
	if created == 0 {
		return math.MaxInt64, nil // nothing was inserted: LastInsertId returns an older row
	}
	last, err := result.LastInsertId()
	return last - created + 1, err
}

// lookUpOutcomes sets the outcomes after an INSERT statement that skipped some rows. The argument first is the result
// of firstCreated.
func (w *writer) lookUpOutcomes(ctx context.Context, rows []event.Summary, outcomes []summary.Outcome, first int64) error {
	seen := make(map[string]bool, len(rows))
	for i := range rows {
		r := &rows[i]
		var (
			seq, entryAt, exitAt int64
			plate                string
		)
		if err := w.find.QueryRowContext(ctx, r.ID).Scan(&seq, &plate, &entryAt, &exitAt); err != nil {
			return err
		}
		switch {
		case plate != r.Plate || entryAt != r.EntryAt.UnixNano() || exitAt != r.ExitAt.UnixNano():
			outcomes[i] = summary.Conflicting
		// Of several rows with one identifier, only the first was created.
		case seq >= first && !seen[r.ID]:
			outcomes[i] = summary.Created
		default:
			outcomes[i] = summary.Known
		}
		seen[r.ID] = true
	}
	return nil
}

// totals contains either the values of the table "totals", or the changes that one transaction makes to these values.
type totals struct {
	summaries, seconds, nanos              int64
	shortest, longest, firstExit, lastExit int64
}

// noTotals returns the totals of no summaries. The first added summary replaces their minima and maxima.
func noTotals() totals {
	return totals{shortest: math.MaxInt64, longest: math.MinInt64, firstExit: math.MaxInt64, lastExit: math.MinInt64}
}

// add adds the summaries with the outcome Created to the totals. It ignores all other summaries.
func (t *totals) add(summaries []event.Summary, outcomes []summary.Outcome) {
	for i := range summaries {
		if outcomes[i] != summary.Created {
			continue
		}
		duration, exitAt := int64(summaries[i].Duration()), summaries[i].ExitAt.UnixNano()
		t.summaries++
		t.seconds += duration / int64(time.Second)
		t.nanos += duration % int64(time.Second)
		t.shortest, t.longest = min(t.shortest, duration), max(t.longest, duration)
		t.firstExit, t.lastExit = min(t.firstExit, exitAt), max(t.lastExit, exitAt)
	}
}

func (t *totals) args() []any {
	return []any{t.summaries, t.seconds, t.nanos, t.shortest, t.longest, t.firstExit, t.lastExit}
}
