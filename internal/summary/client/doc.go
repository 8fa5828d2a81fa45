// Package client posts summaries to a summary API. Embedded posts to the API of package rest, with many summaries
// per request. External posts to a user's own API, with one summary per request.
//
// Each Post makes one attempt. The type of the error says whether another attempt may succeed. The clients limit
// how much of a response they read. They never follow a redirect to another host, and never include credentials or the
// query of the URL in errors.
package client
