// Package excerpt bounds what is told of text that may be long.
package excerpt

import "unicode/utf8"

// Of shortens s to at most limit bytes, at the end of a character.
func Of(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}
