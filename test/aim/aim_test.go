package aim_test

import (
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/test/aim"
)

func TestPrint_AimsWithLowerAndUpperBounds_TableShowsWhichAreMet(t *testing.T) {
	t.Parallel()
	aims := aim.Taken(
		aim.AtLeast(.75, "a ratio", 100, .5, .76),
		aim.AtLeast(300_000, "a rate", 299_999.6),
		aim.AtMost(0, "writes", 0),
		aim.AtMost(1.5, "too much", 1.6),
		aim.AtMost(1, "not measured"),
	)
	var out strings.Builder
	aim.Print(&out, aims)
	want := strings.Join([]string{
		"what\tmeasured\taim",
		"a ratio\t0.76\t≥ 0.75\tmet",
		"a rate\t300000\t≥ 300000\tmissed",
		"writes\t0.00\t≤ 0\tmet",
		"too much\t1.60\t≤ 1.5\tmissed",
	}, "\n") + "\n\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
}
