// Package client posts summaries to a summary API. Embedded posts to the API of package rest, many summaries per
// request. External posts to a user's own API, one summary per request.
//
// Both make one attempt per Post. The type of the error says whether another attempt may succeed. They never follow
// a redirect to another host, limit what they read of an answer, and quote neither credentials nor the query of
// the URL in errors.
package client
