package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRun(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		events  string
		servers string
		want    string
		failed  bool
	}{
		{
			name: "a package that passes is one line, and its servers are in the table",
			events: `
{"Action":"run","Package":"p/a","Test":"TestX"}
{"Action":"output","Package":"p/a","Test":"TestX","Output":"=== RUN   TestX\n"}
{"Action":"output","Package":"p/a","Test":"TestX","Output":"    a_test.go:1: chatter\n"}
{"Action":"pass","Package":"p/a","Test":"TestX"}
{"Action":"output","Package":"p/a","Output":"PASS\n"}
{"Action":"output","Package":"p/a","Output":"ok  \tp/a\t0.1s\n"}
{"Action":"pass","Package":"p/a"}
{"Action":"output","Package":"p/b","Output":"?   \tp/b\t[no test files]\n"}
{"Action":"skip","Package":"p/b"}
`,
			servers: "server\tp/a\tRedis\t7.0.15\tredis://127.0.0.1:1\n" +
				"server\tp/a\tRedis\t7.0.15\tredis://127.0.0.1:2\n" +
				"skip\tp/a\tTestY\tnot installed\n" +
				"server\tp/a\tRabbitMQ\t3.10.8\tamqp://127.0.0.1:3/\n",
			want: `ok  	p/a	0.1s
?   	p/b	[no test files]

RAN AGAINST  VERSION  INSTANCES  PACKAGE
RabbitMQ     3.10.8   1          p/a
Redis        7.0.15   2          p/a

Tests: 1 passed, 0 failed, 0 skipped. Packages: 1 passed, 0 failed, 1 without tests.
`,
		},
		{
			name: "a skipped test is named with its reason",
			events: `
{"Action":"output","Package":"p/a","Test":"TestX","Output":"=== RUN   TestX\n"}
{"Action":"output","Package":"p/a","Test":"TestX","Output":"    a_test.go:12: rabbitmq-server is not in PATH: apt-get install it\n"}
{"Action":"output","Package":"p/a","Test":"TestX","Output":"--- SKIP: TestX (0.00s)\n"}
{"Action":"skip","Package":"p/a","Test":"TestX"}
{"Action":"output","Package":"p/a","Test":"TestY","Output":"--- SKIP: TestY (0.00s)\n"}
{"Action":"skip","Package":"p/a","Test":"TestY"}
{"Action":"output","Package":"p/a","Output":"ok  \tp/a\t0.1s\n"}
{"Action":"pass","Package":"p/a"}
`,
			want: `ok  	p/a	0.1s

No test ran against a server.

SKIPPED TestX in p/a: rabbitmq-server is not in PATH: apt-get install it
SKIPPED TestY in p/a: no reason given
Tests: 0 passed, 0 failed, 2 skipped. Packages: 1 passed, 0 failed, 0 without tests.
`,
		},
		{
			name: "a failed test's output is printed, a passed one's is not",
			events: `
{"Action":"output","Package":"p/a","Test":"TestGood","Output":"    a_test.go:1: chatter\n"}
{"Action":"pass","Package":"p/a","Test":"TestGood"}
{"Action":"output","Package":"p/a","Test":"TestBad","Output":"=== RUN   TestBad\n"}
{"Action":"output","Package":"p/a","Test":"TestBad","Output":"    a_test.go:2: got 1, want 2\n"}
{"Action":"output","Package":"p/a","Test":"TestBad","Output":"--- FAIL: TestBad (0.00s)\n"}
{"Action":"fail","Package":"p/a","Test":"TestBad"}
{"Action":"output","Package":"p/a","Output":"FAIL\n"}
{"Action":"output","Package":"p/a","Output":"FAIL\tp/a\t0.1s\n"}
{"Action":"fail","Package":"p/a"}
`,
			want: `    a_test.go:2: got 1, want 2
--- FAIL: TestBad (0.00s)
FAIL
FAIL	p/a	0.1s

No test ran against a server.

Tests: 1 passed, 1 failed, 0 skipped. Packages: 0 passed, 1 failed, 0 without tests.
`,
			failed: true,
		},
		{
			name: "what a test wrote before the binary crashed is printed",
			events: `
{"Action":"output","Package":"p/a","Test":"TestCrash","Output":"panic: out of order\n"}
{"Action":"output","Package":"p/a","Output":"FAIL\tp/a\t0.1s\n"}
{"Action":"fail","Package":"p/a"}
`,
			want: `panic: out of order
FAIL	p/a	0.1s

No test ran against a server.

Tests: 0 passed, 0 failed, 0 skipped. Packages: 0 passed, 1 failed, 0 without tests.
`,
			failed: true,
		},
		{
			name: "a package that does not compile is a failure, with the compiler's message",
			events: `
{"ImportPath":"p/a","Action":"build-output","Output":"# p/a\n"}
{"ImportPath":"p/a","Action":"build-output","Output":"a.go:3:1: syntax error\n"}
{"ImportPath":"p/a","Action":"build-fail"}
{"Action":"output","Package":"p/a","Output":"FAIL\tp/a [build failed]\n"}
{"Action":"fail","Package":"p/a","FailedBuild":"p/a"}
`,
			want: `# p/a
a.go:3:1: syntax error
FAIL	p/a [build failed]

No test ran against a server.

Tests: 0 passed, 0 failed, 0 skipped. Packages: 0 passed, 1 failed, 0 without tests.
`,
			failed: true,
		},
		{
			name:   "a line of go's own is printed as it is",
			events: "\ngo: downloading example.com/m v1.0.0\n",
			want: `go: downloading example.com/m v1.0.0

No test ran against a server.

Tests: 0 passed, 0 failed, 0 skipped. Packages: 0 passed, 0 failed, 0 without tests.
`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			servers := filepath.Join(t.TempDir(), "servers")
			if err := os.WriteFile(servers, []byte(tt.servers), 0o600); err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			failed, err := run(strings.NewReader(tt.events[1:]), &out, servers)
			if err != nil {
				t.Fatal(err)
			}
			if failed != tt.failed {
				t.Errorf("failed = %t, want %t", failed, tt.failed)
			}
			if diff := cmp.Diff(tt.want, out.String()); diff != "" {
				t.Errorf("the output differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAMissingFileOfServersIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := run(strings.NewReader(""), &strings.Builder{}, filepath.Join(t.TempDir(), "none")); err == nil {
		t.Fatal("no error")
	}
}
