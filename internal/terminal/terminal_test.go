package terminal

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestNumberFormatting_RoundsAndAddsUnits(t *testing.T) {
	t.Parallel()
	tests := []struct{ got, want string }{
		{Count(0), "0"}, {Count(999), "999"}, {Count(1000), "1,000"}, {Count(-1234567), "-1,234,567"},
		{Rate(0), "0.0"}, {Rate(99.94), "99.9"}, {Rate(99.96), "100"}, {Rate(149999.6), "150,000"},
		{Duration(0), "0 s"}, {Duration(17), "17 ns"}, {Duration(1234), "1.23 µs"}, {Duration(23456), "23.5 µs"},
		{Duration(999499), "999 µs"}, {Duration(999500), "1.00 ms"}, {Duration(123456789), "123 ms"},
		{Duration(9994 * time.Millisecond), "9.99 s"}, {Duration(9996 * time.Millisecond), "10.0 s"},
		{Exact(30001 * time.Millisecond), "30.001 s"}, {Exact(20 * time.Millisecond), "20 ms"}, {Exact(0), "0 s"},
		{Duration(1234 * time.Second), "1234 s"}, {Duration(-time.Second), "-1.00 s"},
		{Clock(0), "0:00"}, {Clock(59600 * time.Millisecond), "1:00"}, {Clock(3723 * time.Second), "1:02:03"},
		{Bytes(1023), "1023 B"}, {Bytes(1 << 20), "1 MiB"}, {Bytes(3 << 30), "3 GiB"},
		{Bar(0, 4), "░░░░"}, {Bar(.5, 4), "██░░"}, {Bar(1, 4), "████"}, {Bar(.53, 4), "██▏░"}, {Bar(7, 2), "██"}, {Bar(-1, 2), "░░"},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}

func TestPalette_Colors_DoNotChangeTheWidth(t *testing.T) {
	t.Parallel()
	colored := Palette{enabled: true}
	text := colored.Good("µs") + " " + colored.Bad("12")
	if Width(text) != 5 {
		t.Errorf("width of %q is %d", text, Width(text))
	}
	if got := Width(Truncate(text, 3)); got != 3 {
		t.Errorf("width of %q cut to 3 is %d", Truncate(text, 3), got)
	}
	if !strings.HasSuffix(Truncate(text, 4), "\x1b[0m") {
		t.Errorf("%q does not reset its color", Truncate(text, 4))
	}
	if got := PadLeft(text, 7); Width(got) != 7 || !strings.HasPrefix(got, "  ") {
		t.Errorf("padded left: %q", got)
	}
	if got := PadRight(text, 7); Width(got) != 7 || !strings.HasSuffix(got, "  ") {
		t.Errorf("padded right: %q", got)
	}
	if got := (Palette{}).Bad("plain"); got != "plain" {
		t.Errorf("without colors: %q", got)
	}
}

func TestIsTerminal_RegularFile_ReturnsFalse(t *testing.T) {
	t.Parallel()
	f, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if Is(f) || CanRedraw(f) || PaletteFor(f) != (Palette{}) {
		t.Error("a file counts as a terminal")
	}
	if columns, rows := Size(f); columns != 80 || rows != 24 {
		t.Errorf("size is %d×%d", columns, rows)
	}
}

// display is a fake terminal. It supports the features that Screen uses: text, moving the cursor up, and clearing.
type display struct {
	lines       []string
	row, column int
}

func (d *display) Write(p []byte) (int, error) {
	text := string(p)
	for text != "" {
		var up int
		switch {
		case strings.HasPrefix(text, clearBelow):
			d.lines, text = d.lines[:min(d.row, len(d.lines))], text[len(clearBelow):]
		case strings.HasPrefix(text, clearRight):
			text = text[len(clearRight):]
			if d.row < len(d.lines) {
				d.lines[d.row] = d.lines[d.row][:min(d.column, len(d.lines[d.row]))]
			}
		case text[0] == '\r':
			d.column, text = 0, text[1:]
		case text[0] == '\n':
			d.put("")
			d.row, d.column, text = d.row+1, 0, text[1:]
		case scanned(text, &up):
			d.row -= up
			text = text[strings.Index(text, "A")+1:]
		default:
			d.put(text[:1])
			d.column, text = d.column+1, text[1:]
		}
	}
	return len(p), nil
}

// put overwrites the character at the cursor. If the line of the cursor is missing, put first adds an empty line.
func (d *display) put(character string) {
	if d.row == len(d.lines) {
		d.lines = append(d.lines, "")
	}
	line := d.lines[d.row]
	d.lines[d.row] = line[:d.column] + character + line[min(d.column+len(character), len(line)):]
}

// shown returns the lines above the cursor. It fails the test if there is text below the cursor.
func (d *display) shown(t *testing.T) []string {
	t.Helper()
	if below := strings.Join(d.lines[d.row:], ""); below != "" {
		t.Errorf("%q is left below the cursor", below)
	}
	return d.lines[:d.row]
}

func scanned(text string, up *int) bool {
	n, err := fmt.Sscanf(text, "\x1b[%dA", up)
	return n == 1 && err == nil
}

func TestScreen_RedrawsItsLinesBelowWrittenText(t *testing.T) {
	t.Parallel()
	d := &display{}
	s := NewScreen(d, func() (int, int) { return 6, 4 })
	expect := func(want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, d.shown(t)); diff != "" {
			t.Errorf("terminal shows (-want +got):\n%s", diff)
		}
	}
	write := func(line string) {
		t.Helper()
		if n, err := s.Write([]byte(line)); n != len(line) || err != nil {
			t.Errorf("Write: %d, %v", n, err)
		}
	}
	write("before\n")
	expect("before")
	s.Show([]string{"a", "b"})
	expect("before", "a", "b")
	s.Show([]string{"c too long", "d", "e", "beyond the last row"})
	expect("before", "c too ", "d", "e")
	write("log\n")
	expect("before", "log", "c too ", "d", "e")
	s.Show([]string{"f"})
	expect("before", "log", "f")
	s.Close()
	s.Close()
	expect("before", "log")
	s.Show([]string{"nothing"})
	write("after\n")
	expect("before", "log", "after")
}

func TestScreen_TerminalBecomesNarrower_LeavesNoStaleRows(t *testing.T) {
	t.Parallel()
	d := &display{}
	columns := 10
	s := NewScreen(d, func() (int, int) { return columns, 8 })
	if _, err := s.Write([]byte("before\n")); err != nil {
		t.Fatal(err)
	}
	s.Show([]string{"0123456789", "short"})
	columns = 4
	d.reflow(columns)
	s.Show([]string{"0123456789", "short"})
	if diff := cmp.Diff([]string{"befo", "re", "0123", "shor"}, d.shown(t)); diff != "" {
		t.Errorf("terminal shows (-want +got):\n%s", diff)
	}
	s.Close()
	if diff := cmp.Diff([]string{"befo", "re"}, d.shown(t)); diff != "" {
		t.Errorf("terminal shows (-want +got):\n%s", diff)
	}
}

// reflow wraps the lines at a new width, as a terminal does when it is resized.
func (d *display) reflow(columns int) {
	var wrapped []string
	for _, line := range d.lines {
		for len(line) > columns {
			wrapped, line = append(wrapped, line[:columns]), line[columns:]
		}
		wrapped = append(wrapped, line)
	}
	d.lines, d.row = wrapped, len(wrapped)
}

func TestWrap_BreaksBetweenWords(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"":                   {""},
		"one two three four": {"one two", "three four"},
		"überlangesWort x":   {"überlangesWort", "x"},
		"twelve chars":       {"twelve chars"},
	} {
		if diff := cmp.Diff(want, Wrap(text, 12)); diff != "" {
			t.Errorf("Wrap(%q) (-want +got):\n%s", text, diff)
		}
	}
}
