// Package client posts summaries. Embedded posts many summaries per request to the API of package rest. External posts
// each summary to a user's own API.
//
// Each call of Post makes one attempt. Its error says whether to retry. The clients never follow a redirect to another
// host. Errors never contain credentials or the query of the URL.
package client
