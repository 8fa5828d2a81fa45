package redis

import (
	"fmt"
	"strconv"
	"time"
)

// An instant is encoded as 21 digits: 12 digits for the seconds since instantOrigin, and 9 digits for the nanoseconds.
// Because the width is fixed, Lua can compare instants as strings. Lua numbers would be inexact.
const (
	instantWidth  = 12 + 9
	instantOrigin = -100_000_000_000 // in Unix seconds: the year -1199
	instantEnd    = instantOrigin + 999_999_999_999
)

// appendInstant appends the encoded time t to b. It clamps times that are out of range.
func appendInstant(b []byte, t time.Time) []byte {
	sec, nano := t.Unix(), t.Nanosecond()
	switch {
	case sec < instantOrigin:
		sec, nano = instantOrigin, 0
	case sec > instantEnd:
		sec, nano = instantEnd, 999_999_999
	}
	b = appendDigits(b, uint64(sec-instantOrigin), 12)
	return appendDigits(b, uint64(nano), 9)
}

// appendDigits appends n to b, as a decimal number of exactly width digits with leading zeros. n must not have more
// digits.
func appendDigits(b []byte, n uint64, width int) []byte {
	start := len(b)
	b = append(b, "000000000000"[:width]...)
	for i := len(b) - 1; i >= start; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
	return b
}

func parseInstant(s string) (time.Time, error) {
	if len(s) != instantWidth {
		return time.Time{}, fmt.Errorf("the instant %q does not have %d digits", s, instantWidth)
	}
	sec, err := strconv.ParseUint(s[:12], 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("parse the seconds of the instant %q: %w", s, err)
	}
	nano, err := strconv.ParseUint(s[12:], 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("parse the nanoseconds of the instant %q: %w", s, err)
	}
	return time.Unix(int64(sec)+instantOrigin, int64(nano)).UTC(), nil
}
