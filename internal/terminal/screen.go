package terminal

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode/utf8"
)

// Width is the number of columns that a line takes, ANSI sequences not counted. Every character is taken
// to be one column wide.
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

// Truncate cuts a line to a number of columns and keeps its ANSI sequences whole.
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

// cutSequence removes an ANSI color sequence from the beginning of s, if there is one.
func cutSequence(s string) (rest string, found bool) {
	if !strings.HasPrefix(s, "\x1b[") {
		return s, false
	}
	_, rest, found = strings.Cut(s, "m")
	return rest, found
}

// Wrap breaks a text between words into lines of at most so many columns, or of one word.
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

// PadLeft and PadRight fill a text with blanks to a number of columns.
func PadLeft(s string, columns int) string {
	return strings.Repeat(" ", max(columns-Width(s), 0)) + s
}

// PadRight fills with blanks on the right.
func PadRight(s string, columns int) string {
	return s + strings.Repeat(" ", max(columns-Width(s), 0))
}

// clearRight and clearBelow clear the terminal from the cursor to the end of its row, and to its last row. Rows
// are overwritten one by one: some terminals keep a screen that is cleared from its top as if it had been
// scrolled away.
const (
	clearRight = "\x1b[K"
	clearBelow = "\x1b[J"
)

// Screen shows a few lines at the bottom of a terminal and refreshes them in place. What is written to it
// as an io.Writer, such as a log, appears above them. It is safe for concurrent use.
type Screen struct {
	out  io.Writer
	size func() (columns, rows int)

	mu     sync.Mutex
	lines  []string // what is shown
	widths []int    // of the lines as they were cut to be shown
	closed bool
}

// NewScreen returns a screen that shows nothing yet. It asks for the terminal's size at each refresh.
func NewScreen(out io.Writer, size func() (columns, rows int)) *Screen {
	return &Screen{out: out, size: size}
}

// Size returns the columns and rows that lines may take: the last row is the cursor's.
func (s *Screen) Size() (columns, rows int) {
	columns, rows = s.size()
	return columns, max(rows-1, 1)
}

// Show replaces the lines shown. Lines that do not fit are cut: at the right, and the last ones.
func (s *Screen) Show(lines []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.lines = lines
	s.redraw(nil)
}

// Write puts whole lines above those shown.
func (s *Screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.lines) == 0 {
		return s.out.Write(p)
	}
	s.redraw(p)
	return len(p), nil
}

// Close leaves the terminal without the lines, as if they had never been there. What is written later goes
// straight through.
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
		// Nothing is left to be done about a broken terminal.
		_, _ = io.WriteString(s.out, up(rows)+strings.Repeat(clearRight+"\n", rows)+up(rows))
	}
}

// redraw writes above and then the lines, in one write so that nothing flickers.
func (s *Screen) redraw(above []byte) {
	columns, rows := s.Size()
	var b strings.Builder
	b.WriteString(up(s.rows(columns)))
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

// rows is how many rows of the terminal the lines take that are shown. One that became narrower since has
// wrapped them.
func (s *Screen) rows(columns int) int {
	rows := 0
	for _, width := range s.widths {
		rows += max(1, (width+columns-1)/columns)
	}
	return rows
}

// up moves the cursor to the beginning of a row above.
func up(rows int) string {
	if rows == 0 {
		return "\r"
	}
	return fmt.Sprintf("\r\x1b[%dA", rows)
}
