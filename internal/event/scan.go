package event

import "bytes"

// scan quickly finds the required fields of a simple body: an object of distinct, known fields without escapes.
// Otherwise, it returns false. The returned texts are slices of body, and are not validated.
func (s *shape) scan(body []byte) (texts, bool) {
	if bytes.IndexByte(body, '\\') >= 0 {
		return texts{}, false
	}
	var (
		t       texts
		derived [2]bool
		in      = scanner{rest: body}
	)
	if !in.accept('{') {
		return texts{}, false
	}
	for next := 0; ; next++ {
		name, ok := in.str()
		if !ok || !in.accept(':') {
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
		if in.accept(',') {
			continue
		}
		return t, in.accept('}') && in.atEnd()
	}
}

// index returns the index of name in fields, or -1 if fields does not contain name. It looks at the expected index
// first.
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

// scanner reads JSON tokens. Each method skips white space first. After a method has returned false, the scanner must
// not be used.
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

// accept reports whether the next character is c. If so, accept consumes it.
func (in *scanner) accept(c byte) bool {
	if len(in.rest) == 0 || in.rest[0] != c {
		if in.skipSpace(); len(in.rest) == 0 || in.rest[0] != c {
			return false
		}
	}
	in.rest = in.rest[1:]
	return true
}

// str consumes a string without escapes and returns the bytes between its quotes. An empty string gives an empty
// slice, because nil stands for a missing field.
func (in *scanner) str() ([]byte, bool) {
	if !in.accept('"') {
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

// scalar consumes a string of printable ASCII characters without escapes, or a number. It does not support exponents.
func (in *scanner) scalar() bool {
	if text, ok := in.str(); ok {
		return unprintable(text) < 0
	}
	n := numberLength(in.rest)
	in.rest = in.rest[n:]
	return n > 0
}

// atEnd reports whether only white space is left.
func (in *scanner) atEnd() bool {
	in.skipSpace()
	return len(in.rest) == 0
}

// numberLength returns the length of the number at the beginning of b, without its exponent, or 0 if there is no
// number.
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
