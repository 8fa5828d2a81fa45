package terminal_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/terminal"
)

func TestClean_EscapesInvisibleCharacters(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain – ✓ 日本 é":           "plain – ✓ 日本 é",
		"two\nlines\r\nand a\ttab": "two lines and a tab",
		"\x1b[2J\x1b]0;title\a":    `\u001b[2J\u001b]0;title\u0007`,
		"over\rwritten":            `over\u000dwritten`,
		"\x00\x7f\u0085\u009b":     `\u0000\u007f\u0085\u009b`,
		"\u202epdf.exe\u2066":      `\u202epdf.exe\u2066`,
		"zero\u200bwidth\ufeff":    `zero\u200bwidth\ufeff`,
		"\u2028\U000e0041":         `\u2028\udb40\udc41`,
		"invalid \xff":             "invalid \ufffd",
	} {
		if got := terminal.Clean(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	if got := string(terminal.CleanLines([]byte("a\n\tb\r\x1b"))); got != "a\n\tb\\u000d\\u001b" {
		t.Errorf("lines become %q", got)
	}
}

func TestCleanLines_JSONWithControlCharacters_DecodesToTheSameValue(t *testing.T) {
	t.Parallel()
	want := map[string]string{"k": "\u202e \u009b \U000e0041 \x1b \x7f"}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal(terminal.CleanLines(text), &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestCleaned_ReturnsACopyWithAllTextsCleaned(t *testing.T) {
	t.Parallel()
	type text string
	type part struct {
		Text   text
		At     time.Time
		Raw    json.RawMessage
		Any    any
		Absent *part
		hidden string
	}
	type whole struct {
		part
		Parts   []part
		Pointer *part
		Map     map[string]text
		Array   [1]string
	}
	at := time.Now()
	dirty := func() whole {
		p := part{Text: "\x1b", At: at, Raw: json.RawMessage("\x1b"), Any: "\x1b", hidden: "\x1b"}
		return whole{part: p, Parts: []part{p}, Pointer: &p, Map: map[string]text{"\x1b": "\x1b"}, Array: [1]string{"\x1b"}}
	}
	const esc = `\u001b`
	p := part{Text: esc, At: at, Raw: json.RawMessage("\x1b"), Any: esc, hidden: "\x1b"}
	want := whole{part: dirty().part, Parts: []part{p}, Pointer: &p, Map: map[string]text{esc: esc}, Array: [1]string{esc}}
	original := dirty()
	if got := terminal.Cleaned(original); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if !reflect.DeepEqual(original, dirty()) {
		t.Errorf("the original changed: %+v", original)
	}
	if got := terminal.Cleaned[*whole](nil); got != nil {
		t.Errorf("nil becomes %+v", got)
	}
}

func TestCleanWriter_TextIsEscaped_ReportsTheLengthOfTheOriginal(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if n, err := terminal.CleanWriter(&b).Write([]byte("a\x1b\n")); n != 3 || err != nil || b.String() != "a\\u001b\n" {
		t.Errorf("%d bytes, %v: %q", n, err, b.String())
	}
}
