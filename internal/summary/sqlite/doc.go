// Package sqlite keeps summaries in an SQLite database: one file in write-ahead-log mode, synced before each
// transaction is answered, with one writer and several readers.
//
// Three things make inserts cheap. Rows are inserted many at a time. Totals are kept beside the rows, by the
// same transaction, so that statistics need no scan. And the index of plates, which come in random order, is
// in sections: it is ordered by the row's section, 4096 rows in the order of storing, before the plate, so
// that inserts touch the few pages of the latest section instead of pages all over the index. A search for a
// plate looks into every section; a million rows have 245.
package sqlite
