// Package postgres stores summaries in a PostgreSQL database, which several processes may use at the same time. Insert
// returns when its transaction is durable.
//
// A listing returns no summary twice, and all summaries that were stored when it began. It may lack later ones,
// because sequence numbers of concurrent transactions become visible out of order.
package postgres
