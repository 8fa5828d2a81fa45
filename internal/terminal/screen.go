package terminal

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode/utf8"
)

// Width returns the number of columns of a line, not counting ANSI sequences. It assumes that every character is
// one column wide.
func Width(s string) int {
	n := 0
	for s != "" {
		if rest, ok := cutSequence(s); ok {
			s = rest
			continue
		}
		_, size := utf8.DecodeRuneInString(s)
		s = s[size:]
		n++
	}
	return n
}

// Truncate shortens a line to at most the given number of columns. It keeps all ANSI sequences.
func Truncate(s string, columns int) string {
	var b strings.Builder
	n := 0
	for s != "" {
		if rest, ok := cutSequence(s); ok {
			b.WriteString(s[:len(s)-len(rest)])
			s = rest
			continue
		}
		_, size := utf8.DecodeRuneInString(s)
		if n < columns {
			b.WriteString(s[:size])
			n++
		}
		s = s[size:]
	}
	return b.String()
}

// cutSequence removes an ANSI color sequence from the start of s, and reports whether there was one.
func cutSequence(s string) (rest string, found bool) {
	if !strings.HasPrefix(s, "\x1b[") {
		return s, false
	}
	_, rest, found = strings.Cut(s, "m")
	return rest, found
}

// Wrap breaks a text between words into lines of at most the given number of columns. A longer word gets a line by
// itself.
func Wrap(s string, columns int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(s) {
		switch {
		case line == "":
			line = word
		case Width(line)+1+Width(word) <= columns:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	return append(lines, line)
}

// PadLeft adds spaces on the left until a text has the given number of columns.
func PadLeft(s string, columns int) string {
	return strings.Repeat(" ", max(columns-Width(s), 0)) + s
}

// PadRight adds spaces on the right until a text has the given number of columns.
func PadRight(s string, columns int) string {
	return s + strings.Repeat(" ", max(columns-Width(s), 0))
}

// These ANSI sequences clear from the cursor to the end of the row, or of the screen.
const (
	clearRight = "\x1b[K"
	clearBelow = "\x1b[J"
)

// Screen redraws a few lines in place at the bottom of a terminal. Text written to the Screen appears above these
// lines. Screen is safe for concurrent use.
type Screen struct {
	out  io.Writer
	size func() (columns, rows int)

	mu     sync.Mutex
	lines  []string // the lines that are currently on the terminal
	widths []int    // the width of each shown line, after truncation
	closed bool
}

// NewScreen returns a screen without lines. The screen calls the function size at each redraw.
func NewScreen(out io.Writer, size func() (columns, rows int)) *Screen {
	return &Screen{out: out, size: size}
}

// Size returns the columns and rows that are available for lines. It excludes the last row of the terminal, which
// the cursor needs.
func (s *Screen) Size() (columns, rows int) {
	columns, rows = s.size()
	return columns, max(rows-1, 1)
}

// Show replaces the lines. It truncates lines that are too wide, and drops lines that do not fit on the terminal.
func (s *Screen) Show(lines []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.lines = lines
	s.redraw(nil)
}

// Write implements io.Writer. It prints p above the lines that the method Show has set. p must consist of whole lines.
func (s *Screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.lines) == 0 {
		return s.out.Write(p)
	}
	s.redraw(p)
	return len(p), nil
}

// Close removes the lines from the terminal. Later writes go directly to the terminal.
func (s *Screen) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	if len(s.widths) > 0 {
		columns, _ := s.size()
		rows := s.rows(columns)
		// Ignore errors. The program must not fail when the terminal fails.
		_, _ = io.WriteString(s.out, up(rows)+strings.Repeat(clearRight+"\n", rows)+up(rows))
	}
}

// redraw writes the given text, and the lines below it, in a single write to avoid flicker.
func (s *Screen) redraw(above []byte) {
	columns, rows := s.Size()
	var b strings.Builder
	b.WriteString(up(s.rows(columns)))
	// Clear each row separately: some terminals keep rows in their scrollback if all rows are cleared first.
	b.WriteString(strings.ReplaceAll(string(above), "\n", clearRight+"\n"))
	s.widths = s.widths[:0]
	for _, line := range s.lines[:min(len(s.lines), rows)] {
		cut := Truncate(line, columns)
		b.WriteString(cut + clearRight + "\n")
		s.widths = append(s.widths, Width(cut))
	}
	b.WriteString(clearBelow)
	_, _ = io.WriteString(s.out, b.String())
}

// rows returns the number of terminal rows that the shown lines occupy. A line occupies several rows if the terminal
// has become narrower since it was shown.
func (s *Screen) rows(columns int) int {
	rows := 0
	for _, width := range s.widths {
		rows += max(1, (width+columns-1)/columns)
	}
	return rows
}

// up returns the ANSI sequence that moves the cursor up by the given number of rows, to the start of the row.
func up(rows int) string {
	if rows == 0 {
		return "\r"
	}
	return fmt.Sprintf("\r\x1b[%dA", rows)
}
