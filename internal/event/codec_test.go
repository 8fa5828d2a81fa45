package event_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/parking-operator/parking-operator/internal/event"
)

// noon is an instant whose fraction of a second has nine digits.
var noon = time.Date(2026, 5, 17, 12, 0, 0, 123456789, time.UTC)

const (
	noonText = "2026-05-17T12:00:00.123456789Z"
	entry    = `{"id":"0123456789abc-0-7","vehicle_plate":"ABC1234","entry_date_time":"` + noonText + `"}`
	exit     = `{"id":"0123456789abc-0-7","vehicle_plate":"ABC1234","exit_date_time":"` + noonText + `"}`
	summary  = `{"id":"0123456789abc-0-7","vehicle_plate":"ABC1234","entry_date_time":"2026-05-17T11:59:58Z",` +
		`"exit_date_time":"` + noonText + `","duration":"2.123456789s","duration_seconds":2.123456789}`
)

func TestCodec_EachKindOfBody_HasTheDocumentedFormat(t *testing.T) {
	t.Parallel()
	e := event.Entry{ID: "0123456789abc-0-7", Plate: "ABC1234", At: noon}
	s := event.Summary{ID: e.ID, Plate: e.Plate, EntryAt: noon.Add(-2*time.Second - 123456789), ExitAt: noon}

	check := func(name, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s is encoded as\n%s, want\n%s", name, got, want)
		}
	}
	check("an entry", string(event.AppendEntry(nil, e)), entry)
	check("an exit", string(event.AppendExit(nil, event.Exit(e))), exit)
	check("a summary", string(event.AppendSummary(nil, s)), summary)
	check("an entry after other bytes", string(event.AppendEntry([]byte("x"), e)), "x"+entry)

	gotEntry, err := event.ParseEntry([]byte(entry))
	checkParsed(t, gotEntry, e, err)
	gotExit, err := event.ParseExit([]byte(exit))
	checkParsed(t, gotExit, event.Exit(e), err)
	gotSummary, err := event.ParseSummary([]byte(summary))
	checkParsed(t, gotSummary, s, err)
}

func checkParsed[T any](t *testing.T, got, want T, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("parse: %v", err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("parsed (-want +got):\n%s", diff)
	}
}

func TestParseEntry_AcceptsValidBodies(t *testing.T) {
	t.Parallel()
	plain := event.Entry{ID: "1", Plate: "A", At: noon}
	tests := map[string]struct {
		body string
		want event.Entry
	}{
		"fields in another order":                    {`{"entry_date_time":"` + noonText + `","vehicle_plate":"A","id":"1"}`, plain},
		"white space between all tokens":             {"\r\n {\t\"id\" : \"1\" ,\n\"vehicle_plate\":\"A\" , \"entry_date_time\" : \"" + noonText + "\" } \n", plain},
		"unknown fields of every type":               {`{"a":null,"b":[1,{"id":2}],"c":{"id":"3"},"d":true,"e":-1.5e3,"id":"1","vehicle_plate":"A","entry_date_time":"` + noonText + `"}`, plain},
		"a repeated field, of which the last counts": {`{"id":5,"id":"0","id":"1","vehicle_plate":"A","entry_date_time":"` + noonText + `"}`, plain},
		"an escaped field name":                      {`{"\u0069d":"1","vehicle_plate":"A","entry_date_time":"` + noonText + `"}`, plain},
		"escapes in an identifier":                   {`{"id":"a\"b\\c\/é\u00e9\ud83d\ude97","vehicle_plate":"A","entry_date_time":"` + noonText + `"}`, event.Entry{ID: `a"b\c/éé🚗`, Plate: "A", At: noon}},
		"a plate in another script":                  {`{"id":"1","vehicle_plate":"品川 300 あ 12-34","entry_date_time":"` + noonText + `"}`, event.Entry{ID: "1", Plate: "品川 300 あ 12-34", At: noon}},
		"an offset ahead of UTC":                     {`{"id":"1","vehicle_plate":"A","entry_date_time":"2026-05-17T17:45:00.123456789+05:45"}`, plain},
		"an offset behind UTC":                       {`{"id":"1","vehicle_plate":"A","entry_date_time":"2026-05-17T09:00:00.123456789-03:00"}`, plain},
		"an instant without a fraction":              {`{"id":"1","vehicle_plate":"A","entry_date_time":"2026-05-17T12:00:00Z"}`, event.Entry{ID: "1", Plate: "A", At: noon.Truncate(time.Second)}},
		"an instant finer than a nanosecond":         {`{"id":"1","vehicle_plate":"A","entry_date_time":"2026-05-17T12:00:00.1234567899Z"}`, plain},
		"the first instant of year 0":                {`{"id":"1","vehicle_plate":"A","entry_date_time":"0000-01-01T00:00:00Z"}`, event.Entry{ID: "1", Plate: "A", At: time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)}},
		"the zero time of Go":                        {`{"id":"1","vehicle_plate":"A","entry_date_time":"0001-01-01T00:00:00Z"}`, event.Entry{ID: "1", Plate: "A"}},
		"the last instant of year 9999":              {`{"id":"1","vehicle_plate":"A","entry_date_time":"9999-12-31T23:59:59.999999999Z"}`, event.Entry{ID: "1", Plate: "A", At: time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)}},
		"t and z in lower case":                      {`{"id":"1","vehicle_plate":"A","entry_date_time":"2026-05-17t12:00:00.123456789z"}`, plain},
		"t in lower case with an offset":             {`{"id":"1","vehicle_plate":"A","entry_date_time":"2026-05-17t17:45:00.123456789+05:45"}`, plain},
		"a leap second":                              {`{"id":"1","vehicle_plate":"A","entry_date_time":"2016-12-31T23:59:60.5Z"}`, event.Entry{ID: "1", Plate: "A", At: time.Date(2017, 1, 1, 0, 0, 0, 500000000, time.UTC)}},
		"a leap second with an offset":               {`{"id":"1","vehicle_plate":"A","entry_date_time":"1990-12-31t15:59:60-08:00"}`, event.Entry{ID: "1", Plate: "A", At: time.Date(1991, 1, 1, 0, 0, 0, 0, time.UTC)}},
		"a leap day":                                 {`{"id":"1","vehicle_plate":"A","entry_date_time":"2028-02-29T00:00:00Z"}`, event.Entry{ID: "1", Plate: "A", At: time.Date(2028, 2, 29, 0, 0, 0, 0, time.UTC)}},
		"the longest identifier":                     {`{"id":"` + strings.Repeat("f", event.MaxIDBytes) + `","vehicle_plate":"A","entry_date_time":"` + noonText + `"}`, event.Entry{ID: strings.Repeat("f", event.MaxIDBytes), Plate: "A", At: noon}},
		"the longest plate":                          {`{"id":"1","vehicle_plate":"` + strings.Repeat("Z", event.MaxPlateBytes) + `","entry_date_time":"` + noonText + `"}`, event.Entry{ID: "1", Plate: strings.Repeat("Z", event.MaxPlateBytes), At: noon}},
		"the longest body":                           {padTo(event.MaxBodyBytes), plain},
		"a field name in capitals, which is unknown": {`{"ID":"2","id":"1","vehicle_plate":"A","entry_date_time":"` + noonText + `"}`, plain},
		"escaped markup characters":                  {`{"id":"\u003ci\u003e","vehicle_plate":"A\u0026B","entry_date_time":"` + noonText + `"}`, event.Entry{ID: "<i>", Plate: "A&B", At: noon}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := event.ParseEntry([]byte(tt.body))
			checkParsed(t, got, tt.want, err)
		})
	}
}

// padTo returns a valid entry of n bytes.
func padTo(n int) string {
	head := `{"id":"1","vehicle_plate":"A","entry_date_time":"` + noonText + `"`
	return head + strings.Repeat(" ", n-len(head)-1) + "}"
}

func TestParseEntry_RejectsInvalidBodies(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ body, want string }{
		"an empty body":                       {``, `entry event: not valid JSON at byte 0: unexpected end of JSON input`},
		"only white space":                    {" \n", `entry event: not valid JSON at byte 2: unexpected end of JSON input`},
		"truncated JSON":                      {entry[:40], `entry event: not valid JSON at byte 40: unexpected end of JSON input`},
		"a body without its last brace":       {entry[:len(entry)-1], `entry event: not valid JSON at byte 102: unexpected end of JSON input`},
		"a second object":                     {entry + `{}`, `entry event: not valid JSON at byte 104: invalid character '{' after top-level value`},
		"a trailing comma":                    {`{"id":"1",}`, `entry event: not valid JSON at byte 11: invalid character '}' looking for beginning of object key string`},
		"a byte order mark":                   {"\ufeff" + entry, `entry event: not valid JSON at byte 1: invalid character 'ï' looking for beginning of value`},
		"an array":                            {`[]`, `entry event: a JSON array is not an object`},
		"a string":                            {`"entry"`, `entry event: a JSON string is not an object`},
		"null":                                {`null`, `entry event: null is not a JSON object`},
		"an empty object":                     {`{}`, `entry event: field id: missing`},
		"no identifier":                       {`{"vehicle_plate":"A","entry_date_time":"` + noonText + `"}`, `entry event: field id: missing`},
		"no plate":                            {`{"id":"1","entry_date_time":"` + noonText + `"}`, `entry event: field vehicle_plate: missing`},
		"no instant":                          {`{"id":"1","vehicle_plate":"A"}`, `entry event: field entry_date_time: missing`},
		"an exit in place of an entry":        {exit, `entry event: field entry_date_time: missing`},
		"an empty identifier":                 {`{"id":"","vehicle_plate":"A","entry_date_time":"` + noonText + `"}`, `entry event: field id: empty`},
		"an empty plate":                      {`{"id":"1","vehicle_plate":"","entry_date_time":"` + noonText + `"}`, `entry event: field vehicle_plate: empty`},
		"a number as identifier":              {`{"id":1,"vehicle_plate":"A","entry_date_time":"` + noonText + `"}`, `entry event: field id: a number is not a string`},
		"null as plate":                       {`{"id":"1","vehicle_plate":null,"entry_date_time":"` + noonText + `"}`, `entry event: field vehicle_plate: null is not a string`},
		"an object as plate":                  {`{"id":"1","vehicle_plate":{},"entry_date_time":"` + noonText + `"}`, `entry event: field vehicle_plate: an object is not a string`},
		"an array as plate":                   {`{"id":"1","vehicle_plate":["A"],"entry_date_time":"` + noonText + `"}`, `entry event: field vehicle_plate: an array is not a string`},
		"a boolean as instant":                {`{"id":"1","vehicle_plate":"A","entry_date_time":true}`, `entry event: field entry_date_time: a boolean is not a string`},
		"a number of seconds as instant":      {`{"id":"1","vehicle_plate":"A","entry_date_time":1779019200}`, `entry event: field entry_date_time: a number is not a string`},
		"a field name in capitals":            {`{"ID":"1","vehicle_plate":"A","entry_date_time":"` + noonText + `"}`, `entry event: field id: missing`},
		"invalid UTF-8 in a plate":            {"{\"id\":\"1\",\"vehicle_plate\":\"\xff\",\"entry_date_time\":\"" + noonText + "\"}", `entry event: not valid UTF-8`},
		"invalid UTF-8 in another field":      {"{\"x\":\"\xc3\",\"id\":\"1\",\"vehicle_plate\":\"A\",\"entry_date_time\":\"" + noonText + "\"}", `entry event: not valid UTF-8`},
		"half a surrogate pair":               {`{"id":"\ud83d","vehicle_plate":"A","entry_date_time":"` + noonText + `"}`, `entry event: field id: contains U+FFFD, the replacement character for bytes that could not be decoded`},
		"a raw line break in a plate":         {"{\"id\":\"1\",\"vehicle_plate\":\"A\nB\",\"entry_date_time\":\"" + noonText + "\"}", `entry event: not valid JSON at byte 29: invalid character '\n' in string literal`},
		"an escaped NUL in a plate":           {`{"id":"1","vehicle_plate":"A\u0000","entry_date_time":"` + noonText + `"}`, `entry event: field vehicle_plate: contains the control character U+0000`},
		"a DEL in a plate":                    {"{\"id\":\"1\",\"vehicle_plate\":\"A\x7f\",\"entry_date_time\":\"" + noonText + "\"}", `entry event: field vehicle_plate: contains the control character U+007F`},
		"a C1 control in an identifier":       {`{"id":"é\u0085","vehicle_plate":"A","entry_date_time":"` + noonText + `"}`, `entry event: field id: contains the control character U+0085`},
		"an identifier that is too long":      {`{"id":"` + strings.Repeat("f", event.MaxIDBytes+1) + `","vehicle_plate":"A","entry_date_time":"` + noonText + `"}`, `entry event: field id: 129 bytes are more than the maximum of 128`},
		"a plate that is too long":            {`{"id":"1","vehicle_plate":"` + strings.Repeat("é", 17) + `","entry_date_time":"` + noonText + `"}`, `entry event: field vehicle_plate: 34 bytes are more than the maximum of 32`},
		"a body that is too long":             {padTo(event.MaxBodyBytes + 1), `entry event: 65537 bytes are more than the maximum of 65536`},
		"10 MiB of brackets":                  {strings.Repeat("[", 10<<20), `entry event: 10485760 bytes are more than the maximum of 65536`},
		"60000 nested brackets":               {strings.Repeat("[", 60000), `entry event: not valid JSON at byte 10001: invalid character '[' exceeded max depth`},
		"a word as instant":                   {`{"id":"1","vehicle_plate":"A","entry_date_time":"yesterday"}`, `entry event: field entry_date_time: "yesterday" is not a date and time of RFC 3339 such as 2006-01-02T15:04:05.999999999Z`},
		"an instant without offset":           {`{"id":"1","vehicle_plate":"A","entry_date_time":"2026-05-17T12:00:00"}`, `entry event: field entry_date_time: "2026-05-17T12:00:00" is not a date and time of RFC 3339 such as 2006-01-02T15:04:05.999999999Z`},
		"a day that does not exist":           {`{"id":"1","vehicle_plate":"A","entry_date_time":"2026-02-29T12:00:00Z"}`, `entry event: field entry_date_time: "2026-02-29T12:00:00Z" is not a date and time of RFC 3339 such as 2006-01-02T15:04:05.999999999Z`},
		"a fraction after a comma":            {`{"id":"1","vehicle_plate":"A","entry_date_time":"2026-05-17T12:00:00,5Z"}`, `entry event: field entry_date_time: "2026-05-17T12:00:00,5Z" is not a date and time of RFC 3339 such as 2006-01-02T15:04:05.999999999Z`},
		"an hour of one digit":                {`{"id":"1","vehicle_plate":"A","entry_date_time":"2026-05-17T2:00:00Z"}`, `entry event: field entry_date_time: "2026-05-17T2:00:00Z" is not a date and time of RFC 3339 such as 2006-01-02T15:04:05.999999999Z`},
		"an offset of 60 minutes":             {`{"id":"1","vehicle_plate":"A","entry_date_time":"2026-05-17T12:00:00+12:60"}`, `entry event: field entry_date_time: "2026-05-17T12:00:00+12:60" is not a date and time of RFC 3339 such as 2006-01-02T15:04:05.999999999Z`},
		"an offset of a day":                  {`{"id":"1","vehicle_plate":"A","entry_date_time":"2026-05-17T12:00:00+24:00"}`, `entry event: field entry_date_time: "2026-05-17T12:00:00+24:00" is not a date and time of RFC 3339 such as 2006-01-02T15:04:05.999999999Z`},
		"a year of five digits":               {`{"id":"1","vehicle_plate":"A","entry_date_time":"10000-01-01T00:00:00Z"}`, `entry event: field entry_date_time: "10000-01-01T00:00:00Z" is not a date and time of RFC 3339 such as 2006-01-02T15:04:05.999999999Z`},
		"a leap second at noon":               {`{"id":"1","vehicle_plate":"A","entry_date_time":"2016-12-31T12:00:60Z"}`, `entry event: field entry_date_time: "2016-12-31T12:00:60Z" is not a date and time of RFC 3339 such as 2006-01-02T15:04:05.999999999Z`},
		"a leap second inside a month":        {`{"id":"1","vehicle_plate":"A","entry_date_time":"2016-12-30T23:59:60Z"}`, `entry event: field entry_date_time: "2016-12-30T23:59:60Z" is not a date and time of RFC 3339 such as 2006-01-02T15:04:05.999999999Z`},
		"a leap second in local time":         {`{"id":"1","vehicle_plate":"A","entry_date_time":"2016-12-31T23:59:60+01:00"}`, `entry event: field entry_date_time: "2016-12-31T23:59:60+01:00" is not a date and time of RFC 3339 such as 2006-01-02T15:04:05.999999999Z`},
		"a second beyond the leap second":     {`{"id":"1","vehicle_plate":"A","entry_date_time":"2016-12-31T23:59:61Z"}`, `entry event: field entry_date_time: "2016-12-31T23:59:61Z" is not a date and time of RFC 3339 such as 2006-01-02T15:04:05.999999999Z`},
		"a blank in place of the T":           {`{"id":"1","vehicle_plate":"A","entry_date_time":"2026-05-17 12:00:00Z"}`, `entry event: field entry_date_time: "2026-05-17 12:00:00Z" is not a date and time of RFC 3339 such as 2006-01-02T15:04:05.999999999Z`},
		"a leap second after 9999":            {`{"id":"1","vehicle_plate":"A","entry_date_time":"9999-12-31T23:59:60Z"}`, `entry event: field entry_date_time: "9999-12-31T23:59:60Z" is outside of the years 0 to 9999 in UTC`},
		"an empty instant":                    {`{"id":"1","vehicle_plate":"A","entry_date_time":""}`, `entry event: field entry_date_time: "" is not a date and time of RFC 3339 such as 2006-01-02T15:04:05.999999999Z`},
		"an instant before year 0 in UTC":     {`{"id":"1","vehicle_plate":"A","entry_date_time":"0000-01-01T00:00:00+01:00"}`, `entry event: field entry_date_time: "0000-01-01T00:00:00+01:00" is outside of the years 0 to 9999 in UTC`},
		"an instant after 9999 in UTC":        {`{"id":"1","vehicle_plate":"A","entry_date_time":"9999-12-31T23:59:59-01:00"}`, `entry event: field entry_date_time: "9999-12-31T23:59:59-01:00" is outside of the years 0 to 9999 in UTC`},
		"a long text, truncated in the error": {`{"id":"1","vehicle_plate":"A","entry_date_time":"` + strings.Repeat("x", 1000) + `"}`, `entry event: field entry_date_time: "` + strings.Repeat("x", 48) + `"… is not a date and time of RFC 3339 such as 2006-01-02T15:04:05.999999999Z`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := event.ParseEntry([]byte(tt.body))
			if _, ok := errors.AsType[*event.SyntaxError](err); !ok {
				t.Fatalf("error is %v, want a *SyntaxError", err)
			}
			if err.Error() != tt.want {
				t.Errorf("error is\n%s, want\n%s", err, tt.want)
			}
			if got != (event.Entry{}) {
				t.Errorf("the entry is %+v although there is an error, want the zero value", got)
			}
		})
	}
}

func TestParseSummary_AcceptsOnlyValidBodies(t *testing.T) {
	t.Parallel()
	body := func(entryAt, exitAt, more string) []byte {
		return []byte(`{"id":"1","vehicle_plate":"A","entry_date_time":"` + entryAt + `","exit_date_time":"` + exitAt + `"` + more + `}`)
	}
	tests := map[string]struct {
		body []byte
		err  string
	}{
		"durations are optional":                 {body(noonText, noonText, ""), ""},
		"the values of durations are ignored":    {body(noonText, noonText, `,"duration":"x","duration_seconds":-0.5`), ""},
		"durations of another type are ignored":  {body(noonText, noonText, `,"duration":5,"duration_seconds":{}`), ""},
		"durations with an exponent":             {body(noonText, noonText, `,"duration_seconds":1e-3`), ""},
		"a malformed duration is malformed JSON": {body(noonText, noonText, `,"duration_seconds":01`), "summary: not valid JSON at byte 152: invalid character '1' after object key:value pair"},
		"the exit must not precede the entry":    {body(noonText, "2026-05-17T12:00:00.123456788Z", ""), "summary: field exit_date_time: is before entry_date_time"},
		"the exit is required":                   {[]byte(entry), "summary: field exit_date_time: missing"},
		"the entry is required":                  {[]byte(exit), "summary: field entry_date_time: missing"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := event.ParseSummary(tt.body)
			switch {
			case tt.err == "":
				checkParsed(t, got, event.Summary{ID: "1", Plate: "A", EntryAt: noon, ExitAt: noon}, err)
			case err == nil || err.Error() != tt.err:
				t.Errorf("error is %v, want %s", err, tt.err)
			}
		})
	}
}

func TestParseEntry_Result_DoesNotShareMemoryWithTheBody(t *testing.T) {
	t.Parallel()
	body := []byte(entry)
	got, err := event.ParseEntry(body)
	if err != nil {
		t.Fatal(err)
	}
	clear(body)
	checkParsed(t, got, event.Entry{ID: "0123456789abc-0-7", Plate: "ABC1234", At: noon}, nil)
}

// These structs define the wire formats: the encoder must write exactly what encoding/json writes for them.
type (
	entryJSON struct {
		ID    string    `json:"id"`
		Plate string    `json:"vehicle_plate"`
		At    time.Time `json:"entry_date_time"`
	}
	exitJSON struct {
		ID    string    `json:"id"`
		Plate string    `json:"vehicle_plate"`
		At    time.Time `json:"exit_date_time"`
	}
	summaryJSON struct {
		ID       string      `json:"id"`
		Plate    string      `json:"vehicle_plate"`
		EntryAt  time.Time   `json:"entry_date_time"`
		ExitAt   time.Time   `json:"exit_date_time"`
		Duration string      `json:"duration"`
		Seconds  json.Number `json:"duration_seconds"`
	}
)

// anyInstant generates instants in the years 0 to 9999 in UTC. Their offsets from UTC are whole hours.
func anyInstant() *rapid.Generator[time.Time] {
	return rapid.Custom(func(t *rapid.T) time.Time {
		first, last := time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
		nanos := rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(0, 999)).Draw(t, "thousandths") * 1e6
		nanos += rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(0, 999_999)).Draw(t, "rest")
		at := time.Unix(rapid.Int64Range(first.Unix(), last.Unix()).Draw(t, "seconds"), nanos)
		return at.In(time.FixedZone("", rapid.IntRange(-14, 14).Draw(t, "hours")*3600))
	})
}

// anySummary generates summaries with arbitrary strings.
func anySummary() *rapid.Generator[event.Summary] {
	return rapid.Custom(func(t *rapid.T) event.Summary {
		a, b := anyInstant().Draw(t, "a"), anyInstant().Draw(t, "b")
		if rapid.Bool().Draw(t, "short stay") {
			b = a.Add(time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "stay")))
			if b.UTC().Year() > 9999 {
				b = a
			}
		}
		if b.Before(a) {
			a, b = b, a
		}
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[A-Z]{3}[0-9]{4}`), rapid.StringMatching(`[ -~]{1,12}`))
		return event.Summary{ID: text.Draw(t, "id"), Plate: text.Draw(t, "plate"), EntryAt: a, ExitAt: b}
	})
}

func TestAppend_MatchesEncodingJSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := anySummary().Draw(t, "visit")
		check := func(got []byte, same any) {
			want, err := json.Marshal(same)
			if err != nil {
				t.Fatalf("encoding/json: %v", err)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("the encoder writes\n%s, encoding/json writes\n%s", got, want)
			}
		}
		check(event.AppendEntry(nil, event.Entry{ID: s.ID, Plate: s.Plate, At: s.EntryAt}), entryJSON{s.ID, s.Plate, s.EntryAt.UTC()})
		check(event.AppendExit(nil, event.Exit{ID: s.ID, Plate: s.Plate, At: s.ExitAt}), exitJSON{s.ID, s.Plate, s.ExitAt.UTC()})
		check(event.AppendSummary(nil, s), summaryJSON{
			s.ID, s.Plate, s.EntryAt.UTC(), s.ExitAt.UTC(), s.Duration().String(), exactSeconds(s.Duration()),
		})
	})
}

// exactSeconds returns a duration in seconds, without rounding.
func exactSeconds(d time.Duration) json.Number {
	digits := (d % time.Second).Nanoseconds()
	text := json.Number("")
	for range 9 {
		text = json.Number('0'+rune(digits%10)) + text
		digits /= 10
	}
	whole, _ := json.Marshal(int64(d / time.Second))
	return json.Number(strings.TrimRight(strings.TrimRight(string(whole)+"."+string(text), "0"), "."))
}

func acceptable(name string, limit int) bool {
	return name != "" && len(name) <= limit && utf8.ValidString(name) &&
		!strings.ContainsFunc(name, unicode.IsControl) && !strings.ContainsRune(name, utf8.RuneError)
}

func TestParse_EncodedEvent_ReturnsTheSameEvent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := anySummary().Draw(t, "visit")
		valid := acceptable(s.ID, event.MaxIDBytes) && acceptable(s.Plate, event.MaxPlateBytes)
		check := func(got, want any, err error) {
			if (err == nil) != valid {
				t.Fatalf("the error of the parser is %v, but the identifier and the plate are valid: %t", err, valid)
			}
			if diff := cmp.Diff(want, got); valid && diff != "" {
				t.Fatalf("parsed event differs (-want +got):\n%s", diff)
			}
		}
		e, err := event.ParseEntry(event.AppendEntry(nil, event.Entry{ID: s.ID, Plate: s.Plate, At: s.EntryAt}))
		check(e, event.Entry{ID: s.ID, Plate: s.Plate, At: s.EntryAt.UTC()}, err)
		x, err := event.ParseExit(event.AppendExit(nil, event.Exit{ID: s.ID, Plate: s.Plate, At: s.ExitAt}))
		check(x, event.Exit{ID: s.ID, Plate: s.Plate, At: s.ExitAt.UTC()}, err)
		y, err := event.ParseSummary(event.AppendSummary(nil, s))
		check(y, event.Summary{ID: s.ID, Plate: s.Plate, EntryAt: s.EntryAt.UTC(), ExitAt: s.ExitAt.UTC()}, err)
	})
}

// reference parses the given string fields of a body with encoding/json.
func reference(body []byte, fields ...string) (map[string]string, bool) {
	var members map[string]any
	if len(body) > event.MaxBodyBytes || !utf8.Valid(body) || json.Unmarshal(body, &members) != nil {
		return nil, false
	}
	texts := make(map[string]string)
	for _, field := range fields {
		text, isString := members[field].(string)
		if !isString {
			return nil, false
		}
		texts[field] = text
	}
	return texts, true
}

// rfc3339 matches the syntax of RFC 3339. It does not check that the day exists in the month.
var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// referenceInstant parses an RFC 3339 instant with package time. A leap second must end a month in UTC.
func referenceInstant(text string) (time.Time, bool) {
	if !rfc3339.MatchString(text) {
		return time.Time{}, false
	}
	text = strings.ToUpper(text)
	before, isLeap := strings.CutSuffix(text[:len("2006-01-02T15:04:05")], ":60")
	if isLeap {
		text = before + ":59" + text[len("2006-01-02T15:04:05"):]
	}
	var at time.Time
	err := at.UnmarshalText([]byte(text))
	at = at.UTC()
	if isLeap {
		at = at.Add(time.Second)
		if !at.Truncate(time.Second).Equal(time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)) {
			return time.Time{}, false
		}
	}
	return at, err == nil && at.Year() >= 0 && at.Year() <= 9999
}

func FuzzParse_AnyBody_MatchesTheReferenceParser(f *testing.F) {
	for _, body := range []string{
		entry, exit, summary, "", "{}", "null", "[]", entry[:50], entry + "x",
		`{"id":"1","id":"2","vehicle_plate":"A","entry_date_time":"2026-05-17T12:00:00Z"}`,
		`{ "x" : [1, {"id": null}], "id":"\u00e9\ud83d","vehicle_plate":"A","exit_date_time":"2026-05-17T12:00:00+05:45" }`,
		`{"id":"1","vehicle_plate":"\u0000","entry_date_time":"0000-01-01T00:00:00+01:00"}`,
		"{\"id\":\"\xff\",\"vehicle_plate\":\"A\x7f\",\"entry_date_time\":\"2026-05-17T12:00:00.5Z\"}",
		`{"duration_seconds":-0.25,"duration":"-250ms","id":"1","vehicle_plate":"A","entry_date_time":"2026-05-17T12:00:00Z","exit_date_time":"2026-05-17T12:00:00Z"}`,
		`{"duration_seconds":1e9,"id":"1","vehicle_plate":"A","entry_date_time":"2026-05-17T12:00:00Z","exit_date_time":"2026-05-17T11:00:00Z"}`,
		`{"ID":"1","Vehicle_Plate":"A","entry_date_time":"2026-05-17T12:00:00Z"}`,
		`{"id":"1","vehicle_plate":"A","entry_date_time":"2016-12-31t23:59:60z","exit_date_time":"2017-01-01T00:59:60.5+01:00"}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		compare := func(got event.Summary, err error, hasEntry, hasExit bool) {
			fields := []string{"id", "vehicle_plate"}
			if hasEntry {
				fields = append(fields, "entry_date_time")
			}
			if hasExit {
				fields = append(fields, "exit_date_time")
			}
			texts, ok := reference(body, fields...)
			want := event.Summary{ID: texts["id"], Plate: texts["vehicle_plate"]}
			ok = ok && acceptable(want.ID, event.MaxIDBytes) && acceptable(want.Plate, event.MaxPlateBytes)
			if ok && hasEntry {
				want.EntryAt, ok = referenceInstant(texts["entry_date_time"])
			}
			if ok && hasExit {
				want.ExitAt, ok = referenceInstant(texts["exit_date_time"])
			}
			if hasEntry && hasExit {
				ok = ok && !want.ExitAt.Before(want.EntryAt)
			}
			if ok != (err == nil) {
				t.Fatalf("body %q: the reference parser accepts the body: %t, but the error of the parser is %v", body, ok, err)
			}
			if diff := cmp.Diff(want, got); ok && diff != "" {
				t.Fatalf("body %q: parsed event differs (-reference +got):\n%s", body, diff)
			}
			var syntax *event.SyntaxError
			if err != nil && (!errors.As(err, &syntax) || !utf8.ValidString(err.Error()) || len(err.Error()) > 512) {
				t.Fatalf("error %q is not a short, readable *SyntaxError", err)
			}
		}
		e, err := event.ParseEntry(body)
		compare(event.Summary{ID: e.ID, Plate: e.Plate, EntryAt: e.At}, err, true, false)
		x, err := event.ParseExit(body)
		compare(event.Summary{ID: x.ID, Plate: x.Plate, ExitAt: x.At}, err, false, true)
		s, err := event.ParseSummary(body)
		compare(s, err, true, true)
	})
}

func TestParseEvent_SimpleBody_AllocatesTwice(t *testing.T) {
	for name, parse := range map[string]func() error{
		"entry":   func() error { _, err := event.ParseEntry([]byte(entry)); return err },
		"exit":    func() error { _, err := event.ParseExit([]byte(exit)); return err },
		"summary": func() error { _, err := event.ParseSummary([]byte(summary)); return err },
	} {
		if err := parse(); err != nil {
			t.Fatal(err)
		}
		// The parser allocates twice. The third allocation is the body, which the test allocates.
		if n := testing.AllocsPerRun(100, func() { _ = parse() }); n > 3 {
			t.Errorf("%s: %v allocations, want at most 3: the body, the identifier and the plate", name, n)
		}
	}
}

func BenchmarkAppendEntry(b *testing.B) {
	e := event.Entry{ID: "0123456789abc-0-7", Plate: "ABC1234", At: noon}
	buf := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		buf = event.AppendEntry(buf[:0], e)
	}
}

func BenchmarkAppendSummary(b *testing.B) {
	s := event.Summary{ID: "0123456789abc-0-7", Plate: "ABC1234", EntryAt: noon.Add(-2123456789), ExitAt: noon}
	buf := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		buf = event.AppendSummary(buf[:0], s)
	}
}

func BenchmarkParseEntry(b *testing.B) { benchmarkParse(b, entry, event.ParseEntry) }

func BenchmarkParseEntry_UnknownField(b *testing.B) {
	benchmarkParse(b, entry[:len(entry)-1]+`,"gate":"north"}`, event.ParseEntry)
}

func BenchmarkParseExit(b *testing.B) { benchmarkParse(b, exit, event.ParseExit) }

func BenchmarkParseSummary(b *testing.B) { benchmarkParse(b, summary, event.ParseSummary) }

func benchmarkParse[T any](b *testing.B, text string, parse func([]byte) (T, error)) {
	body := []byte(text)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parse(body); err != nil {
			b.Fatal(err)
		}
	}
}
