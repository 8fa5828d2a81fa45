// Package client posts summaries to a summary API. The type Embedded posts to the API of package rest, with many
// summaries per request. The type External posts to a user's own API, with one summary per request.
//
// Each call of Post makes one attempt. The type of the error says whether another attempt may succeed. The clients
// limit how much of a response they read. They never follow a redirect to another host. Their errors never contain
// credentials or the query of the URL.
package client
