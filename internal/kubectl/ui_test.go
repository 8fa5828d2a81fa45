package kubectl

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/parking-operator/parking-operator/internal/timeline"
	"github.com/parking-operator/parking-operator/internal/view"
)

func TestUI_ServesThePageWithTheDataOfAPod(t *testing.T) {
	t.Parallel()
	c := forwardingServer(t)
	pod := httptest.NewServer(&liveData{state: view.State{Run: "uid", Simulation: "parking.rush-hour", Phase: view.Running}, rows: []timeline.Row{{Second: 100}}})
	defer pod.Close()
	object := newPod("a", portOf(t, pod), corev1.ConditionTrue)
	c.WithWatch = fake.NewClientBuilder().WithScheme(c.Scheme()).WithObjects(started(), &object).Build()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	discard, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	opened := make(chan string, 1)
	p := &Plugin{Options: Options{Out: writer, ErrOut: discard, OpenPage: func(_ context.Context, url string) { opened <- url }}}
	go func() { ended <- p.ui(ctx, c, "rush-hour", uiFlags{open: true}) }()

	line, err := bufio.NewReader(reader).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url := regexp.MustCompile(`http://127\.0\.0\.1:\d+/`).FindString(line)
	if got := <-opened; url == "" || got != url {
		t.Fatalf("the browser opens %q, and the output is %q", got, line)
	}
	for path, want := range map[string]string{"": "<!doctype html>", "v1/timeline": `{"rows":[{"t":100}`} {
		if got := fetch(t, url+path); !strings.Contains(got, want) {
			t.Errorf("/%s is %.200q", path, got)
		}
	}
	var state view.State
	if err := json.Unmarshal([]byte(fetch(t, url+"v1/state")), &state); err != nil || state.Simulation != "parking.rush-hour" || state.Phase != view.Running {
		t.Errorf("the state is %+v, %v", state, err)
	}
	for name, tt := range map[string]struct {
		path, host string
		status     int
		change     func(*http.Request)
	}{
		"another origin":                             {"v1/state", "", http.StatusForbidden, func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") }},
		"another method":                             {"v1/state", "", http.StatusMethodNotAllowed, func(r *http.Request) { r.Method = http.MethodPost }},
		"a huge header":                              {"v1/state", "", http.StatusRequestHeaderFieldsTooLarge, func(r *http.Request) { r.Header.Set("X", strings.Repeat("x", 64<<10)) }},
		"another host name, as in DNS rebinding":     {"v1/state", "evil.example", http.StatusForbidden, nil},
		"the API server's paths":                     {"api/v1/namespaces/parking/secrets", "", http.StatusNotFound, nil},
		"a path of the pod that is not on the page":  {"metrics", "", http.StatusNotFound, nil},
		"a path that leaves the page":                {"assets/..%2f..%2fmetrics", "", http.StatusNotFound, nil},
		"another simulation":                         {"v1/timeline?simulation=other", "", http.StatusBadRequest, nil},
		"a query that would change that for the pod": {"v1/timeline?from=2026-01-01T00:00:00Z%26simulation=other", "", http.StatusBadRequest, nil},
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+tt.path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = tt.host
		if tt.change != nil {
			tt.change(request)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != tt.status {
			t.Errorf("%s: the answer is %s, want %d", name, response.Status, tt.status)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("the command ended with %v", err)
	}
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
