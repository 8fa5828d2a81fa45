// Package sqlite stores summaries in an SQLite database: one file in write-ahead-log mode, with one writer and several
// readers. Unless Config.NoSync is set, each transaction is synced to disk before its caller gets a response.
//
// Inserts are cheap for three reasons. One statement inserts many rows. The same transaction updates a single row of
// totals, so statistics need no scan. The index of plates is divided into sections of 4096 rows, in insertion order.
//
// Plates arrive in random order, so inserts into an undivided index would change pages all over the file. With
// sections, they change only a few pages of the last section. A search for a plate looks into every section; a million
// rows have 245 sections.
package sqlite
