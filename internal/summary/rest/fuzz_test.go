package rest

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/summary"
)

func FuzzDecodeBulk_BodyOfManyLines_DecodesLikeItsSingleLines(f *testing.F) {
	for _, seed := range []string{
		"", "\n", "\r\n \t\n", visitA, visitA + "\n", visitA + "\r\n" + visitB, visitA + "\n\n" + otherA + "\n{\"id\":\n",
		"1\n2\n3\n4\n5\n6\n7\n8\n9\n", `{"id":"x"}`, "\xff\n" + visitB, "\x00", visitA + visitB,
		`{"id":"\"ü\"","vehicle_plate":"京都","entry_date_time":"0000-01-01T00:00:00Z","exit_date_time":"9999-12-31T23:59:59.999999999Z"}`,
		strings.Repeat(visitB+"\n", 9),
	} {
		f.Add([]byte(seed))
	}
	const maxLines = 8
	f.Fuzz(func(t *testing.T, body []byte) {
		var lines [][]byte
		for line := range bytes.SplitSeq(body, []byte("\n")) {
			if len(bytes.Trim(line, " \t\r")) > 0 {
				lines = append(lines, line)
			}
		}
		b, err := decodeBulk(body, maxLines)
		if refused := len(lines) == 0 || len(lines) > maxLines; refused != (err != nil) {
			t.Fatalf("%d lines have error %v", len(lines), err)
		}
		if err != nil {
			return
		}
		outcomes := make([]summary.Outcome, len(b.summaries))
		for i := range outcomes {
			outcomes[i] = summary.Created
		}
		answers := bytes.Split(bytes.TrimSuffix(b.appendAnswer(nil, outcomes), []byte("\n")), []byte("\n"))
		if len(answers) != len(lines) {
			t.Fatalf("%d lines have %d answers", len(lines), len(answers))
		}
		stored := b.summaries
		for i, line := range lines {
			var got struct {
				ID     string
				Status int
				Detail string
			}
			if err := json.Unmarshal(answers[i], &got); err != nil {
				t.Fatalf("answer %s: %v", answers[i], err)
			}
			want, err := decode(line)
			if err != nil {
				if p := asProblem(err); got.Status != p.Status || got.Detail == "" || len(got.Detail) > summary.MaxDetail {
					t.Fatalf("line %q is answered %s, want %v", line, answers[i], p)
				}
				continue
			}
			if got.Status != 201 || got.ID != want.ID || stored[0] != want || summary.Validate(stored[0]) != nil {
				t.Fatalf("line %q is answered %s and stored as %v", line, answers[i], stored[0])
			}
			again, err := event.ParseSummary(event.AppendSummary(nil, stored[0]))
			if err != nil || again != stored[0] {
				t.Fatalf("%v comes back as %v: %v", stored[0], again, err)
			}
			stored = stored[1:]
		}
	})
}

func FuzzParseQuery_AcceptedQuery_IsWithinTheDocumentedLimits(f *testing.F) {
	for _, seed := range []string{
		"", "plate=P-1&limit=3", "from=2026-03-01T08:00:00Z&to=2026-03-01T08:00:00%2B01:00", "limit=0", "cursor=AQAAAAAAAAABAAAAAAAAAAE", "a;b", "%", "limit=+7",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := parseQuery(raw)
		if err != nil {
			if p := asProblem(err); p.Status != 400 || p.Detail == "" {
				t.Fatalf("error is %v, want a problem with status 400", err)
			}
			return
		}
		if q.Limit < 1 || q.Limit > maxLimit || len(q.Plate) > event.MaxPlateBytes || q.After.Seq < 0 {
			t.Fatalf("%q is accepted as %+v", raw, q)
		}
		if !q.After.IsZero() {
			if again, err := parseCursor(formatCursor(q.After)); err != nil || again != q.After {
				t.Fatalf("cursor of %+v comes back as %+v: %v", q.After, again, err)
			}
		}
	})
}
