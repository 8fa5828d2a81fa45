package main

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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

func TestSimulate_ServesTheLivePage(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	address := closedPort(t)
	r := start(ctx, t, "simulate", "-f", manifestFile(t, calm), "--http", address)
	untilBusy(ctx, t, address)
	for path, want := range map[string]string{"/": "<!doctype html>", "/v1/state": `"phase":"running"`, "/v1/timeline": `{"rows":[`, "/v1/stats": `"count"`} {
		body, err := get(ctx, "http://"+address+path)
		if err != nil || !strings.Contains(body, want) {
			t.Errorf("%s: %v, %.200q, want %q", path, err, body, want)
		}
	}
	request, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/v1/state", http.NoBody)
	request.Host = "evil.example"
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusForbidden {
		t.Errorf("another host name is answered %s", response.Status)
	}
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if stderr := wait(t, r).stderr; !strings.Contains(stderr, "live page  http://"+address+"/") {
		t.Errorf("stderr does not name the page:\n%s", stderr)
	}
}
