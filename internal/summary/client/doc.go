// Package client posts summaries to a summary API: Embedded to the one of package rest, many summaries in
// one request; External to one of the user's own, one request per summary.
//
// Both make one attempt per Post and tell by the error whether another is of use. They never follow a
// redirect away from the host they were given, bound what they read of an answer, and quote neither
// credentials nor the query of the URL in any error.
package client
