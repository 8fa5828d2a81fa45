package summary_test

import (
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/internal/summary"
)

func TestShorten_CutsBetweenCharacters(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want string }{
		{"a short text stays", "short", "short"},
		{"a text of just the length stays", strings.Repeat("x", summary.MaxDetail), strings.Repeat("x", summary.MaxDetail)},
		{"a longer one ends in an ellipsis", strings.Repeat("x", summary.MaxDetail+1), strings.Repeat("x", summary.MaxDetail-3) + "…"},
		{"no character is cut in two", "x" + strings.Repeat("ü", summary.MaxDetail), "x" + strings.Repeat("ü", (summary.MaxDetail-4)/2) + "…"},
	} {
		if got := summary.Shorten(tt.text); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
