package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// limit is the maximum time that a step in these tests waits for its progress line.
const limit = 2 * time.Minute

// transcript records what a step prints. After each write, it calls onMatch if the text matches awaited.
type transcript struct {
	text    bytes.Buffer
	awaited *regexp.Regexp
	onMatch func()
}

func (r *transcript) Write(p []byte) (int, error) {
	r.text.Write(p)
	if r.awaited.Match(r.text.Bytes()) {
		r.onMatch()
	}
	return len(p), nil
}

// matches checks that a regular expression matches the whole text.
func (r *transcript) matches(t *testing.T, want string) {
	t.Helper()
	if !regexp.MustCompile("^" + want + "$").Match(r.text.Bytes()) {
		t.Errorf("the step printed\n%s\nwant\n%s", r.text.String(), want)
	}
}

func TestStepsDo_LongStep_PrintsProgressAndResult(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		result error
		last   string
	}{
		"a step that succeeds": {nil, `==> Build it: done in [1-9]\d* s\n`},
		"a step that fails":    {errors.New("broken"), `==> Build it: failed after [1-9]\d* s\n`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seen := make(chan struct{})
			out := &transcript{awaited: regexp.MustCompile(`… Build it: [1-9]`), onMatch: sync.OnceFunc(func() { close(seen) })}
			s := newSteps("", out)
			s.every = 100 * time.Millisecond
			err := s.do("Build it", "30 s", func() error {
				select {
				case <-seen:
				case <-time.After(limit):
				}
				return tt.result
			})
			if !errors.Is(err, tt.result) {
				t.Errorf("the step returned %v, want %v", err, tt.result)
			}
			out.matches(t, `==> Build it \(usually 30 s\)\n(    … Build it: \d+ s\n)*    … Build it: [1-9]\d* s\n(    … Build it: \d+ s\n)*`+tt.last)
		})
	}
}

// The tested command writes one and a half lines, waits until the script prints a progress line, and writes the rest.
func TestStepScript_LongCommand_PrintsProgressAndResult(t *testing.T) {
	t.Parallel()
	const (
		begin  = `==> Build it \(usually 30 s\)\n`
		tick   = `    … Build it: [1-9]\d* s\n`
		told   = `    … Build it: [1-9]\d* s \(first\)\n` // a progress line with the latest line of output
		quiet  = begin + `(` + tick + `)*(` + told + `)+(    … Build it: \d+ s \(second\)\n)*`
		loud   = begin + `(` + tick + `)*first\n(` + tick + `)+second\n(` + tick + `)*`
		done   = `==> Build it: done in [1-9]\d* s\n`
		failed = `==> Build it: failed with exit code 3 after [1-9]\d* s\n`
	)
	for name, tt := range map[string]struct {
		options []string
		code    int
		awaited string // the command waits until step.sh has printed a text that matches this pattern
		want    string
	}{
		"a command that succeeds":       {nil, 0, `first\n` + tick, loud + done},
		"a command that fails":          {nil, 3, `first\n` + tick, loud + failed},
		"a quiet command that succeeds": {[]string{"-q"}, 0, told, quiet + done},
		"a quiet command that fails":    {[]string{"-q"}, 3, told, quiet + `first\nsecond\n` + failed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			command, out := awaiting(t, tt.awaited, tt.code)
			step := exec.CommandContext(t.Context(), "../step.sh", slices.Concat(tt.options, []string{"Build it", "30 s"}, command)...)
			step.Env = append(os.Environ(), "STEP_INTERVAL=1")
			step.Stdout, step.Stderr = out, out
			if code := exitCode(t, step.Run()); code != tt.code {
				t.Errorf("the exit code is %d, want %d", code, tt.code)
			}
			out.matches(t, tt.want)
		})
	}
}

// steps.run runs the command through hack/step.sh, which prints the output.
func TestStepsRun_FailingCommand_PrintsItsOutputAndReturnsItsExitCode(t *testing.T) {
	t.Parallel()
	command, out := awaiting(t, `… Build it: [1-9]\d* s \(first\)\n`, 3)
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "STEP_INTERVAL=1")
	err := newSteps("../..", out).run(t.Context(), "Build it", "30 s", cmd)
	if exitCode(t, err) != 3 || !strings.HasPrefix(err.Error(), "Build it: ") {
		t.Errorf("the step returned %v, want the name of the step and the exit code 3", err)
	}
	out.matches(t, `==> Build it \(usually 30 s\)\n(    … Build it: .*\n)+first\nsecond\n==> Build it: failed with exit code 3 after [1-9]\d* s\n`)
}

// awaiting returns a command that writes two lines and ends with the given exit code. In the middle of the second line,
// it waits until the transcript matches the pattern.
func awaiting(t *testing.T, pattern string, code int) ([]string, *transcript) {
	t.Helper()
	seen := filepath.Join(t.TempDir(), "seen")
	const script = `echo first; printf sec >&2; for ((i = 0; i < $3; i++)); do [[ ! -e $1 ]] || break; sleep .1; done; echo ond; exit "$2"`
	out := &transcript{awaited: regexp.MustCompile(pattern), onMatch: sync.OnceFunc(func() {
		if err := os.WriteFile(seen, nil, 0o600); err != nil {
			t.Error(err)
		}
	})}
	return []string{"bash", "-c", script, "bash", seen, strconv.Itoa(code), strconv.Itoa(int(limit / (100 * time.Millisecond)))}, out
}

// exitCode returns the exit code that an error of exec.Cmd.Run contains, or 0 if the error is nil.
func exitCode(t *testing.T, err error) int {
	t.Helper()
	if err == nil {
		return 0
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return exit.ExitCode()
}
