// Package terminal formats output for people: numbers, colors, and a few lines that are redrawn in place. It uses only
// ANSI sequences that all terminals support.
package terminal

import (
	"os"

	"golang.org/x/term"
)

// Is reports whether f is a terminal.
func Is(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// CanRedraw reports whether f is a terminal that supports ANSI sequences.
func CanRedraw(f *os.File) bool { return Is(f) && os.Getenv("TERM") != "dumb" }

// Size returns the numbers of columns and rows of the terminal f. If they are unknown, it returns 80 and 24.
func Size(f *os.File) (columns, rows int) {
	columns, rows, err := term.GetSize(int(f.Fd()))
	if err != nil || columns < 1 || rows < 1 {
		return 80, 24
	}
	return columns, rows
}

// Palette adds colors to text. The zero value adds none.
type Palette struct {
	enabled bool
}

// PaletteFor returns a palette that adds colors if f is a terminal that supports them and the environment variable
// NO_COLOR is not set (https://no-color.org).
func PaletteFor(f *os.File) Palette {
	return Palette{enabled: CanRedraw(f) && os.Getenv("NO_COLOR") == ""}
}

// Good returns s in bold green.
func (p Palette) Good(s string) string { return p.paint("1;32", s) }

// Bad returns s in bold red.
func (p Palette) Bad(s string) string { return p.paint("1;31", s) }

// Warn returns s in yellow.
func (p Palette) Warn(s string) string { return p.paint("33", s) }

// Dim returns s in a faint color.
func (p Palette) Dim(s string) string { return p.paint("2", s) }

// Head returns s in bold.
func (p Palette) Head(s string) string { return p.paint("1", s) }

// GoodBanner returns s in reverse video and green.
func (p Palette) GoodBanner(s string) string { return p.paint("1;7;32", s) }

// BadBanner returns s in reverse video and red.
func (p Palette) BadBanner(s string) string { return p.paint("1;7;31", s) }

func (p Palette) paint(code, s string) string {
	if !p.enabled || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}
