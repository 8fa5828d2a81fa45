// Package excerpt shortens text for messages.
package excerpt

import (
	"strings"
	"unicode/utf8"
)

// Of returns the longest prefix of s that has at most limit bytes and ends with a whole character.
func Of(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// OneLine returns the text on one line: its lines joined by "; ", without white space at either end. Joined
// errors have one line each.
func OneLine(s string) string { return strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ") }
