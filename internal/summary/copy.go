package summary

import (
	"context"
	"fmt"
)

// copyRows is the number of summaries that Copy stores per transaction.
const copyRows = 4096

// CopyResult counts the summaries that Copy has read from the source, by their outcomes in the target.
type CopyResult struct {
	// The field Created is the number of summaries that this call stored. The field Known is the number of summaries
	// that were already stored.
	Created, Known int64
	// Conflicting is the number of summaries that were not stored because the target has a different summary with the
	// same identifier.
	Conflicting int64
	// firstConflict is the identifier of the first conflicting summary.
	firstConflict string
}

// Read returns how many summaries were read from the source.
func (r CopyResult) Read() int64 { return r.Created + r.Known + r.Conflicting }

// Copy copies all summaries in the order of their exits, and can be repeated after any error. It fails if the source
// changes, or if a summary is invalid or conflicting.
func Copy(ctx context.Context, from, to Database, progress func(CopyResult)) (CopyResult, error) {
	var result CopyResult
	outcomes := make([]Outcome, copyRows)
	for q := (Query{Limit: copyRows}); ; {
		page, err := from.List(ctx, q)
		if err != nil {
			return result, fmt.Errorf("read the source database: %w", err)
		}
		for _, s := range page.Summaries {
			if err := Validate(s); err != nil { // an earlier version may have stored invalid summaries
				return result, fmt.Errorf("copy the summary with the id %q: %w; correct it in the source", s.ID, err)
			}
		}
		if err := to.Insert(ctx, page.Summaries, outcomes[:len(page.Summaries)]); err != nil {
			return result, fmt.Errorf("write to the target database: %w", err)
		}
		result.add(page, outcomes)
		progress(result)
		if page.Next.IsZero() {
			break
		}
		q.After = page.Next
	}
	return result, result.verify(ctx, from)
}

func (r *CopyResult) add(page Page, outcomes []Outcome) {
	for i, s := range page.Summaries {
		switch outcomes[i] {
		case Created:
			r.Created++
		case Known:
			r.Known++
		default:
			if r.Conflicting == 0 {
				r.firstConflict = s.ID
			}
			r.Conflicting++
		}
	}
}

// verify returns an error if a summary was not copied, or if the number of summaries in the source differs from the
// number that Copy has read.
func (r *CopyResult) verify(ctx context.Context, from Database) error {
	stats, err := from.Stats(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("count the summaries of the source database: %w", err)
	case r.Conflicting > 0:
		return fmt.Errorf("%d of %d summaries were not copied, because the target has different summaries with the same ids, such as %q: use an empty target", r.Conflicting, r.Read(), r.firstConflict)
	case stats.Count != r.Read():
		return fmt.Errorf("the source has %d summaries, but %d were copied: stop the process that writes to it, and copy again", stats.Count, r.Read())
	}
	return nil
}
