package plan_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/plan/plantest"
)

// full returns a plan in which every field is set.
func full() *plan.Plan {
	return &plan.Plan{
		Simulation:   "lot.rush-hour",
		Seed:         42,
		StartTime:    time.Date(2026, 5, 17, 8, 0, 0, 0, time.UTC),
		Duration:     plan.Duration(30 * time.Minute),
		DrainTimeout: plan.Duration(5 * time.Minute),
		Suspended:    true,
		Partitions:   2,
		QueueType:    plan.QueueTypeQuorum,
		Durability:   plan.DurabilitySynced,
		Entry: plan.Entry{Schedule: plan.Schedule{
			Rate: 200, Arrivals: plan.ArrivalsPoisson, Replicas: 2,
			Stages: []plan.Stage{{Duration: plan.Duration(5 * time.Minute), Rate: 2000}},
		}},
		Exit: plan.Exit{
			Schedule:     plan.Schedule{Rate: 180, Arrivals: plan.ArrivalsUniform, Replicas: 1},
			MatchPercent: 20,
			MinStay:      plan.Duration(1500 * time.Millisecond),
		},
		MaxStay:   plan.Duration(time.Hour),
		Processor: plan.Processor{Concurrency: 256},
		Faults: []plan.Fault{{
			Name: "redis-pause", Target: plan.TargetRedis, Action: plan.ActionPause, Instances: 1, At: plan.Duration(2 * time.Minute),
			Every: plan.Duration(4 * time.Minute), Jitter: plan.Duration(30 * time.Second), For: plan.Duration(20 * time.Second),
		}},
		Objectives: plan.Objectives{
			PhaseObjectives: plan.PhaseObjectives{
				ProcessingP99: plan.Duration(5 * time.Millisecond), EndToEndP99: plan.Duration(time.Second),
				MaxLag: plan.Duration(5 * time.Second), MinAchievedPercent: 99,
			},
			WithoutFaults: plan.PhaseObjectives{MaxLag: plan.Duration(time.Second)},
			UnderFaults:   plan.PhaseObjectives{MinAchievedPercent: 50},
			MaxRecovery:   plan.Duration(30 * time.Second),
			MaxLost:       1, MaxUnexpected: 2, AbortOnFailure: true,
		},
		RabbitMQ:   plan.BindingRef{SecretDir: "/etc/parking/rabbitmq"},
		Redis:      plan.BindingRef{URI: "redis://127.0.0.1:6379"},
		SummaryAPI: plan.SummaryAPI{URL: "https://example.com/v1/visits", External: true, SecretDir: "/etc/parking/api"},
	}
}

func TestReadPlan_FileWasWrittenTwice_ReturnsTheSamePlan(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "plan.json")
	for range 2 { // the second iteration replaces the file of the first
		if err := plantest.Write(full(), path); err != nil {
			t.Fatal(err)
		}
	}
	got, err := plan.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(full(), got); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

// edited returns the JSON text of the plan full() with one change: the field at the given path has the given value.
func edited(t *testing.T, value any, path ...string) string {
	t.Helper()
	text, err := full().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var top map[string]any
	if err := json.Unmarshal(text, &top); err != nil {
		t.Fatal(err)
	}
	object := top
	for _, name := range path[:len(path)-1] {
		object = object[name].(map[string]any)
	}
	object[path[len(path)-1]] = value
	text, err = json.Marshal(top)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestParsePlan_RejectsInvalidPlans(t *testing.T) {
	t.Parallel()
	stage := func(duration any, rate any) []any {
		return []any{map[string]any{"duration": duration, "rate": rate}}
	}
	fault := func(members ...any) []any {
		f := map[string]any{"name": "a", "target": "Redis", "action": "Kill", "at": "1s"}
		for i := 0; i < len(members); i += 2 {
			f[members[i].(string)] = members[i+1]
		}
		return []any{f}
	}
	tests := map[string]struct{ text, want string }{
		"an empty file":                              {"", `line 1: not valid JSON: unexpected end of JSON input`},
		"truncated JSON":                             {"{\n\"seed\":1,\n", `line 3: not valid JSON: unexpected end of JSON input`},
		"a second object":                            {edited(t, 1, "seed") + "{}", `line 1: not valid JSON: invalid character '{' after top-level value`},
		"a list":                                     {`[1]`, `must be an object with fields, not a list`},
		"an unknown field":                           {edited(t, 1, "entry", "raet"), `entry.raet: Forbidden: unknown field: did you mean "rate"?`},
		"a field without a similar name":             {edited(t, 1, "redis", "password"), `redis.password: Forbidden: unknown field: remove it; known fields are secretDir, uri`},
		"a duplicate field":                          {`{"seed":1,` + edited(t, 1, "seed")[1:], `seed: Forbidden: duplicate field: give each field once`},
		"a capitalized field":                        {edited(t, 1, "Seed"), `Seed: Forbidden: unknown field: did you mean "seed"?`},
		"a rate that is no number":                   {edited(t, "fast", "entry", "rate"), `entry.rate: Invalid value: "fast": must be a whole number such as 10, of at most 64 bits`},
		"a fractional rate":                          {edited(t, 1.5, "entry", "rate"), `entry.rate: Invalid value: 1.5: must be a whole number such as 10, of at most 64 bits`},
		"a negative seed":                            {edited(t, -1, "seed"), `seed: Invalid value: -1: must be a whole number such as 10, of at most 64 bits`},
		"a malformed duration":                       {edited(t, "long", "maxStay"), `maxStay: Invalid value: "long": must be a duration such as "30s" or "1h30m"`},
		"a duration without unit":                    {edited(t, 5, "exit", "minStay"), `exit.minStay: Invalid value: 5: must be a duration such as "30s" or "1h30m"`},
		"an empty simulation name":                   {edited(t, "", "simulation"), `simulation: Invalid value: "": must be the simulation's name: 1 to 128 letters, digits, dots, dashes and underscores, the first and the last a letter or digit`},
		"a simulation name with braces":              {edited(t, "a}{b", "simulation"), `simulation: Invalid value: "a}{b": must be the simulation's name: 1 to 128 letters, digits, dots, dashes and underscores, the first and the last a letter or digit`},
		"no partitions":                              {edited(t, 0, "partitions"), `partitions: Invalid value: 0: must be from 1 to 64 partitions`},
		"too many partitions":                        {edited(t, 65, "partitions"), `partitions: Invalid value: 65: must be from 1 to 64 partitions`},
		"an unknown queue type":                      {edited(t, "stream", "queueType"), `queueType: Unsupported value: "stream": supported values: "quorum", "classic"`},
		"an unknown durability":                      {edited(t, "Fsynced", "durability"), `durability: Unsupported value: "Fsynced": supported values: "", "Synced"`},
		"unknown arrivals":                           {edited(t, "Burst", "exit", "arrivals"), `exit.arrivals: Unsupported value: "Burst": supported values: "Uniform", "Poisson"`},
		"a negative rate":                            {edited(t, -1, "exit", "rate"), `exit.rate: Invalid value: -1: must be from 0 to 1000000 events per second`},
		"too many generators":                        {edited(t, 65, "entry", "replicas"), `entry.replicas: Invalid value: 65: must be from 0 to 64 generators`},
		"a percentage of 101":                        {edited(t, 101, "exit", "matchPercent"), `exit.matchPercent: Invalid value: 101: must be from 0 to 100 percent`},
		"a stage without duration":                   {edited(t, stage("0s", 1), "entry", "stages"), `entry.stages[0].duration: Invalid value: "0s": must be a duration above 0s and up to 8760h, such as "5m"`},
		"a stage with a negative rate":               {edited(t, stage("1s", -1), "entry", "stages"), `entry.stages[0].rate: Invalid value: -1: must be from 0 to 1000000 events per second`},
		"101 stages":                                 {edited(t, make([]struct{}, 101), "exit", "stages"), `exit.stages: Too many: 101: must have at most 100 items`},
		"a negative minStay":                         {edited(t, "-1s", "exit", "minStay"), `exit.minStay: Invalid value: "-1s": must be a duration from 0s to 8760h, such as "2s"`},
		"no maxStay":                                 {edited(t, "0s", "maxStay"), `maxStay: Invalid value: "0s": must be a duration above 0s and up to 8760h, such as "1h"; exit.minStay: Invalid value: "1.5s": must be less than maxStay, which is 0s, or every vehicle is forgotten before it may leave: lower exit.minStay or raise maxStay`},
		"minStay as long as maxStay":                 {edited(t, "1h", "exit", "minStay"), `exit.minStay: Invalid value: "1h": must be less than maxStay, which is 1h0m0s, or every vehicle is forgotten before it may leave: lower exit.minStay or raise maxStay`},
		"a duration of more than a year":             {edited(t, "8761h", "duration"), `duration: Invalid value: "8761h": must be a duration from 0s to 8760h, such as "30m"`},
		"more vehicles than plates":                  {edited(t, 24412, "entry", "rate"), `entry.rate: Invalid value: 24412: the rate times maxStay (1h0m0s) must not exceed 87880000, the number of plates: lower the rate or maxStay`},
		"the error shows maxStay as in the file":     {strings.Replace(edited(t, "3600s", "exit", "minStay"), `"maxStay":"1h0m0s"`, `"maxStay":"60m"`, 1), `exit.minStay: Invalid value: "3600s": must be less than maxStay, which is 60m, or every vehicle is forgotten before it may leave: lower exit.minStay or raise maxStay`},
		"the error shows fault times as in the file": {edited(t, fault("instances", 1, "at", "60s", "jitter", "61000ms"), "faults"), `faults[0].jitter: Invalid value: "61000ms": must not exceed "at", which is 60s, or the fault begins before the simulation does: lower "jitter" or raise "at"`},
		"no concurrency":                             {edited(t, 0, "processor", "concurrency"), `processor.concurrency: Invalid value: 0: must be from 1 to 65535 messages`},
		"21 faults":                                  {edited(t, make([]struct{}, 21), "faults"), `faults: Too many: 21: must have at most 20 items`},
		"an empty fault":                             {edited(t, []any{map[string]any{}}, "faults"), `faults[0].target: Unsupported value: "": supported values: "RabbitMQ", "RabbitMQLeader", "Redis", "SummaryAPI", "Processor", "EntryGenerator", "ExitGenerator"; faults[0].action: Unsupported value: "": supported values: "Kill", "Restart", "Evict", "Pause", "Isolate"; faults[0].instances: Invalid value: 0: must be from 1 to 999 instances; or set percent; faults[0].name: Required value: give the fault a name, such as "redis-crash"`},
		"a fault of 101 percent":                     {edited(t, fault("percent", 101), "faults"), `faults[0].percent: Invalid value: 101: must be from 1 to 100 percent`},
		"a fault with instances and percent":         {edited(t, fault("percent", 50, "instances", 1), "faults"), `faults[0].percent: Invalid value: 50: instances and percent cannot be combined: remove one of them`},
		"a kill with a duration":                     {edited(t, fault("instances", 1, "for", "1s"), "faults"), `faults[0].for: Forbidden: is only for Pause and Isolate, because the other actions do not last: remove it`},
		"an interval of 1ms between faults":          {edited(t, fault("instances", 1, "every", "1ms"), "faults"), `faults[0].every: Invalid value: "1ms": must be at least 1s; remove it to inject the fault once`},
		"a negative objective":                       {edited(t, -1, "objectives", "maxLost"), `objectives.maxLost: Invalid value: -1: must not be negative; the strictest limit is 0 events`},
		"an external API without URL":                {edited(t, "", "summaryAPI", "url"), `summaryAPI.url: Required value: must be the URL of the external API`},
		"an API URL without a scheme":                {edited(t, "example.com", "summaryAPI", "url"), `summaryAPI.url: Invalid value: must be an absolute http or https URL such as "https://example.com/v1/visits": begin it with "https://" or "http://"`},
		"an API URL with a password":                 {edited(t, "https://user:hunter2@example.com", "summaryAPI", "url"), `summaryAPI.url: Forbidden: must not hold a user name or password: put the credentials into files of a directory, and write the path of the directory into secretDir`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := plan.Parse([]byte(tt.text))
			if err == nil || err.Error() != tt.want {
				t.Errorf("error is\n%v, want\n%s", err, tt.want)
			}
			if got != nil {
				t.Errorf("the plan is %+v although there is an error, want nil", got)
			}
		})
	}
}

func TestReadPlan_RejectsInvalidFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	missing, empty, large := filepath.Join(dir, "missing"), write("empty", ""), write("large", strings.Repeat(" ", 1<<20+1))
	for path, want := range map[string]string{
		missing: "read plan: open " + missing + ": no such file or directory",
		empty:   "plan file " + empty + ": line 1: not valid JSON: unexpected end of JSON input",
		large:   `read plan: "` + large + `" is larger than 1 MiB`,
	} {
		if _, err := plan.Read(path); err == nil || err.Error() != want {
			t.Errorf("error is\n%v, want\n%s", err, want)
		}
	}
}

func FuzzParsePlan_AcceptedPlan_RoundTrips(f *testing.F) {
	text, err := full().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	for _, text := range []string{
		"", "{}", "null", "[]", "\n0\n", `{"seed":1,"seed":2}`, `{"startTime":"x"}`, `{"entry":{"stages":[{"duration":"1s"},{"rate":1e3}]}}`,
		`{"simulation":"a","partitions":1,"queueType":"classic","entry":{"rate":1,"arrivals":"Uniform","replicas":1},` +
			`"exit":{"rate":1,"arrivals":"Uniform","replicas":1,"matchPercent":20,"minStay":"0s"},"maxStay":"1s","processor":{"concurrency":1}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := plan.Parse(text)
		if err != nil {
			if strings.Contains(err.Error(), "\n") || err.Error() == "" {
				t.Fatalf("error %q is not one line", err)
			}
			return
		}
		if p.Partitions < 1 || p.Entry.Rate < 0 || p.Exit.MatchPercent < 0 || p.Exit.MatchPercent > 100 || p.Exit.MinStay >= p.MaxStay {
			t.Fatalf("the invalid plan %+v is accepted", p)
		}
		again, err := p.Marshal()
		if err != nil {
			t.Fatalf("a plan that was read cannot be written: %v", err)
		}
		q, err := plan.Parse(again)
		if err != nil {
			t.Fatalf("a plan that was written cannot be read: %v", err)
		}
		if diff := cmp.Diff(p, q); diff != "" {
			t.Fatalf("read back (-before +after):\n%s", diff)
		}
	})
}
