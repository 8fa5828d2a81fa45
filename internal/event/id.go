package event

import (
	"crypto/rand"
	"encoding/base32"
	"strconv"
	"strings"
)

// RunLength is the number of characters of a run.
const RunLength = 13 // ceil(64 bits / 5 bits a character)

// MaxSeq bounds the sequence numbers of a run's partition; an identifier beyond it is a stranger's.
const MaxSeq = 1<<40 - 1

// runEncoding is base32 in the lower-case "extended hex" alphabet: sorts as the bytes do, and has no dash.
var runEncoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// ID is the identifier of an event that this system generated, written <run>-<partition>-<seq>.
// Run is drawn anew at each start of a generator process; Seq counts from 0 without gaps inside
// (Run, Partition), which is what lets one bit per event tell whether it took effect.
type ID struct {
	Run       string
	Partition int
	Seq       int64
}

// NewRun draws a run: 64 random bits in RunLength characters of [0-9a-v].
func NewRun() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never returns an error
	return runEncoding.EncodeToString(b[:])
}

// String returns the identifier as it stands in events and messages.
func (id ID) String() string { return string(id.Append(make([]byte, 0, RunLength+16))) }

// Append appends the identifier's text to b.
func (id ID) Append(b []byte) []byte {
	b = append(b, id.Run...)
	b = append(b, '-')
	b = strconv.AppendInt(b, int64(id.Partition), 10)
	b = append(b, '-')
	return strconv.AppendInt(b, id.Seq, 10)
}

// ParseID reads an identifier in its canonical form. It reports false for any other text:
// such an event came from a stranger, which is not an error.
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

// parseCanonical reads a decimal number in [0, limit] that has no sign and no leading zero, so that
// each identifier has exactly one text.
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
