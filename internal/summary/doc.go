// Package summary stores the summaries of finished visits. Each identifier is stored once and never overwritten. A
// summary is durable before its caller gets a response.
//
// Service commits the summaries of concurrent callers in groups to a Database. Packages sqlite and postgres implement
// Database, and package summarytest is the conformance suite of Database. Package rest serves a Service over HTTP.
// Package client has two clients: one posts summaries to that API, the other to a user's own API. Service and both
// clients have a method Post with the same signature, so that their callers need not know where summaries are stored.
package summary
