// Package sqlite stores summaries in an SQLite file in write-ahead-log mode, with one writer and several readers.
// Insert syncs each transaction to disk, unless Config.NoSync is set.
package sqlite
