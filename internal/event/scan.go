package event

// scan finds the fields of a body that is written plainly: one object of known fields, none of them
// twice, whose strings are printable ASCII without escapes. It reports false for anything else, valid or
// not. The texts it returns are parts of body.
func (s *shape) scan(body []byte) (texts, bool) {
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

// scanner reads tokens from the front of rest. Each method passes over white space first, and takes
// nothing more than that when it reports false.
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

// str takes a plain string and returns what is between its quotes, which is never nil.
func (in *scanner) str() ([]byte, bool) {
	in.skipSpace()
	if len(in.rest) == 0 || in.rest[0] != '"' {
		return nil, false
	}
	for i, c := range in.rest[1:] {
		if c == '"' {
			text := in.rest[1 : 1+i]
			in.rest = in.rest[i+2:]
			return text, true
		}
		if !isPlain(c) {
			break
		}
	}
	return nil, false
}

// scalar takes a plain string, or a number without exponent.
func (in *scanner) scalar() bool {
	if _, ok := in.str(); ok {
		return true
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

// isPlain reports whether c stands for itself inside a JSON string and is printable ASCII.
func isPlain(c byte) bool { return c >= ' ' && c <= '~' && c != '"' && c != '\\' }
