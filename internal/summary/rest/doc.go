// Package rest is the HTTP API of package summary. It serves openapi.json, which describes every request and every
// answer. A test compares the description with the API.
package rest
