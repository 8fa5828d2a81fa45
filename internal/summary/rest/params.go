package rest

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/summary"
)

// The query parameters for listing summaries.
const (
	paramPlate  = "plate"
	paramFrom   = "from"
	paramTo     = "to"
	paramLimit  = "limit"
	paramCursor = "cursor"
)

const (
	defaultLimit = 100
	maxLimit     = 1000
)

// parseQuery parses the query parameters for listing summaries. All its errors are of type *problem.
func parseQuery(raw string) (summary.Query, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return summary.Query{}, problemf(http.StatusBadRequest, "the query is not valid: %v", err)
	}
	q := summary.Query{Limit: defaultLimit}
	for name, given := range values {
		if len(given) != 1 {
			return summary.Query{}, problemf(http.StatusBadRequest, "parameter %.40q is given %d times", name, len(given))
		}
		if err := setParameter(&q, name, given[0]); err != nil {
			return summary.Query{}, problemf(http.StatusBadRequest, "parameter %.40q %v", name, err)
		}
	}
	return q, nil
}

func setParameter(q *summary.Query, name, value string) error {
	var err error
	switch name {
	case paramPlate:
		q.Plate, err = parsePlate(value)
	case paramFrom:
		q.From, err = parseInstant(value)
	case paramTo:
		q.To, err = parseInstant(value)
	case paramLimit:
		q.Limit, err = parseLimit(value)
	case paramCursor:
		q.After, err = parseCursor(value)
	default:
		known := []string{paramPlate, paramFrom, paramTo, paramLimit, paramCursor}
		slices.Sort(known)
		return fmt.Errorf("is unknown; use one of the parameters %s", strings.Join(known, ", "))
	}
	return err
}

func parsePlate(value string) (string, error) {
	if value == "" || len(value) > event.MaxPlateBytes {
		return "", fmt.Errorf("must have 1 to %d bytes", event.MaxPlateBytes)
	}
	return value, nil
}

// parseInstant parses a date and time. It adds a nanosecond to the zero time, which would mean "no bound" in a Query.
func parseInstant(value string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, value)
	if err != nil {
		return time.Time{}, errors.New("must be an RFC 3339 date and time such as 2006-01-02T15:04:05Z; encode + as %2B")
	}
	if t.IsZero() {
		t = t.Add(1)
	}
	return t, nil
}

func parseLimit(value string) (int, error) {
	limit, err := strconv.Atoi(value)
	if err != nil || limit < 1 || limit > maxLimit {
		return 0, fmt.Errorf("must be a number from 1 to %d", maxLimit)
	}
	return limit, nil
}

// cursorVersion is the first byte of a decoded cursor.
const cursorVersion = 1

// cursorLength is the length of a cursor in bytes, before the cursor is encoded in base64.
const cursorLength = 1 + 8 + 8

// formatCursor encodes a position as a cursor, with which clients get the next page of a list.
func formatCursor(p summary.Position) string {
	b := make([]byte, 0, cursorLength)
	b = append(b, cursorVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(p.ExitNanos))
	b = binary.BigEndian.AppendUint64(b, uint64(p.Seq))
	return base64.RawURLEncoding.EncodeToString(b)
}

func parseCursor(text string) (summary.Position, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != cursorLength || b[0] != cursorVersion {
		return summary.Position{}, errors.New("is not the next_cursor of an earlier response")
	}
	p := summary.Position{
		ExitNanos: int64(binary.BigEndian.Uint64(b[1:])),
		Seq:       int64(binary.BigEndian.Uint64(b[9:])),
	}
	if p.Seq < 1 {
		return summary.Position{}, errors.New("is not the next_cursor of an earlier response")
	}
	return p, nil
}
