// Package rest is the HTTP API of package summary. The document openapi.json, which it serves, describes
// every request and every answer; a test holds both against each other.
package rest
