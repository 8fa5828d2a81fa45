// Package postgres stores summaries in a PostgreSQL database. Several processes may use the same database at the same
// time. Each transaction is durable on the server before its caller gets a response.
//
// One statement inserts a whole batch, skips the summaries that are stored already, and updates the totals. So a batch
// takes one round trip and needs no open transaction between round trips. A second round trip is needed only if some
// summaries were skipped: it compares them with the stored ones.
//
// The rows of a batch are inserted in the order of their identifiers, so that two processes that store the same
// summaries cannot deadlock. The totals have several rows, and each process updates one of them, selected at random. So
// processes rarely wait for each other.
//
// The position of a summary never changes, so a listing returns no summary twice. It returns all summaries that were
// stored when it began. It may lack a summary that is stored later: the sequence numbers of concurrent transactions may
// become visible out of order, so the summary may get a position on a page that was already returned. This happens with
// SQLite as well, because the position there depends on the exit time.
//
// The connection settings are read again before each new connection, so that a new password takes effect without a
// restart.
//
// The schema has a version, and goose migrates it under an advisory lock. Of the migration libraries that support pgx,
// embedded files and such a lock, goose has the fewest dependencies. A migration must leave the tables usable for the
// previous version of the program, because the replicas of that version run on during an upgrade.
package postgres
