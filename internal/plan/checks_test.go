package plan_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/internal/plan"
)

// Older API servers accept any text in brackets as the host of a URL, so the patterns in the CRD must reject invalid
// hosts.
func TestURLPatterns_AcceptExactlyTheHostsThatDNSAndGoAccept(t *testing.T) {
	t.Parallel()
	syntax, long := regexp.MustCompile(plan.URLPattern), regexp.MustCompile(plan.URLLongHostPattern)
	label := strings.Repeat("a", 63)
	for host, valid := range map[string]bool{
		"[192.0.2.1]": false, "[beef]": false, "[]": false, "[::1]": true, "[::ffff:192.0.2.1]": true, "[2001:db8::1]:80": true,
		label: true, label + "a": false, "a." + label + ".": true, "a." + label + "a.b": false, "_" + label: false,
		strings.Repeat("a.", 126) + "b": true, strings.Repeat("a.", 126) + "b.": true, strings.Repeat("a.", 126) + "b.:80": true,
		strings.Repeat("a.", 126) + "bc": false, strings.Repeat("a.", 126) + "bc:80": false, strings.Repeat("a.", 127) + "b": false,
	} {
		url := "http://" + host + "/v1/" + strings.Repeat("long", 99)
		if accepted := syntax.MatchString(url) && !long.MatchString(url); accepted != valid {
			t.Errorf("%s: accepted is %t, want %t", host, accepted, valid)
		}
		var c plan.Checks
		c.HTTPURL("url", url, "put them into a Secret")
		if accepted := len(c.Errors) == 0; accepted != valid {
			t.Errorf("%s: HTTPURL returns %v, want valid: %t", host, c.Errors, valid)
		}
	}
}

func TestPlanValidate_PlanIsNotFromAFile_ErrorShowsDurationsInShortForm(t *testing.T) {
	t.Parallel()
	p := full()
	p.Exit.MinStay = p.MaxStay
	const want = `exit.minStay: Invalid value: "1h": must be less than maxStay, which is 1h, or every vehicle is forgotten before it may leave: lower exit.minStay or raise maxStay`
	if err := p.Validate(); err == nil || err.Error() != want {
		t.Errorf("error is\n%v, want\n%s", err, want)
	}
}
