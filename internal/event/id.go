package event

import (
	"crypto/rand"
	"encoding/base32"
	"strconv"
	"strings"
)

// RunLength is the number of characters in ID.Run.
const RunLength = 13 // 64 bits in characters of 5 bits, rounded up

// MaxSeq is the largest sequence number. An identifier with a larger number belongs to an external publisher.
const MaxSeq = 1<<40 - 1

// runEncoding is base32 with the "extended hex" alphabet in lower case. Encoded strings sort in the same order as
// the bytes, and contain no dash.
var runEncoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// ID is the identifier of a generated event, written <run>-<partition>-<seq>.
type ID struct {
	// Run is random. A generator draws a new Run each time it starts.
	Run       string
	Partition int
	// Seq counts the events with the same Run and Partition from 0.
	Seq int64
}

// NewRun returns a random value for ID.Run: 64 bits, written as RunLength characters of [0-9a-v].
func NewRun() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never returns an error
	return runEncoding.EncodeToString(b[:])
}

// String returns the identifier as text, in the form used in events and messages.
func (id ID) String() string { return string(id.Append(make([]byte, 0, RunLength+16))) }

// Append appends the identifier as text to b.
func (id ID) Append(b []byte) []byte {
	b = append(b, id.Run...)
	b = append(b, '-')
	b = strconv.AppendInt(b, int64(id.Partition), 10)
	b = append(b, '-')
	return strconv.AppendInt(b, id.Seq, 10)
}

// ParseID parses the text that ID.String returns. It returns false for any other text, such as an identifier that an
// external publisher has chosen.
func ParseID(s string) (ID, bool) {
	if len(s) < RunLength+len("-0-0") || s[RunLength] != '-' || !isRun(s[:RunLength]) {
		return ID{}, false
	}
	partition, seq, found := strings.Cut(s[RunLength+1:], "-")
	if !found {
		return ID{}, false
	}
	p, ok := parseCanonical(partition, 1<<16-1)
	if !ok {
		return ID{}, false
	}
	q, ok := parseCanonical(seq, MaxSeq)
	if !ok {
		return ID{}, false
	}
	return ID{Run: s[:RunLength], Partition: int(p), Seq: q}, true
}

func isRun(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'v') {
			return false
		}
	}
	return true
}

// parseCanonical parses a decimal number from 0 to limit. It rejects signs and leading zeros, so that each
// identifier can be written in exactly one way.
func parseCanonical(s string, limit int64) (int64, bool) {
	if s == "" || len(s) > 13 || (s[0] == '0' && len(s) > 1) {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, n <= limit
}
