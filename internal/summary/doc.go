// Package summary stores the summaries of finished visits. Each identifier is stored once, is durable before the
// caller gets an answer, and is never overwritten.
//
// Service commits the summaries of concurrent callers in groups, to a Database. Package sqlite implements
// Database; package summarytest is its conformance suite. Package rest serves a Service over HTTP, and package
// client posts summaries to that API or to a user's own. Service and both clients have the method Post, so
// their users need not know where summaries go.
package summary
