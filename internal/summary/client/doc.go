// Package client posts summaries: Embedded to the API of package rest, with many per request, and External to a user's
// own API.
//
// Each call of Post makes one attempt, whose error says whether to retry. The clients never follow a redirect to
// another host. Errors never contain credentials or the query of the URL.
package client
