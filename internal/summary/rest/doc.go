// Package rest implements the HTTP API of package summary. It serves openapi.json, which describes every request
// and every response. A test compares this description with the API.
package rest
