package main

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/internal/plan"
)

func TestBadInputIsExplainedInOneLine(t *testing.T) {
	t.Parallel()
	const header = "apiVersion: simulation.parking.dev/v1alpha1\nkind: ParkingSimulation\nmetadata: {name: test}\n"
	nobody := closedPort(t)
	tests := []struct {
		name string
		args []string
		want []string // all of them are in the line
	}{
		{"an unknown field is named with the one that was meant",
			[]string{"simulate", "-f", file(t, "m.yaml", header+"spec: {entry: {rte: 5}}")}, []string{"spec.entry.rte", `did you mean "rate"`}},
		{"another kind is named with the right one",
			[]string{"simulate", "-f", file(t, "m.yaml", strings.Replace(header, "ParkingSimulation", "Pod", 1))}, []string{"kind", "Pod", "ParkingSimulation"}},
		{"a negative rate is named with its bounds",
			[]string{"simulate", "-f", manifest(t, "{entry: {rate: -1}}")}, []string{"spec.entry.rate", "-1", "0"}},
		{"a ratio of 101 is named with its bounds",
			[]string{"simulate", "-f", manifest(t, "{exit: {matchPercent: 101}}")}, []string{"spec.exit.matchPercent", "101", "100"}},
		{"a manifest that is not there is named",
			[]string{"simulate", "-f", "nowhere.yaml"}, []string{"nowhere.yaml", "no such file"}},
		{"a folder in place of a manifest is named",
			[]string{"simulate", "-f", "/"}, []string{`read manifest: "/": is a directory`}},
		{"a broker that cannot be reached is named with its address and the remedy",
			[]string{"simulate", "--rabbitmq-uri", "amqp://user:s3cr3t@" + nobody + "/"}, []string{"--rabbitmq-uri", "amqp://" + nobody, "start RabbitMQ there"}},
		{"a store that cannot be reached is named with its address and the remedy",
			[]string{"simulate", "--redis-uri", "redis://:s3cr3t@" + nobody}, []string{"--redis-uri", "redis://" + nobody, "start Redis there"}},
		{"an audit of a store that cannot be reached names it",
			[]string{"audit", "-f", manifest(t, "{}"), "--redis-uri", "redis://:s3cr3t@" + nobody}, []string{"--redis-uri", "redis://" + nobody, "start Redis there"}},
		{"a URI with a bare slash in its password says how to write it",
			[]string{"simulate", "--rabbitmq-uri", "amqp://user:12/s3cr3t@localhost/"}, []string{"--rabbitmq-uri", "RabbitMQ", "%2F", "amqp://user:password@"}},
		{"a URI that cannot be parsed shows how one looks",
			[]string{"simulate", "--redis-uri", "redis://:s3cr3t%zz@localhost"}, []string{"Redis", "%25", "redis://user:password@"}},
		{"another scheme is refused",
			[]string{"audit", "-f", manifest(t, "{}"), "--redis-uri", "http://:s3cr3t@localhost"}, []string{"--redis-uri", "Redis", "redis://"}},
		{"a parameter that is not known is refused",
			[]string{"simulate", "--redis-uri", "redis://:s3cr3t@localhost?foo=1"}, []string{"--redis-uri", "foo", "after its ?"}},
		{"a database that is no number is refused",
			[]string{"simulate", "--redis-uri", "redis://:s3cr3t@localhost/x"}, []string{"--redis-uri", "/0"}},
		{"an API of another scheme is refused",
			[]string{"simulate", "--summary-url", "ftp://user:s3cr3t@localhost"}, []string{"--summary-url", "http://"}},
		{"an API with credentials in its URL is refused with the remedy",
			[]string{"simulate", "--summary-url", "http://user:s3cr3t@localhost/"}, []string{"--summary-url", "--summary-secret"}},
		{"an API that cannot be reached is named with its address and the remedy",
			[]string{"simulate", "--summary-url", "http://" + nobody + "/visits"}, []string{"--summary-url", "http://" + nobody + "/visits", "start the API there"}},
		{"two places for the summaries are refused",
			[]string{"simulate", "--summary-url", "http://localhost/", "--summaries-db", "x.db"}, []string{"--summary-url and --summaries-db", "one place only"}},
		{"credentials for no API are refused",
			[]string{"simulate", "--summary-secret", t.TempDir()}, []string{"--summary-secret", "--summary-url"}},
		{"a folder of credentials that is not there is named",
			[]string{"simulate", "--summary-url", "http://localhost/", "--summary-secret", "/nowhere/s"}, []string{"--summary-secret", "/nowhere/s", "no such file"}},
		{"a folder without credentials is named with what it should hold",
			[]string{"simulate", "--summary-url", "http://localhost/", "--summary-secret", t.TempDir()}, []string{"--summary-secret", "token", "username", "ca.crt"}},
		{"a file in place of a folder of credentials is refused",
			[]string{"simulate", "--summary-url", "http://localhost/", "--summary-secret", file(t, "token", "x")}, []string{"--summary-secret", "not a "}},
		{"a CA that is none is refused",
			[]string{"simulate", "--summary-url", "https://localhost/", "--summary-secret", filepath.Dir(file(t, "ca.crt", "x"))}, []string{"--summary-secret", "ca.crt", "PEM"}},
		{"a duration of nothing is refused with what it would mean", []string{"simulate", "--duration", "0s"}, []string{"--duration", "above 0s", "until Ctrl-C"}},
		{"a manifest without a name is refused", []string{"simulate", "-f", ""}, []string{"--filename", "must name a file", "stdin"}},
		{"a second manifest is refused", []string{"simulate", "-f", "a.yaml", "-f", "b.yaml"}, []string{"--filename", "b.yaml", "one manifest too many", "a.yaml"}},
		{"to keep what is in memory is refused", []string{"simulate", "--keep"}, []string{"--keep", "--rabbitmq-uri", "--redis-uri"}},
		{"a seed below zero is refused", []string{"simulate", "--seed", "-1"}, []string{"--seed", "-1", "must not be negative"}},
		{"a name that servers cannot have is refused", []string{"simulate", "--simulation", "a b"}, []string{"--simulation", "a b", "letters, digits"}},
		{"text in place of a number is named", []string{"simulate", "--seed", "abc"}, []string{"--seed", `"abc"`, "must be a whole number"}},
		{"text in place of a duration is named", []string{"simulate", "--duration", "5"}, []string{"--duration", `"5"`, "must be a duration such as 30s"}},
		{"a flag without its value is named", []string{"simulate", "--duration"}, []string{"--duration needs a value"}},
		{"a short flag that is not there is named", []string{"simulate", "-z"}, []string{"there is no flag -z"}},
		{"text in place of true or false is named", []string{"simulate", "--keep=perhaps"}, []string{"--keep", "true or false"}},
		{"help on an unknown command is refused", []string{"help", "bogus"}, []string{"bogus", "parking help --help"}},
		{"help on an unknown part is refused", []string{"help", "generate", "bogus"}, []string{"parking generate", "bogus"}},
		{"a command that is nearly right is named with the one that was meant", []string{"simulat"}, []string{`did you mean "simulate"`}},
		{"purge asks what to remove", []string{"purge", "--redis-uri", "redis://" + nobody}, []string{"--simulation", "-f"}},
		{"purge asks from where to remove it", []string{"purge", "--simulation", "x"}, []string{"--rabbitmq-uri", "PARKING_RABBITMQ_URI", "--redis-uri"}},
		{"purge refuses a name that servers cannot have", []string{"purge", "--simulation", "a/b", "--redis-uri", "redis://" + nobody}, []string{"simulation", "a/b"}},
		{"purge names a server that cannot be reached",
			[]string{"purge", "--simulation", "x", "--rabbitmq-uri", "amqp://u:s3cr3t@" + nobody}, []string{"--rabbitmq-uri", "amqp://" + nobody, "start RabbitMQ there"}},
		{"a negative duration is refused", []string{"simulate", "--duration", "-1s"}, []string{"--duration", "above 0s"}},
		{"a drain timeout of nothing is refused", []string{"simulate", "--drain-timeout", "0s"}, []string{"--drain-timeout", "above 0s"}},
		{"a negative seed is refused", []string{"simulate", "--seed", "-3"}, []string{"seed", "-3"}},
		{"a name that servers cannot have is refused", []string{"simulate", "--simulation", "a/b"}, []string{"simulation", "a/b"}},
		{"an unknown format is refused", []string{"simulate", "--output", "xml"}, []string{"--output", "table or json"}},
		{"an unknown level is refused", []string{"simulate", "--log-level", "loud"}, []string{"--log-level", "debug, info, warn or error"}},
		{"an address that cannot be listened at is named", []string{"simulate", "--http", "127.0.0.1:99999"}, []string{"listen for HTTP at 127.0.0.1:99999: address 99999: invalid port", "--http"}},
		{"an unknown flag is named", []string{"simulate", "--bogus"}, []string{"--bogus", "parking simulate --help"}},
		{"an unknown command is named", []string{"bogus"}, []string{"bogus", "parking --help"}},
		{"an argument too many is named", []string{"simulate", "bogus"}, []string{"bogus", "parking simulate --help"}},
		{"generate asks what to generate", []string{"generate"}, []string{"parking generate entry", "parking generate exit"}},
		{"generate asks for its plan", []string{"generate", "entry"}, []string{"plan", "parking generate entry --help"}},
		{"process asks for its plan", []string{"process"}, []string{"plan", "parking process --help"}},
		{"a plan that is not there is named", []string{"process", "--plan", "nowhere.json"}, []string{"nowhere.json", "no such file"}},
		{"a plan with an unknown field names it", []string{"process", "--plan", file(t, "plan.json", `{"partition":1}`)}, []string{"partition", `did you mean "partitions"`}},
		{"a service without an address is refused", []string{"summaries", "--http", ""}, []string{"--http", "127.0.0.1:0"}},
		{"a grace period of nothing is refused", []string{"process", "--plan", "x", "--grace-period", "0s"}, []string{"--grace-period", "above 0s"}},
		{"an audit asks what to audit", []string{"audit"}, []string{"--simulation", "-f"}},
		{"an audit asks for the store", []string{"audit", "-f", manifest(t, "{}")}, []string{"--redis-uri", "PARKING_REDIS_URI"}},
		{"a database that cannot be opened is named", []string{"summaries", "--http", "127.0.0.1:0", "--database", "/nowhere/x.db"}, []string{"/nowhere/x.db", "folder must exist"}},
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
					t.Errorf("stderr speaks as a library does, %q: %s", word, got.stderr)
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

func TestAPlanWithoutServersIsRefused(t *testing.T) {
	t.Parallel()
	without := planWith(t, nil)
	path := filepath.Join(t.TempDir(), "plan.json")
	if err := without.Write(path); err != nil {
		t.Fatal(err)
	}
	got := parking(t, "process", "--plan", path)
	if want := "plan file " + path + ": the plan does not say where RabbitMQ is"; got.code != exitBadInput || !strings.Contains(got.stderr, want) {
		t.Errorf("exit code %d, want %d and %q: %s", got.code, exitBadInput, want, got.stderr)
	}
}

func TestAnAddressInAPlanIsRefusedWithTheNameOfTheFile(t *testing.T) {
	t.Parallel()
	faulty := planWith(t, func(p *plan.Plan) {
		p.RabbitMQ.URI, p.Redis.URI = "amqp://localhost", "redis://:s3cr3t@localhost/x"
	})
	path := filepath.Join(t.TempDir(), "plan.json")
	if err := faulty.Write(path); err != nil {
		t.Fatal(err)
	}
	got := parking(t, "process", "--plan", path)
	if want := "plan file " + path + ": redis: "; got.code != exitBadInput || !strings.Contains(got.stderr, want) || strings.Contains(got.stderr, "s3cr3t") {
		t.Errorf("exit code %d, want %d, %q and no password: %s", got.code, exitBadInput, want, got.stderr)
	}
}

// closedPort is an address at which nobody listens.
func closedPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
