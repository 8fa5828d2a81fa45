package manifest

import (
	"strings"
	"testing"
)

func TestHasWrongUnit_EachText_IsTrueOnlyForANumberWithOneWrongUnit(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"1d": true, "5 s": true, "1min": true, "1µd": true, "1.5.0d": true,
		"5s": false, "1ms": false, "1μs": false, "1": false, "d": false, "": false, "1h30d": false, "-1d": false, "1\td": false,
		strings.Repeat("1", maxUnitText) + "d":     true,
		strings.Repeat("1", maxUnitText+1) + "d":   false,
		"1" + strings.Repeat("é", maxUnitText):     true,
		"1" + strings.Repeat("é", maxUnitText+1):   false,
		"1" + strings.Repeat(" ", 100) + "seconds": true,
	} {
		if got := hasWrongUnit(text); got != want {
			t.Errorf("hasWrongUnit(%q) is %t", text, got)
		}
	}
}
