package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/plan/plantest"
	"github.com/parking-operator/parking-operator/test/servers"
)

func TestBadInput_PrintsOneLine(t *testing.T) {
	t.Parallel()
	const header = "apiVersion: simulation.parking.dev/v1alpha1\nkind: ParkingSimulation\nmetadata: {name: test}\n"
	closed := servers.FreeAddress(t)
	tests := []struct {
		name string
		args []string
		want []string // substrings of the error message
	}{
		{"unknown field suggests a similar one",
			[]string{"simulate", "-f", file(t, "m.yaml", header+"spec: {entry: {rte: 5}}")}, []string{"spec.entry.rte", `did you mean "rate"`}},
		{"unknown flag suggests a similar one",
			[]string{"simulate", "--durations", "5s"}, []string{"unknown flag --durations: did you mean --duration?"}},
		{"abbreviated flag suggests the whole one",
			[]string{"simulate", "--drain", "5s"}, []string{"unknown flag --drain: did you mean --drain-timeout?"}},
		{"unknown flag without a similar one",
			[]string{"simulate", "--frobnicate"}, []string{"unknown flag --frobnicate; see"}},
		{"duration shorter than the faults names the last one",
			[]string{"simulate", "-f", manifestFile(t, `{faults: [{name: a, target: Redis, action: Kill, at: 1m}, {name: b, target: Redis, action: Pause, at: 50s, jitter: 5s, for: 20s}]}`), "--duration", "1m"},
			[]string{`parking: --duration: 1m is too short: fault "b" of the manifest ends 1m15s after the start: raise --duration to 1m25s`}},
		{"wrong kind names the right one",
			[]string{"simulate", "-f", file(t, "m.yaml", strings.Replace(header, "ParkingSimulation", "Pod", 1))}, []string{"kind", "Pod", "ParkingSimulation"}},
		{"negative rate names its bounds",
			[]string{"simulate", "-f", manifestFile(t, "{entry: {rate: -1}}")}, []string{"spec.entry.rate", "-1", "0"}},
		{"match percentage of 101 names its bounds",
			[]string{"simulate", "-f", manifestFile(t, "{exit: {matchPercent: 101}}")}, []string{"spec.exit.matchPercent", "101", "100"}},
		{"missing manifest is named",
			[]string{"simulate", "-f", "nowhere.yaml"}, []string{"nowhere.yaml", "no such file"}},
		{"directory instead of a manifest is named",
			[]string{"simulate", "-f", "/"}, []string{`read manifest: "/" is a directory: give one file, such as "/simulation.yaml"`}},
		{"URL instead of a manifest is rejected with the alternative",
			[]string{"simulate", "-f", "https://user:s3cr3t@example.com/m.yaml"}, []string{"--filename: ", "must be of the form FILE; it looks like a URI; download the file and give its path"}},
		{"unreachable broker is named with address and remedy",
			[]string{"simulate", "--rabbitmq-uri", "amqp://user:s3cr3t@" + closed + "/"}, []string{"--rabbitmq-uri", "amqp://" + closed, "start RabbitMQ there"}},
		{"unreachable store is named with address and remedy",
			[]string{"simulate", "--redis-uri", "redis://:s3cr3t@" + closed}, []string{"--redis-uri", "redis://" + closed, "start Redis there"}},
		{"audit names an unreachable store",
			[]string{"audit", "-f", manifestFile(t, "{}"), "--redis-uri", "redis://:s3cr3t@" + closed}, []string{"--redis-uri", "redis://" + closed, "start Redis there"}},
		{"slash in a password says how to escape it",
			[]string{"simulate", "--rabbitmq-uri", "amqp://user:12/s3cr3t@localhost/"}, []string{"--rabbitmq-uri", "RabbitMQ", "%2F", "amqp://user:password@"}},
		{"malformed URI shows an example",
			[]string{"simulate", "--redis-uri", "redis://:s3cr3t%zz@localhost"}, []string{"Redis", "%25", "redis://user:password@"}},
		{"wrong scheme is rejected",
			[]string{"audit", "-f", manifestFile(t, "{}"), "--redis-uri", "http://:s3cr3t@localhost"}, []string{"--redis-uri", "Redis", "redis://"}},
		{"unknown URI parameter is rejected",
			[]string{"simulate", "--redis-uri", "redis://:s3cr3t@localhost?foo=1"}, []string{"--redis-uri", "unknown parameter", "after the ?"}},
		{"database that is not a number is rejected",
			[]string{"simulate", "--redis-uri", "redis://:s3cr3t@localhost/x"}, []string{"--redis-uri", "/0"}},
		{"summary URL with a wrong scheme is rejected",
			[]string{"simulate", "--summary-url", "ftp://user:s3cr3t@localhost"}, []string{"--summary-url", "http://"}},
		{"summary URL with credentials is rejected with the remedy",
			[]string{"simulate", "--summary-url", "http://user:s3cr3t@localhost/"}, []string{"--summary-url", "--summary-secret"}},
		{"unreachable summary API is named with address and remedy",
			[]string{"simulate", "--summary-url", "http://" + closed + "/visits"}, []string{"--summary-url", "http://" + closed + "/visits", "start the API there"}},
		{"two destinations of summaries are rejected",
			[]string{"simulate", "--summary-url", "http://localhost/", "--summaries-db", "x.db"}, []string{"--summary-url and --summaries-db", "cannot be combined"}},
		{"credentials without an API are rejected",
			[]string{"simulate", "--summary-secret", t.TempDir()}, []string{"--summary-secret", "--summary-url"}},
		{"missing credentials directory is named",
			[]string{"simulate", "--summary-url", "http://localhost/", "--summary-secret", "/nowhere/s"}, []string{"--summary-secret", "/nowhere/s", "no such file"}},
		{"empty credentials directory lists the expected files",
			[]string{"simulate", "--summary-url", "http://localhost/", "--summary-secret", t.TempDir()}, []string{"--summary-secret", "token", "username", "ca.crt"}},
		{"file instead of a credentials directory is rejected",
			[]string{"simulate", "--summary-url", "http://localhost/", "--summary-secret", file(t, "token", "x")}, []string{"--summary-secret", "not a "}},
		{"invalid CA is rejected",
			[]string{"simulate", "--summary-url", "https://localhost/", "--summary-secret", filepath.Dir(file(t, "ca.crt", "x"))}, []string{"--summary-secret", "ca.crt", "PEM"}},
		{"duration of 0s is rejected with the alternative", []string{"simulate", "--duration", "0s"}, []string{"--duration", "above 0s", "until Ctrl-C"}},
		{"empty path of a manifest is rejected", []string{"simulate", "-f", ""}, []string{"--filename", "must be a file", "stdin"}},
		{"second manifest is rejected", []string{"simulate", "-f", "a.yaml", "-f", "b.yaml"}, []string{"--filename", "b.yaml", "only one is allowed", "a.yaml"}},
		{"keep without servers is rejected", []string{"simulate", "--keep"}, []string{"--keep", "--rabbitmq-uri", "--redis-uri"}},
		{"seed -1 is rejected", []string{"simulate", "--seed", "-1"}, []string{"--seed", "-1", "must not be negative"}},
		{"simulation name with a space is rejected", []string{"simulate", "--simulation", "a b"}, []string{"--simulation", "letters, digits"}},
		{"text instead of a number is quoted", []string{"simulate", "--seed", "abc"}, []string{"--seed", `"abc"`, "must be a whole number"}},
		{"text instead of a duration is quoted", []string{"simulate", "--duration", "5"}, []string{"--duration", `"5"`, "must be a duration such as 30s"}},
		{"flag without a value is named", []string{"simulate", "--duration"}, []string{"--duration needs a value"}},
		{"unknown short flag is named", []string{"simulate", "-z"}, []string{"unknown flag -z"}},
		{"text instead of a boolean is named", []string{"simulate", "--keep=perhaps"}, []string{"--keep", "true or false"}},
		{"help of an unknown command is rejected", []string{"help", "bogus"}, []string{"bogus", "parking help --help"}},
		{"help of an unknown subcommand is rejected", []string{"help", "generate", "bogus"}, []string{"parking generate", "bogus"}},
		{"misspelled command suggests a similar one", []string{"simulat"}, []string{`did you mean "simulate"`}},
		{"purge needs a simulation", []string{"purge", "--redis-uri", "redis://" + closed}, []string{"--simulation", "-f"}},
		{"purge needs a server", []string{"purge", "--simulation", "x"}, []string{"--rabbitmq-uri", "PARKING_RABBITMQ_URI", "--redis-uri"}},
		{"purge rejects an invalid name", []string{"purge", "--simulation", "a/b", "--redis-uri", "redis://" + closed}, []string{"simulation", "a/b"}},
		{"purge names an unreachable server",
			[]string{"purge", "--simulation", "x", "--rabbitmq-uri", "amqp://u:s3cr3t@" + closed}, []string{"--rabbitmq-uri", "amqp://" + closed, "start RabbitMQ there"}},
		{"negative duration is rejected", []string{"simulate", "--duration", "-1s"}, []string{"--duration", "above 0s"}},
		{"drain timeout of 0s is rejected", []string{"simulate", "--drain-timeout", "0s"}, []string{"--drain-timeout", "above 0s"}},
		{"negative drain timeout is shown as it is written", []string{"simulate", "--drain-timeout", "-60s"}, []string{"--drain-timeout: must be above 0s, got -60s"}},
		{"duration of simulate is shown as it is written", []string{"simulate", "--duration", "-60s"}, []string{"--duration: must be above 0s, got -60s; omit"}},
		{"duration in a message about a field is shown as it is written", []string{"simulate", "--duration", "525601m"}, []string{`spec.duration: Invalid value: "525601m": must be`}},
		{"duration of a plan is shown as it is written", []string{"plan", "--rate", "5", "--max-stay", "-60s"}, []string{"--max-stay: -60s must be a duration up to 8760h"}},
		{"grace period is shown as it is written", []string{"process", "--plan", "x", "--grace-period", "-60s"}, []string{"--grace-period: must be above 0s, got -60s"}},
		{"negative seed is rejected", []string{"simulate", "--seed", "-3"}, []string{"seed", "-3"}},
		{"simulation name with a slash is rejected", []string{"simulate", "--simulation", "a/b"}, []string{"simulation", "a/b"}},
		{"unknown format is rejected", []string{"simulate", "--output", "xml"}, []string{"--output", "table or json"}},
		{"unknown log level is rejected", []string{"simulate", "--log-level", "loud"}, []string{"--log-level", "debug, info, warn or error"}},
		{"invalid HTTP address is named", []string{"simulate", "--http", "127.0.0.1:99999"}, []string{"listen for HTTP at 127.0.0.1:99999: address 99999: invalid port", "--http"}},
		{"unknown flag is named", []string{"simulate", "--bogus"}, []string{"--bogus", "parking simulate --help"}},
		{"unknown command is named", []string{"bogus"}, []string{"bogus", "parking --help"}},
		{"unexpected argument is named", []string{"simulate", "bogus"}, []string{"bogus", "parking simulate --help"}},
		{"generate needs a type", []string{"generate"}, []string{"parking generate entry", "parking generate exit"}},
		{"generate needs a plan", []string{"generate", "entry"}, []string{"plan", "parking generate entry --help"}},
		{"process needs a plan", []string{"process"}, []string{"plan", "parking process --help"}},
		{"missing plan is named", []string{"process", "--plan", "nowhere.json"}, []string{"nowhere.json", "no such file"}},
		{"unknown field of a plan suggests a similar one", []string{"process", "--plan", file(t, "plan.json", `{"partition":1}`)}, []string{"partition", `did you mean "partitions"`}},
		{"empty HTTP address is rejected", []string{"summaries", "--http", ""}, []string{"--http", "127.0.0.1:0"}},
		{"grace period of 0s is rejected", []string{"process", "--plan", "x", "--grace-period", "0s"}, []string{"--grace-period", "above 0s"}},
		{"audit needs a simulation", []string{"audit"}, []string{"--simulation", "-f"}},
		{"audit needs a store", []string{"audit", "-f", manifestFile(t, "{}")}, []string{"--redis-uri", "PARKING_REDIS_URI"}},
		{"two databases are rejected", []string{"summaries", "--database", "x.db", "--database-uri", "postgres://u:s3cr3t@localhost/d"}, []string{"--database and --database-uri cannot be combined"}},
		{"schema needs PostgreSQL", []string{"summaries", "--database-schema", "s"}, []string{"--database-schema", "--database-uri"}},
		{"invalid schema name is rejected", []string{"summaries", "--database-uri", "postgres://u:s3cr3t@" + closed + "/d", "--database-schema", "A-b"}, []string{`--database-schema: the schema name "A-b"`, "lower-case letters"}},
		{"invalid schema name with a Secret is rejected", []string{"summaries", "--database-secret", filepath.Dir(file(t, "host", "localhost")), "--database-schema", "a b"}, []string{`parking: --database-schema: the schema name "a b"`}},
		{"database that differs from the one in the URI is rejected",
			[]string{"summaries", "--database-uri", "postgres://u:s3cr3t@" + closed + "/d", "--database-secret", filepath.Dir(file(t, "database", "e"))},
			[]string{"parking: --database-secret: ", `key "database" differs from the path of the URI: remove one`}},
		{"number of a Redis database that differs from the one in the URI is rejected",
			[]string{"purge", "--simulation", "x", "--redis-uri", "redis://:s3cr3t@" + closed + "/1", "--redis-secret", filepath.Dir(file(t, "database", "2"))},
			[]string{"parking: --redis-secret: ", `key "database" differs from the path of the URI: remove one`}},
		{"PostgreSQL URI without a user name is rejected", []string{"summaries", "--database-uri", "postgres://" + closed + "/d"}, []string{"--database-uri: ", "has no user name"}},
		{"migration to a closed port is rejected", []string{"summaries", "migrate", "--from", sqliteFile(t), "--database-uri", "postgres://u:s3cr3t@" + closed + "/d"}, []string{closed + "/d cannot be reached"}},
		{"migration of an empty file is rejected", []string{"summaries", "migrate", "--from", file(t, "empty.db", ""), "--database-uri", "postgres://u:s3cr3t@" + closed + "/d"}, []string{"--from: ", "empty.db is empty"}},
		{"rate that overflows names the valid range", []string{"plan", "--rate", "99999999999999999999"}, []string{`--rate: "99999999999999999999" must be from 1 to 100000000 events per second`}},
		{"seed that overflows names the valid range", []string{"simulate", "--seed", "99999999999999999999"}, []string{`--seed: "99999999999999999999" must be a whole number up to 9223372036854775807`}},
		{"URI without a scheme is rejected", []string{"simulate", "--redis-uri", closed}, []string{"--redis-uri: ", "does not begin with redis:// or rediss://"}},
		{"invalid PostgreSQL URI shows an example", []string{"summaries", "--database-uri", "mysql://u:s3cr3t@localhost/d"}, []string{"--database-uri", "postgres://user:password@"}},
		{"invalid parameter of a PostgreSQL URI is not quoted", []string{"summaries", "--database-uri", "postgres://u:s3cr3t@localhost/d?sslmode=s3cr3t"}, []string{"--database-uri", "check sslmode"}},
		{"missing source of a migration is named", []string{"summaries", "migrate", "--from", "/nowhere/x.db", "--database-uri", "postgres://u:s3cr3t@" + closed + "/d"}, []string{"--from", "/nowhere/x.db", "no such file"}},
		{"migration without a source is rejected", []string{"summaries", "migrate"}, []string{"--from FILE is missing", "see 'parking summaries migrate --help'"}},
		{"migration without a target is rejected", []string{"summaries", "migrate", "--from", "x.db"}, []string{"--database-uri or --database-secret is required"}},
		{"directory that is not there is named", []string{"summaries", "--database-secret", "/nowhere"}, []string{"--database-secret", "/nowhere", "check that the Secret is mounted there"}},
		{"database of simulate that cannot be opened is named", []string{"simulate", "--duration", "1s", "--http", "", "--summaries-db", "/nowhere/x.db"}, []string{"--summaries-db: ", "/nowhere/x.db", "create its directory"}},
		{"database of simulate that is a directory is named", []string{"simulate", "--duration", "1s", "--http", "", "--summaries-db", "/tmp"}, []string{"--summaries-db: ", "/tmp is a directory; give the path of a file, such as /tmp/summaries.db"}},
		{"database that is a directory is named", []string{"summaries", "--http", "127.0.0.1:0", "--database", "/tmp"}, []string{"--database: ", "/tmp is a directory; give the path of a file, such as /tmp/summaries.db"}},
		{"database that cannot be opened is named", []string{"summaries", "--http", "127.0.0.1:0", "--database", "/nowhere/x.db"}, []string{"--database: ", "/nowhere/x.db", "create its directory"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := parking(t, tt.args...)
			if got.code != exitBadInput {
				t.Errorf("exit code %d, want %d", got.code, exitBadInput)
			}
			if got.stdout != "" {
				t.Errorf("stdout is not empty: %s", got.stdout)
			}
			if strings.Count(got.stderr, "\n") != 1 || !strings.HasPrefix(got.stderr, "parking: ") {
				t.Errorf("stderr is not one line:\n%s", got.stderr)
			}
			for _, word := range []string{"strconv", "time: ", "group [", "flag(s)"} {
				if strings.Contains(got.stderr, word) {
					t.Errorf("stderr quotes a library, %q: %s", word, got.stderr)
				}
			}
			for _, want := range tt.want {
				if !strings.Contains(got.stderr, want) {
					t.Errorf("stderr does not say %q: %s", want, got.stderr)
				}
			}
			if strings.Contains(got.stderr, "s3cr3t") {
				t.Errorf("stderr holds the password: %s", got.stderr)
			}
		})
	}
}

func TestProcessCommand_PlanWithoutServers_IsBadInput(t *testing.T) {
	t.Parallel()
	serverless := planWith(t, nil)
	path := filepath.Join(t.TempDir(), "plan.json")
	if err := plantest.Write(serverless, path); err != nil {
		t.Fatal(err)
	}
	got := parking(t, "process", "--plan", path)
	if want := "plan file " + path + ": the plan has no binding for RabbitMQ"; got.code != exitBadInput || !strings.Contains(got.stderr, want) {
		t.Errorf("exit code %d, want %d and %q: %s", got.code, exitBadInput, want, got.stderr)
	}
}

func TestProcessCommand_InvalidURIInPlan_NamesTheFile(t *testing.T) {
	t.Parallel()
	faulty := planWith(t, func(p *plan.Plan) {
		p.RabbitMQ.URI, p.Redis.URI = "amqp://localhost", "redis://:s3cr3t@localhost/x"
	})
	path := filepath.Join(t.TempDir(), "plan.json")
	if err := plantest.Write(faulty, path); err != nil {
		t.Fatal(err)
	}
	got := parking(t, "process", "--plan", path)
	if want := "plan file " + path + ": redis: "; got.code != exitBadInput || !strings.Contains(got.stderr, want) || strings.Contains(got.stderr, "s3cr3t") {
		t.Errorf("exit code %d, want %d, %q and no password: %s", got.code, exitBadInput, want, got.stderr)
	}
}

// sqliteFile returns the path of an SQLite file without summaries.
func sqliteFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "summaries.db")
	db, err := openSQLite(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBadInput_URIFromEnvironment_NamesTheVariable(t *testing.T) {
	t.Parallel()
	closed := servers.FreeAddress(t)
	for _, tt := range []struct {
		variable, uri string
		args          []string
	}{
		{envRabbitMQ, "http://u:s3cr3t@" + closed, []string{"purge", "--simulation", "x"}},
		{envRedis, "redis://u:s3cr3t@" + closed, []string{"audit", "--simulation", "x"}},
		{envRedis, closed, []string{"simulate", "--http", ""}},
		{envDatabase, "http://u:s3cr3t@" + closed, []string{"summaries"}},
	} {
		if got := parkingWith(t, []string{tt.variable + "=" + tt.uri}, tt.args...); got.code != exitBadInput || !strings.HasPrefix(got.stderr, "parking: "+tt.variable+": ") || strings.Contains(got.stderr, "s3cr3t") {
			t.Errorf("%v with %s: exit code %d: %s", tt.args, tt.variable, got.code, got.stderr)
		}
	}
}

// If stdout is full, every command exits with the code for a failure, not with the code for invalid input.
func TestExecute_StdoutIsFull_ExitsWithFailure(t *testing.T) {
	t.Parallel()
	for _, args := range []string{
		"", "help", "help plan", "plan --help", "--version", "version", "completion bash", "completion fish",
		"plan --rate 5", "plan --rate 5 -o json", "plan --rate 5 -o yaml", "plan --rate 5 -o manifest",
	} {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		r := &running{cmd: command(ctx, t, strings.Fields(args)...)}
		r.cmd.Stdout, r.cmd.Stderr = full, &r.stderr
		if err := r.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		got := wait(t, r)
		_ = full.Close() // ignore the error: this process has written nothing to the file
		if want := "parking: write /dev/stdout: no space left on device\n"; got.code != exitFailed || got.stderr != want {
			t.Errorf("parking %s: exit code %d, want %d and %q: %s", args, got.code, exitFailed, want, got.stderr)
		}
	}
}
