// Package summary keeps the summaries of finished visits: each identifier once, durably before the answer,
// and never overwritten.
//
// Service commits the summaries of concurrent callers in groups. Beneath it, package sqlite is the
// database; above it, package rest is the HTTP API, and package client posts to that API or to one of
// the user's own. A Service and both clients have the method Post, so that whoever has summaries to post
// does not see where they go.
package summary
