// Package sqlite stores summaries in an SQLite database: one file in write-ahead-log mode, with one writer and
// several readers. Each transaction is synced to disk before its caller gets an answer.
//
// Inserts are cheap for three reasons. A statement inserts many rows. The same transaction updates a row of
// totals, so statistics need no scan. And the index of plates is divided into sections of 4096 rows, in the
// order of storing: plates arrive in random order, so an index of plates alone would change pages all over the
// file, but this one changes the few pages of the last section. A search for a plate looks into every section;
// a million rows have 245.
package sqlite
