package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of what is accepted from strangers. They keep keys, rows and logs small whoever publishes.
const (
	// MaxBodyBytes bounds an event or a summary on the wire; a full one takes less than 1 KiB, so that
	// there is room for fields that this system does not know.
	MaxBodyBytes = 64 << 10
	// MaxIDBytes bounds an identifier: a SHA-512 in hexadecimal just fits, a UUID and this system's own
	// identifiers take less than a third.
	MaxIDBytes = 128
	// MaxPlateBytes bounds a plate: real ones have up to ten characters or so, of up to three bytes each
	// in the scripts in use.
	MaxPlateBytes = 32
)

// SyntaxError says why a body is not the event or summary that it should be. Such a body never will
// be, so processing it again is of no use.
type SyntaxError struct {
	// Kind is "entry event", "exit event" or "summary".
	Kind string
	// Field is the JSON field at fault, empty when it is the body as a whole.
	Field string
	// Detail says what is wrong with it.
	Detail string
}

// Error names the kind, the field if there is one, and what is wrong with it.
func (e *SyntaxError) Error() string {
	if e.Field == "" {
		return e.Kind + ": " + e.Detail
	}
	return e.Kind + ": field " + e.Field + ": " + e.Detail
}

// The names of the fields on the wire.
const (
	fieldID              = "id"
	fieldPlate           = "vehicle_plate"
	fieldEntryAt         = "entry_date_time"
	fieldExitAt          = "exit_date_time"
	fieldDuration        = "duration"
	fieldDurationSeconds = "duration_seconds"
)

// AppendEntry appends the entry's wire format, as encoding/json would write it, to b:
//
//	{"id":"…","vehicle_plate":"…","entry_date_time":"2006-01-02T15:04:05.999999999Z"}
//
// The instant is written in UTC; it must lie in the years 0 to 9999.
func AppendEntry(b []byte, e Entry) []byte {
	b = appendHead(b, e.ID, e.Plate)
	b = appendInstant(b, fieldEntryAt, e.At)
	return append(b, '}')
}

// AppendExit appends the exit's wire format to b. It differs from an entry's in the field
// exit_date_time.
func AppendExit(b []byte, e Exit) []byte {
	b = appendHead(b, e.ID, e.Plate)
	b = appendInstant(b, fieldExitAt, e.At)
	return append(b, '}')
}

// AppendSummary appends the summary's wire format to b: both instants, the length of the visit as a Go
// duration string in the field duration, and in seconds, exactly, in the field duration_seconds.
func AppendSummary(b []byte, s Summary) []byte {
	b = appendHead(b, s.ID, s.Plate)
	b = appendInstant(b, fieldEntryAt, s.EntryAt)
	b = appendInstant(b, fieldExitAt, s.ExitAt)
	d := s.Duration()
	b = append(b, `,"`+fieldDuration+`":"`...)
	b = append(b, d.String()...)
	b = append(b, `","`+fieldDurationSeconds+`":`...)
	b = appendSeconds(b, d)
	return append(b, '}')
}

func appendHead(b []byte, id, plate string) []byte {
	b = append(b, `{"`+fieldID+`":`...)
	b = AppendString(b, id)
	b = append(b, `,"`+fieldPlate+`":`...)
	return AppendString(b, plate)
}

func appendInstant(b []byte, field string, t time.Time) []byte {
	b = append(b, ',', '"')
	b = append(b, field...)
	b = append(b, '"', ':', '"')
	b = t.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, '"')
}

// AppendString appends s as a JSON string to b, leaving everything that takes escaping to encoding/json.
func AppendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(s) // a string is always marshalled
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// appendSeconds appends d in seconds as a decimal number without trailing zeros.
func appendSeconds(b []byte, d time.Duration) []byte {
	seconds, nanos := int64(d/time.Second), int64(d%time.Second)
	if d < 0 {
		b = append(b, '-')
		seconds, nanos = -seconds, -nanos
	}
	b = strconv.AppendInt(b, seconds, 10)
	if nanos == 0 {
		return b
	}
	b = append(b, '.')
	for unit := int64(time.Second / 10); nanos > 0; unit /= 10 {
		b = append(b, byte('0'+nanos/unit))
		nanos %= unit
	}
	return b
}

// ParseEntry reads an entry event from its wire format. The fields may stand in any order, unknown ones
// are passed over, the last of several with the same name counts, and names are matched exactly. The
// instant is any that RFC 3339 permits, with any offset from UTC, and is returned in UTC; a leap second
// becomes the second that follows it. The error is a *SyntaxError. Nothing that is returned refers to body.
func ParseEntry(body []byte) (Entry, error) {
	v, err := entryShape.parse(body)
	return Entry{ID: v.id, Plate: v.plate, At: v.entryAt}, err
}

// ParseExit reads an exit event as ParseEntry reads an entry event.
func ParseExit(body []byte) (Exit, error) {
	v, err := exitShape.parse(body)
	return Exit{ID: v.id, Plate: v.plate, At: v.exitAt}, err
}

// ParseSummary reads a summary as ParseEntry reads an entry event. The exit must not precede the entry.
// The duration fields follow from the instants: they may be absent, and their values are not looked at.
func ParseSummary(body []byte) (Summary, error) {
	v, err := summaryShape.parse(body)
	if err == nil && v.exitAt.Before(v.entryAt) {
		err = &SyntaxError{Kind: summaryShape.kind, Field: fieldExitAt, Detail: "is before " + fieldEntryAt}
	}
	if err != nil {
		return Summary{}, err
	}
	return Summary{ID: v.id, Plate: v.plate, EntryAt: v.entryAt, ExitAt: v.exitAt}, nil
}

// shape is what the parser knows of one kind of body.
type shape struct {
	kind string
	// fields are the required fields, all of them strings, in the order in which they are written.
	fields []string
	// derived are optional fields that are written but not read.
	derived []string
}

// The shapes are constant tables.
var (
	entryShape   = shape{kind: "entry event", fields: []string{fieldID, fieldPlate, fieldEntryAt}}
	exitShape    = shape{kind: "exit event", fields: []string{fieldID, fieldPlate, fieldExitAt}}
	summaryShape = shape{
		kind:    "summary",
		fields:  []string{fieldID, fieldPlate, fieldEntryAt, fieldExitAt},
		derived: []string{fieldDuration, fieldDurationSeconds},
	}
)

// maxFields is the largest number of required fields of a shape.
const maxFields = 4

// values are the contents of a body.
type values struct {
	id, plate       string
	entryAt, exitAt time.Time
}

// texts are the contents of the required fields, by their position in shape.fields; nil if absent.
type texts [maxFields][]byte

// parse reads a body: by scanning it once if it is written plainly, as nearly all are, and through
// encoding/json otherwise. What scanning is not sure of, or finds at fault, is left to encoding/json, so
// that there is one judge of what is accepted and of what is said of the rest.
func (s *shape) parse(body []byte) (values, error) {
	if len(body) > MaxBodyBytes {
		return values{}, s.errorf("", "%d bytes are more than the %d that it may have", len(body), MaxBodyBytes)
	}
	if t, ok := s.scan(body); ok {
		if v, err := s.interpret(t); err == nil {
			return v, nil
		}
	}
	t, err := s.decode(body)
	if err != nil {
		return values{}, err
	}
	return s.interpret(t)
}

// interpret checks the texts and converts them.
func (s *shape) interpret(t texts) (values, error) {
	var v values
	for i, field := range s.fields {
		text := t[i]
		if text == nil {
			return values{}, s.errorf(field, "missing")
		}
		var err error
		switch field {
		case fieldID:
			v.id, err = s.name(field, text, MaxIDBytes)
		case fieldPlate:
			v.plate, err = s.name(field, text, MaxPlateBytes)
		case fieldEntryAt:
			v.entryAt, err = s.instant(field, text)
		case fieldExitAt:
			v.exitAt, err = s.instant(field, text)
		}
		if err != nil {
			return values{}, err
		}
	}
	return v, nil
}

// name checks an identifier or a plate.
func (s *shape) name(field string, text []byte, limit int) (string, error) {
	switch {
	case len(text) == 0:
		return "", s.errorf(field, "empty")
	case len(text) > limit:
		return "", s.errorf(field, "%d bytes are more than the %d that it may have", len(text), limit)
	}
	if i := unprintable(text); i >= 0 {
		if fault := faultyRune(text[i:]); fault != "" {
			return "", s.errorf(field, "%s", fault)
		}
	}
	return string(text), nil
}

// unprintable returns the index of the first byte that is not printable ASCII, -1 if there is none.
func unprintable(text []byte) int {
	for i, c := range text {
		if c < ' ' || c > '~' {
			return i
		}
	}
	return -1
}

// faultyRune says what is wrong with the first rune of a text that may not be in a name.
func faultyRune(text []byte) string {
	for _, r := range string(text) {
		switch {
		case unicode.IsControl(r):
			return fmt.Sprintf("contains the control character %U", r)
		case r == utf8.RuneError: // what encoding/json makes of half a surrogate pair: which one, nobody can tell
			return "contains U+FFFD, the mark of damaged text"
		}
	}
	return ""
}

// instant parses an RFC 3339 date and time and returns it in UTC.
func (s *shape) instant(field string, text []byte) (time.Time, error) {
	t, ok := parseInstant(text)
	if !ok {
		t, ok = parseUnusualInstant(text)
	}
	if !ok {
		return time.Time{}, s.errorf(field, "%s is not a date and time of RFC 3339 such as 2006-01-02T15:04:05.999999999Z", excerpt(text))
	}
	if year := t.Year(); year < 0 || year > 9999 {
		return time.Time{}, s.errorf(field, "%s is outside of the years 0 to 9999 in UTC", excerpt(text))
	}
	return t, nil
}

// parseInstant parses what package time can parse: upper-case T and Z, and seconds up to 59.
func parseInstant(text []byte) (time.Time, bool) {
	var t time.Time
	if err := t.UnmarshalText(text); err != nil || !isRFC3339(text) {
		return time.Time{}, false
	}
	return t.UTC(), true
}

// parseUnusualInstant parses what RFC 3339 permits and package time does not: t and z in lower case, and a
// leap second. As in Unix time, a leap second is the same instant as the second that follows it, so the
// result is the first second of a month.
func parseUnusualInstant(text []byte) (time.Time, bool) {
	const second = len("2006-01-02T15:04:")
	text = bytes.ToUpper(text)
	if len(text) < second+len("05Z") || string(text[second:second+2]) != "60" {
		return parseInstant(text)
	}
	copy(text[second:], "59")
	t, ok := parseInstant(text)
	t = t.Add(time.Second)
	return t, ok && t.Day() == 1 && t.Hour() == 0 && t.Minute() == 0 && t.Second() == 0
}

// isRFC3339 refuses what package time lets pass beyond RFC 3339: an hour of one digit, a comma before the
// fraction, an offset of a day or more. Text is one that package time accepts.
func isRFC3339(text []byte) bool {
	const hour, fraction = len("2006-01-02T"), len("2006-01-02T15:04:05")
	if text[hour+1] == ':' || text[fraction] == ',' {
		return false
	}
	if text[len(text)-1] == 'Z' {
		return true
	}
	offset := text[len(text)-len("15:04"):]
	return string(offset[:2]) < "24" && string(offset[3:]) < "60"
}

func (s *shape) errorf(field, format string, args ...any) *SyntaxError {
	return &SyntaxError{Kind: s.kind, Field: field, Detail: fmt.Sprintf(format, args...)}
}

// excerpt quotes the beginning of a text for an error.
func excerpt(text []byte) string {
	const limit = 48
	if len(text) > limit {
		return strconv.QuoteToASCII(string(text[:limit])) + "…"
	}
	return strconv.QuoteToASCII(string(text))
}

// decode finds the fields of any body by means of encoding/json.
func (s *shape) decode(body []byte) (texts, error) {
	if !utf8.Valid(body) { // encoding/json would silently replace what is not
		return texts{}, s.errorf("", "not valid UTF-8")
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return texts{}, s.errorf("", "%s", describe(err))
	}
	if members == nil {
		return texts{}, s.errorf("", "null is not a JSON object")
	}
	var t texts
	for i, field := range s.fields {
		raw, present := members[field]
		if !present {
			continue
		}
		text, err := s.decodeString(field, raw)
		if err != nil {
			return texts{}, err
		}
		t[i] = []byte(text)
	}
	return t, nil
}

func (s *shape) decodeString(field string, raw json.RawMessage) (string, error) {
	if raw[0] != '"' {
		return "", s.errorf(field, "%s is not a string", typeName(raw[0]))
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return "", s.errorf(field, "%s", describe(err))
	}
	return text, nil
}

// describe says what encoding/json found wrong with a body.
func describe(err error) string {
	var (
		syntax *json.SyntaxError
		typing *json.UnmarshalTypeError
	)
	switch {
	case errors.As(err, &syntax):
		return fmt.Sprintf("not valid JSON at byte %d: %v", syntax.Offset, err)
	case errors.As(err, &typing):
		return fmt.Sprintf("a JSON %s is not an object", typing.Value)
	}
	return fmt.Sprintf("not valid JSON: %v", err)
}

// typeName names the type of the JSON value that starts with c.
func typeName(c byte) string {
	switch c {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}
