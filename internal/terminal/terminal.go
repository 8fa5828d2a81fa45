// Package terminal shows things to people: numbers as they read them, color where it can be seen, and
// a picture that is refreshed in place. It knows a handful of ANSI sequences, which every terminal does.
package terminal

import (
	"os"

	"golang.org/x/term"
)

// Is reports whether f is a terminal.
func Is(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// CanRefresh reports whether f is a terminal that understands ANSI sequences.
func CanRefresh(f *os.File) bool { return Is(f) && os.Getenv("TERM") != "dumb" }

// Size returns the columns and rows of the terminal f, or those of an ordinary one if f does not say.
func Size(f *os.File) (columns, rows int) {
	columns, rows, err := term.GetSize(int(f.Fd()))
	if err != nil || columns < 1 || rows < 1 {
		return 80, 24
	}
	return columns, rows
}

// Palette colors text. The zero value leaves it as it is.
type Palette struct {
	enabled bool
}

// PaletteFor returns colors if f is a terminal that shows them and the user has not set NO_COLOR
// (https://no-color.org).
func PaletteFor(f *os.File) Palette {
	return Palette{enabled: CanRefresh(f) && os.Getenv("NO_COLOR") == ""}
}

// Good is what went well: bold green.
func (p Palette) Good(s string) string { return p.paint("1;32", s) }

// Bad is what went wrong: bold red.
func (p Palette) Bad(s string) string { return p.paint("1;31", s) }

// Warn is what deserves a look: yellow.
func (p Palette) Warn(s string) string { return p.paint("33", s) }

// Dim is what stands back: faint.
func (p Palette) Dim(s string) string { return p.paint("2", s) }

// Head is what stands out: bold.
func (p Palette) Head(s string) string { return p.paint("1", s) }

// GoodBanner is a verdict that went well: reversed green.
func (p Palette) GoodBanner(s string) string { return p.paint("1;7;32", s) }

// BadBanner is a verdict that went wrong: reversed red.
func (p Palette) BadBanner(s string) string { return p.paint("1;7;31", s) }

func (p Palette) paint(code, s string) string {
	if !p.enabled || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}
