package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/summary"
)

const (
	// insertSQL stores a batch and returns the indexes of the rows whose identifiers are already stored or occur
	// earlier in the batch. The order by id prevents deadlocks between processes.
	insertSQL = `
		WITH numbered AS MATERIALIZED (
			SELECT nextval('summaries_seq') AS seq, batch.*
			FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
				WITH ORDINALITY AS batch (id, plate, entry_at, exit_at, number)
		), stored AS (
			INSERT INTO summaries (seq, id, plate, entry_at, exit_at)
			SELECT seq, id, plate, entry_at, exit_at FROM numbered ORDER BY id COLLATE "C", seq
			ON CONFLICT (id) DO NOTHING
			RETURNING seq, exit_at, exit_at - entry_at AS duration
		), counted AS (
			UPDATE summary_totals AS t SET
				summaries  = t.summaries + added.summaries,
				nanos      = t.nanos + added.nanos,
				shortest   = least(t.shortest, added.shortest),
				longest    = greatest(t.longest, added.longest),
				first_exit = least(t.first_exit, added.first_exit),
				last_exit  = greatest(t.last_exit, added.last_exit)
			FROM (
				SELECT count(*) AS summaries, coalesce(sum(duration), 0) AS nanos,
					min(duration) AS shortest, max(duration) AS longest,
					min(exit_at) AS first_exit, max(exit_at) AS last_exit
				FROM stored
			) AS added
			WHERE t.slot = $5
		)
		SELECT number - 1 FROM numbered WHERE NOT EXISTS (SELECT FROM stored WHERE stored.seq = numbered.seq)`

	storedSQL = "SELECT seq, id, plate, entry_at, exit_at FROM summaries WHERE id = ANY ($1)"
)

// insert stores a batch and sets the outcomes.
func (d *Database) insert(ctx context.Context, summaries []event.Summary, outcomes []summary.Outcome) error {
	b := newColumns(summaries)
	rows, err := d.writer.Query(ctx, insertSQL, b.ids, b.plates, b.entries, b.exits, d.slot)
	if err != nil {
		return err
	}
	skipped, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return err
	}
	for i := range outcomes {
		outcomes[i] = summary.Created
	}
	if len(skipped) == 0 {
		return nil
	}
	return d.compare(ctx, summaries, outcomes, skipped)
}

// compare sets the outcomes of skipped rows. It needs a second statement, because the INSERT statement may not see
// rows that another process just stored.
func (d *Database) compare(ctx context.Context, summaries []event.Summary, outcomes []summary.Outcome, skipped []int) error {
	ids := make([]string, len(skipped))
	for i, index := range skipped {
		ids[i] = summaries[index].ID
	}
	rows, err := d.writer.Query(ctx, storedSQL, ids)
	if err != nil {
		return err
	}
	found, err := pgx.CollectRows(rows, scanNumbered)
	if err != nil {
		return err
	}
	stored := make(map[string]event.Summary, len(found))
	for _, s := range found {
		stored[s.ID] = s.Summary
	}
	for _, index := range skipped {
		s := &summaries[index]
		switch other, ok := stored[s.ID]; {
		case !ok:
			return errors.New("summaries disappeared from the table between two statements: stop the program that deletes them")
		case other.Plate == s.Plate && other.EntryAt.Equal(s.EntryAt) && other.ExitAt.Equal(s.ExitAt):
			outcomes[index] = summary.Known
		default:
			outcomes[index] = summary.Conflicting
		}
	}
	return nil
}

// columns contains the values of a batch, with one slice for each column of the table.
type columns struct {
	ids, plates    []string
	entries, exits []int64
}

func newColumns(summaries []event.Summary) columns {
	n := len(summaries)
	c := columns{make([]string, n), make([]string, n), make([]int64, n), make([]int64, n)}
	for i := range summaries {
		s := &summaries[i]
		c.ids[i], c.plates[i], c.entries[i], c.exits[i] = s.ID, s.Plate, s.EntryAt.UnixNano(), s.ExitAt.UnixNano()
	}
	return c
}
