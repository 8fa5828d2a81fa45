// Package summary stores the summaries of finished visits durably, and never overwrites them.
//
//   - Service commits the summaries of concurrent callers to a Database.
//   - Packages sqlite and postgres implement Database; summarytest is its conformance suite.
//   - Package rest serves a Service over HTTP.
//   - Package client has clients for that API and for a user's own API.
package summary
