// Package postgres stores summaries in a PostgreSQL database, which several processes may use at the same time. Insert
// returns when its transaction is durable.
//
// A listing returns no summary twice. It returns all summaries that were stored when it began, but may lack some that
// were stored later, because sequence numbers of concurrent transactions become visible out of order.
package postgres
