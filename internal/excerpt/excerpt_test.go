package excerpt_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/parking-operator/parking-operator/internal/excerpt"
)

func TestExcerptOf_AnyTextAndLimit_ReturnsLongestPrefixOfWholeCharacters(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s, limit := rapid.String().Draw(t, "text"), rapid.IntRange(0, 40).Draw(t, "limit")
		got := excerpt.Of(s, limit)
		if len(got) > limit || !strings.HasPrefix(s, got) || !utf8.ValidString(got) {
			t.Fatalf("got %q", got)
		}
		if rest := s[len(got):]; rest != "" {
			if _, size := utf8.DecodeRuneInString(rest); len(got)+size <= limit {
				t.Fatalf("got %q, which leaves room for one more character", got)
			}
		}
	})
}

func TestOneLine_SeveralLines_AreJoined(t *testing.T) {
	t.Parallel()
	if got := excerpt.OneLine(errors.Join(errors.New("a"), errors.New("b c")).Error() + "\n"); got != "a; b c" {
		t.Errorf("got %q", got)
	}
}
