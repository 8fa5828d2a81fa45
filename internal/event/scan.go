package event

import "bytes"

// scan finds the fields of a body that is written plainly: one object of known fields, none of them
// twice, without escapes. It reports false for anything else, valid or not. The texts it returns are parts
// of body; whether they are characters that a string may have is for interpret to find out.
func (s *shape) scan(body []byte) (texts, bool) {
	if bytes.IndexByte(body, '\\') >= 0 {
		return texts{}, false
	}
	var (
		t       texts
		derived [2]bool
		in      = scanner{rest: body}
	)
	if !in.take('{') {
		return texts{}, false
	}
	for next := 0; ; next++ {
		name, ok := in.str()
		if !ok || !in.take(':') {
			return texts{}, false
		}
		if i := index(s.fields, name, next); i >= 0 {
			text, ok := in.str()
			if !ok || t[i] != nil {
				return texts{}, false
			}
			t[i] = text
		} else {
			i := index(s.derived, name, next-len(s.fields))
			if i < 0 || derived[i] || !in.scalar() {
				return texts{}, false
			}
			derived[i] = true
		}
		if in.take(',') {
			continue
		}
		return t, in.take('}') && in.atEnd()
	}
}

// index finds name in fields, looking first where it is expected; -1 if it is not there.
func index(fields []string, name []byte, expected int) int {
	if expected >= 0 && expected < len(fields) && fields[expected] == string(name) {
		return expected
	}
	for i, field := range fields {
		if field == string(name) {
			return i
		}
	}
	return -1
}

// scanner reads tokens from the front of rest. Each method passes over white space first; after it has
// reported false, what was taken is not defined.
type scanner struct{ rest []byte }

func (in *scanner) skipSpace() {
	for i, c := range in.rest {
		if c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			in.rest = in.rest[i:]
			return
		}
	}
	in.rest = nil
}

// take takes the character c.
func (in *scanner) take(c byte) bool {
	if len(in.rest) == 0 || in.rest[0] != c {
		if in.skipSpace(); len(in.rest) == 0 || in.rest[0] != c {
			return false
		}
	}
	in.rest = in.rest[1:]
	return true
}

// str takes a string without escapes and returns what is between its quotes, which is never nil.
func (in *scanner) str() ([]byte, bool) {
	if !in.take('"') {
		return nil, false
	}
	end := bytes.IndexByte(in.rest, '"')
	if end < 0 {
		return nil, false
	}
	text := in.rest[:end]
	in.rest = in.rest[end+1:]
	return text, true
}

// scalar takes a string of printable ASCII, or a number without exponent.
func (in *scanner) scalar() bool {
	if text, ok := in.str(); ok {
		return unprintable(text) < 0
	}
	n := numberLength(in.rest)
	in.rest = in.rest[n:]
	return n > 0
}

// atEnd reports whether nothing but white space is left.
func (in *scanner) atEnd() bool {
	in.skipSpace()
	return len(in.rest) == 0
}

// numberLength returns the length of the number without exponent at the front of b, 0 if there is none.
func numberLength(b []byte) int {
	sign := 0
	if len(b) > 0 && b[0] == '-' {
		sign = 1
	}
	whole := countDigits(b[sign:])
	if whole == 0 || (whole > 1 && b[sign] == '0') {
		return 0
	}
	n := sign + whole
	if n == len(b) || b[n] != '.' {
		return n
	}
	fraction := countDigits(b[n+1:])
	if fraction == 0 {
		return 0
	}
	return n + 1 + fraction
}

func countDigits(b []byte) int {
	for i, c := range b {
		if c < '0' || c > '9' {
			return i
		}
	}
	return len(b)
}
