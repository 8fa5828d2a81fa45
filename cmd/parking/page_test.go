package main

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/test/servers"
)

func TestPageURL_ReplacesWildcardAddresses(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"127.0.0.1:8080": "http://127.0.0.1:8080/",
		"[::1]:8080":     "http://[::1]:8080/",
		"0.0.0.0:8080":   "http://localhost:8080/",
		"[::]:8080":      "http://localhost:8080/",
	} {
		if got := pageURL(address); got != want {
			t.Errorf("the URL for %s is %s, want %s", address, got, want)
		}
	}
}

func TestBrowserCommand_LastArgumentIsTheURL(t *testing.T) {
	t.Parallel()
	for _, system := range []string{"linux", "darwin", "windows", "freebsd"} {
		if c := browserCommand(system, "http://x/"); len(c) < 2 || c[len(c)-1] != "http://x/" {
			t.Errorf("the command for %s is %q", system, c)
		}
	}
}

func TestOpenPage_Failure_PrintsAWarningWithTheURL(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "xdg-open"), []byte("#!/bin/sh\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	var out bytes.Buffer
	openPage(t.Context(), &out, "http://127.0.0.1:1/")
	if got := out.String(); !strings.Contains(got, "exit status 3") || !strings.Contains(got, "http://127.0.0.1:1/") {
		t.Errorf("the warning is %q", got)
	}
}

// A fake program in the place of the browser records its arguments.
func TestSimulate_OpenFlag_OpensTheLivePage(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dir := t.TempDir()
	opener := browserCommand(runtime.GOOS, "")[0]
	if err := os.WriteFile(filepath.Join(dir, opener), []byte("#!/bin/sh\nprintf '%s\\n' \"$@\" >\"${0%/*}/opened.new\" && mv \"${0%/*}/opened.new\" \"${0%/*}/opened\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	address := servers.FreeAddress(t)
	r := &running{cmd: command(ctx, t, "simulate", "-f", manifestFile(t, calm), "--http", address, "--open")}
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, &r.stderr
	r.checkTempFiles(t)
	r.cmd.Env = append(r.cmd.Env, "PATH="+dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var opened string
	polltest.UntilNoError(t, "the browser is started", func() error {
		content, err := os.ReadFile(filepath.Join(dir, "opened"))
		opened = strings.TrimSpace(string(content))
		return err
	})
	if want := "http://" + address + "/"; opened != want {
		t.Errorf("the browser opens %q, want %q", opened, want)
	}
	if body, err := get(ctx, opened); err != nil || !strings.Contains(body, "<!doctype html>") {
		t.Errorf("the browser receives %.200q: %v", body, err)
	}
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if stderr := wait(t, r).stderr; strings.Contains(stderr, "--open") {
		t.Errorf("there is a warning:\n%s", stderr)
	}
}

func TestSimulate_HTTPFlag_ServesTheLivePage(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	address := servers.FreeAddress(t)
	r := start(ctx, t, "simulate", "-f", manifestFile(t, calm), "--http", address)
	untilBusy(ctx, t, address)
	for path, want := range map[string]string{"/": "<!doctype html>", "/v1/state": `"phase":"running"`, "/v1/timeline": `{"rows":[`, "/v1/stats": `"count"`} {
		body, err := get(ctx, "http://"+address+path)
		if err != nil || !strings.Contains(body, want) {
			t.Errorf("%s: %v, %.200q, want %q", path, err, body, want)
		}
	}
	rejectsRequestsOfOtherSites(ctx, t, address)
	rejectsOtherHosts(ctx, t, address, "/metrics", "/healthz", "/readyz", "/v1/summaries", "/v1/stats", "/v1/state", "/openapi.json", "/none")
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if stderr := wait(t, r).stderr; !strings.Contains(stderr, "live page  http://"+address+"/") {
		t.Errorf("stderr does not name the page:\n%s", stderr)
	}
}

// rejectsOtherHosts checks that a server answers only requests for its own host names, which prevents DNS rebinding by
// malicious web sites.
func rejectsOtherHosts(ctx context.Context, t *testing.T, address string, paths ...string) {
	t.Helper()
	for _, path := range paths {
		for host, isOwn := range map[string]bool{"evil.example": false, "localhost.": true} {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			request.Host = host
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if isRejected := response.StatusCode == http.StatusForbidden; isRejected == isOwn {
				t.Errorf("%s with the host %s is answered %s", path, host, response.Status)
			}
		}
	}
}

// rejectsRequestsOfOtherSites checks that the live page at an address does not answer requests that a malicious web site
// can make a browser send.
func rejectsRequestsOfOtherSites(ctx context.Context, t *testing.T, address string) {
	t.Helper()
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, path := range []string{"/", "/assets/app.js", "/v1/state", "/v1/timeline", "/v1/events", "//v1/state", "/x/../v1/state", "/%2e%2e/v1/state", "/v1/state%00", "/assets/..%2fv1%2fstate"} {
		for name, change := range map[string]func(*http.Request){
			"another host":   func(r *http.Request) { r.Host = "evil.example" },
			"another origin": func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") },
			"another method": func(r *http.Request) { r.Method = http.MethodPost },
			"a huge header":  func(r *http.Request) { r.Header.Set("X", strings.Repeat("x", 64<<10)) },
		} {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			change(request)
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			isRedirect := response.StatusCode/100 == 3
			if response.StatusCode/100 != 4 && !isRedirect || isRedirect && response.Header.Get("Location") != "/v1/state" {
				t.Errorf("%s from %s is answered %s", path, name, response.Status)
			}
			_ = response.Body.Close()
		}
	}
}
