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

// These limits apply to the events of every publisher. The limits keep keys, database rows and logs small.
const (
	// MaxBodyBytes is the maximum size of an encoded event or summary. This package writes less than 2 KiB, but other
	// publishers may add unknown fields.
	MaxBodyBytes = 64 << 10
	// MaxIDBytes is the maximum length of an identifier: that of a SHA-512 hash in hexadecimal digits.
	MaxIDBytes = 128
	// MaxPlateBytes is the maximum length of a plate in bytes. Real plates have about ten characters of up to three
	// bytes.
	MaxPlateBytes = 32
)

// SyntaxError says why a body is not a valid event or summary. Parsing the same body again gives the same error.
type SyntaxError struct {
	// Kind is "entry event", "exit event" or "summary".
	Kind string
	// Field is the name of the invalid JSON field. Field is empty if the body as a whole is invalid.
	Field string
	// Detail says why the field or the body is invalid.
	Detail string
}

// Error returns the kind, the field (unless it is empty) and the detail.
func (e *SyntaxError) Error() string {
	if e.Field == "" {
		return e.Kind + ": " + e.Detail
	}
	return e.Kind + ": field " + e.Field + ": " + e.Detail
}

// The names of the fields in JSON.
const (
	fieldID              = "id"
	fieldPlate           = "vehicle_plate"
	fieldEntryAt         = "entry_date_time"
	fieldExitAt          = "exit_date_time"
	fieldDuration        = "duration"
	fieldDurationSeconds = "duration_seconds"
)

// AppendEntry appends the wire format of an entry to b, exactly as encoding/json would write it:
//
//	{"id":"…","vehicle_plate":"…","entry_date_time":"2006-01-02T15:04:05.999999999Z"}
//
// The year of the instant in UTC must be from 0 to 9999.
func AppendEntry(b []byte, e Entry) []byte {
	b = appendHead(b, e.ID, e.Plate)
	b = appendInstant(b, fieldEntryAt, e.At)
	return append(b, '}')
}

// AppendExit appends the wire format of an exit to b. The format is the same as for an entry, except that the
// field exit_date_time replaces entry_date_time.
func AppendExit(b []byte, e Exit) []byte {
	b = appendHead(b, e.ID, e.Plate)
	b = appendInstant(b, fieldExitAt, e.At)
	return append(b, '}')
}

// AppendSummary appends the wire format of a summary to b. The length of the visit appears as a Go duration string and
// in exact seconds.
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

// AppendString appends s to b as a JSON string. It calls encoding/json for strings that need escaping.
func AppendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(s) // a string can always be marshaled
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

// ParseEntry parses an entry event. The error is a *SyntaxError. The result shares no memory with body.
//
//   - Field names are case-sensitive. Unknown fields are ignored. The last of several values for a name counts.
//   - The instant may have any form of RFC 3339. It is converted to UTC. A leap second becomes the next second.
func ParseEntry(body []byte) (Entry, error) {
	v, err := entryShape.parse(body)
	return Entry{ID: v.id, Plate: v.plate, At: v.entryAt}, err
}

// ParseExit parses an exit event. It follows the rules of ParseEntry.
func ParseExit(body []byte) (Exit, error) {
	v, err := exitShape.parse(body)
	return Exit{ID: v.id, Plate: v.plate, At: v.exitAt}, err
}

// ParseSummary parses a summary by the rules of ParseEntry. The exit must not be before the entry. The duration fields
// are optional, and their values are ignored.
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

// shape describes the fields of one kind of body: an entry event, an exit event or a summary.
type shape struct {
	kind string
	// fields contains the names of the required fields in wire order. All of their values are strings.
	fields []string
	// derived contains the names of the fields that the encoder computes and the parser ignores.
	derived []string
}

// entryShape, exitShape and summaryShape describe the wire formats. They are never modified.
var (
	entryShape   = shape{kind: "entry event", fields: []string{fieldID, fieldPlate, fieldEntryAt}}
	exitShape    = shape{kind: "exit event", fields: []string{fieldID, fieldPlate, fieldExitAt}}
	summaryShape = shape{
		kind:    "summary",
		fields:  []string{fieldID, fieldPlate, fieldEntryAt, fieldExitAt},
		derived: []string{fieldDuration, fieldDurationSeconds},
	}
)

const maxFields = 4

type values struct {
	id, plate       string
	entryAt, exitAt time.Time
}

// texts contains the raw values of the required fields of a body, in wire order. The value of a missing field is nil.
type texts [maxFields][]byte

// parse decodes a body. The method scan is fast, but does not support all bodies.
func (s *shape) parse(body []byte) (values, error) {
	if len(body) > MaxBodyBytes {
		return values{}, s.errorf("", "%d bytes are more than the maximum of %d", len(body), MaxBodyBytes)
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

// interpret converts the raw values to their types and validates them.
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

// name returns an identifier or a plate as a string. It returns an error if the value is invalid.
func (s *shape) name(field string, text []byte, limit int) (string, error) {
	switch {
	case len(text) == 0:
		return "", s.errorf(field, "empty")
	case len(text) > limit:
		return "", s.errorf(field, "%d bytes are more than the maximum of %d", len(text), limit)
	}
	if i := unprintable(text); i >= 0 {
		if fault := faultyRune(text[i:]); fault != "" {
			return "", s.errorf(field, "%s", fault)
		}
	}
	return string(text), nil
}

// unprintable returns the index of the first byte that is not a printable ASCII character. It returns -1 if all bytes
// are printable ASCII characters.
func unprintable(text []byte) int {
	for i, c := range text {
		if c < ' ' || c > '~' {
			return i
		}
	}
	return -1
}

// faultyRune describes the first character that is not allowed in an identifier or a plate. It returns "" if
// all characters are allowed.
func faultyRune(text []byte) string {
	for _, r := range string(text) {
		switch {
		case unicode.IsControl(r):
			return fmt.Sprintf("contains the control character %U", r)
		case r == utf8.RuneError: // U+FFFD may stand for an unpaired surrogate, which encoding/json has replaced
			return "contains U+FFFD, the replacement character for bytes that could not be decoded"
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

// parseInstant parses an instant in RFC 3339 format. Like package time, it rejects a lower-case t or z, and a leap
// second (:60).
func parseInstant(text []byte) (time.Time, bool) {
	var t time.Time
	if err := t.UnmarshalText(text); err != nil || !isRFC3339(text) {
		return time.Time{}, false
	}
	return t.UTC(), true
}

// parseUnusualInstant parses what RFC 3339 permits but package time rejects: lower-case t or z, and leap seconds.
func parseUnusualInstant(text []byte) (time.Time, bool) {
	const second = len("2006-01-02T15:04:")
	text = bytes.ToUpper(text)
	if len(text) < second+len("05Z") || string(text[second:second+2]) != "60" {
		return parseInstant(text)
	}
	// Like Unix time, treat a leap second as the first second of the next minute, which must begin a month in UTC.
	copy(text[second:], "59")
	t, ok := parseInstant(text)
	t = t.Add(time.Second)
	return t, ok && t.Day() == 1 && t.Hour() == 0 && t.Minute() == 0 && t.Second() == 0
}

// isRFC3339 reports whether a text that package time accepts follows RFC 3339. Package time also accepts one-digit
// hours, decimal commas, and offsets of 24 hours or 60 minutes.
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

func excerpt(text []byte) string {
	const limit = 48
	if len(text) > limit {
		return strconv.QuoteToASCII(string(text[:limit])) + "…"
	}
	return strconv.QuoteToASCII(string(text))
}

// decode finds the required fields of a body with encoding/json. It is slower than scan, but accepts every valid body.
func (s *shape) decode(body []byte) (texts, error) {
	if !utf8.Valid(body) { // encoding/json would silently replace invalid bytes
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

// describe returns the text for SyntaxError.Detail that describes an error of encoding/json.
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

// typeName returns the type of the JSON value whose first character is c.
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
