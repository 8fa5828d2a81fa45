// Package excerpt shortens text for messages.
package excerpt

import (
	"strings"
	"unicode/utf8"
)

// Of returns the longest prefix of s that has at most limit bytes and does not split a character.
func Of(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// OneLine trims white space at both ends of a text, and joins its lines with "; ".
func OneLine(s string) string { return strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ") }
