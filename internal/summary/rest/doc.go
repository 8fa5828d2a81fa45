// Package rest implements the HTTP API of package summary and serves its description, openapi.json.
package rest
