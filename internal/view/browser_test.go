package view

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

const (
	// browserTimeout is the timeout of each test in the browser.
	browserTimeout = 3 * time.Minute
	// screenshots is the directory of the images in the documentation. The tests write them only with
	// PARKING_SCREENSHOTS=1.
	screenshots = "../../docs/images"
	// axe is the path of a script that checks the accessibility of a page. hack/web.sh downloads it.
	axe = "../../.tools/web/node_modules/axe-core/axe.min.js"
)

// need returns the path of a program or file. If it is missing, need skips the test, or fails it if
// PARKING_TEST_REQUIRE=1.
func need(t *testing.T, path string, err error) string {
	t.Helper()
	switch {
	case err == nil:
	case os.Getenv("PARKING_TEST_REQUIRE") == "1":
		t.Fatalf("%v; hack/install-servers.sh installs it", err)
	default:
		t.Skipf("%v; hack/install-servers.sh installs it", err)
	}
	return path
}

// site serves the live page with the data of a source. Its address stays the same when the server is restarted.
type site struct {
	t       *testing.T
	address string
	view    *View
	server  *http.Server
}

func newSite(t *testing.T, s Source) *site {
	t.Helper()
	w := &site{t: t, address: "127.0.0.1:0"}
	w.start(s)
	t.Cleanup(w.stop)
	return w
}

func (w *site) start(s Source) {
	w.t.Helper()
	var listener net.Listener
	var err error
	for range 100 {
		if listener, err = net.Listen("tcp", w.address); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond) // the previous server still holds the port
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.address = listener.Addr().String()
	w.view = New(Config{Interval: 100 * time.Millisecond}, Dependencies{Source: s, Logger: slog.New(slog.DiscardHandler)})
	w.server = &http.Server{Handler: w.view}
	go func() { _ = w.server.Serve(listener) }()
}

// stop ends the server without sending a last event to the clients, as a crash would.
func (w *site) stop() { _ = w.server.Close() }

// browser is a tab of a Chromium browser.
type browser struct {
	t   *testing.T
	ctx context.Context

	console *console
}

// newBrowser starts Chromium.
func newBrowser(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	path = need(t, path, err)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.DisableGPU,
		chromedp.Flag("lang", "en-US"), chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(browserTimeout))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	allocator, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	b := &browser{t: t, console: &console{}}
	var leave context.CancelFunc
	b.ctx, leave = chromedp.NewContext(allocator, chromedp.WithListener(b.console.record))
	t.Cleanup(leave)
	if _, err := chromedp.Run(b.ctx, chromedp.Title()); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	call(b, cdplog.Enable, cdp.Empty{})
	call(b, performance.Enable, performance.EnableParams{TimeDomain: performance.EnableTimeDomainThreadTicks})
	call(b, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	return b
}

// console collects the errors and warnings that the browser logs.
type console struct {
	mu     sync.Mutex
	errors []string
}

func (c *console) record(event any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if x := e.ExceptionDetails.Exception; x != nil {
			text += ": " + x.Description
		}
		c.errors = append(c.errors, text)
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			text, _ := json.Marshal(e.Args)
			c.errors = append(c.errors, string(text))
		}
	case *cdplog.EventEntryAdded:
		if e.Entry.Level == cdplog.EntryLevelError || e.Entry.Level == cdplog.EntryLevelWarning {
			c.errors = append(c.errors, e.Entry.Text)
		}
	}
}

// take returns the errors and warnings since the last call. It omits errors about failed connections.
func (c *console) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := slices.DeleteFunc(c.errors, func(text string) bool { return strings.Contains(text, "net::ERR_") })
	c.errors = nil
	return all
}

// with returns the same browser for use in a subtest.
func (b *browser) with(t *testing.T) *browser {
	t.Helper()
	return &browser{t: t, ctx: b.ctx, console: b.console}
}

// run runs a browser action and returns its value.
func run[T any](b *browser, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, browserTimeout)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatal(err)
	}
	return value
}

// call sends a command of the DevTools protocol to the browser and returns its result.
func call[P, R any](b *browser, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	return run(b, func(ctx context.Context, t *chromedp.Target) (R, error) { return cdp.Call(ctx, t, command, params) })
}

// evaluate returns the value of a JavaScript expression in the page. If the value is a promise, it waits for it.
func evaluate[T any](b *browser, expression string) T {
	b.t.Helper()
	return run(b, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// until waits until a JavaScript expression is true in the page.
func (b *browser) until(what, expression string) {
	b.t.Helper()
	polltest.UntilState(b.t, what, func() bool { return evaluate[bool](b, "Boolean("+expression+")") }, func() any {
		return evaluate[string](b, "document.body.innerText.slice(0, 1000)")
	})
}

// open loads the live page of a site and waits until the page has received its first rows.
func (b *browser) open(w *site, rows int) {
	b.t.Helper()
	run(b, chromedp.Navigate("http://"+w.address+"/"))
	b.until("all rows are there", fmt.Sprintf("document.getElementById('charts')?.dataset.rows >= %d", rows))
}

// resize sets the size of the browser window and the color theme of the system.
func (b *browser) resize(width, height int64, theme string) {
	b.t.Helper()
	run(b, chromedp.EmulateViewport(width, height))
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}},
	})
	// Wait until the page has redrawn its charts, which happens in one of the next frames.
	evaluate[bool](b, "new Promise(done => setTimeout(() => requestAnimationFrame(() => done(true)), 400))")
}

const text = "document.getElementById('%s').textContent"

// TestPage_InChromium uses one browser for all subtests, because starting a browser takes most of the time.
func TestPage_InChromium(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser")
	}
	b := newBrowser(t)
	for _, tt := range []struct {
		name string
		test func(*testing.T, *browser)
	}{
		{"Updates", testPageUpdates},
		{"SurvivesReconnect", testPageSurvivesReconnect},
		{"AnotherRunResets", testPageAnotherRunResets},
		{"ShowsFailure", testPageShowsFailure},
		{"ShowsFaults", testPageShowsFaults},
		{"ShowsEnd", testPageShowsEnd},
		{"ExplainsTerms", testPageExplainsTerms},
		{"SplitsLogarithmicAxes", testPageSplitsLogarithmicAxes},
		{"DrawsLatenciesBelowAPowerOfTen", testPageDrawsLatenciesBelowAPowerOfTen},
		{"IsAccessible", testPageIsAccessible},
		{"DrawsEveryUpdate", testPageDrawsEveryUpdate},
		{"KeepsUp", testPageKeepsUp},
		{"Screenshots", testPageScreenshots},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer func() { // also after t.Fatal, for an error in the page may be the cause
				for _, text := range b.console.take() {
					t.Errorf("the console shows %s", text)
				}
			}()
			tt.test(t, b.with(t))
		})
	}
}

func testPageUpdates(t *testing.T, b *browser) {
	f := newFake("run", 60)
	w := newSite(t, f)
	b.open(w, 60)
	if name := evaluate[string](b, fmt.Sprintf(text, "name")); name != "default.rush-hour" {
		t.Errorf("the title is %q", name)
	}
	before := evaluate[string](b, "document.querySelector('#tiles .value').textContent")
	for range 5 {
		f.grow()
	}
	b.until("new rows arrive", "document.getElementById('charts').dataset.rows == 65")
	b.until("a key number changes", fmt.Sprintf("document.querySelector('#tiles .value').textContent != %q", before))
	if n := evaluate[int](b, "document.querySelectorAll('#charts canvas').length"); n != 9 {
		t.Errorf("there are %d charts, want 9", n)
	}
	// Check that the chart has lines. Without lines it would have only a few colors.
	colors := evaluate[int](b, `(() => {
		const c = document.querySelector('#charts canvas'), data = new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer);
		return new Set(data).size;
	})()`)
	if colors < 20 {
		t.Errorf("the first chart has %d colors", colors)
	}
}

func testPageSurvivesReconnect(t *testing.T, b *browser) {
	f := newFake("run", 60)
	w := newSite(t, f)
	b.open(w, 60)
	w.stop()
	b.until("the page says that it reconnects", fmt.Sprintf(text+" == 'reconnecting…'", "connection"))
	for range 7 {
		f.grow()
	}
	w.start(f)
	b.until("the page is connected again", fmt.Sprintf(text+" == ''", "connection"))
	b.until("no row is missing", "document.getElementById('charts').dataset.rows == 67")
}

func testPageAnotherRunResets(t *testing.T, b *browser) {
	w := newSite(t, newFake("first", 60))
	b.open(w, 60)
	w.stop()
	w.start(newFake("second", 11))
	b.until("only the rows of the second run are shown", "document.getElementById('charts').dataset.rows == 11")
}

func testPageShowsFailure(t *testing.T, b *browser) {
	f := newFake("run", 60)
	w := newSite(t, f)
	b.open(w, 60)
	if shown := evaluate[bool](b, "!document.getElementById('verdict').hidden"); shown {
		t.Error("there is a verdict already")
	}
	f.change(func(f *fake) {
		f.state.Verdict = Verdict{Outcome: ledger.Fail, Reasons: []string{"3 events were dead-lettered", "2 exits were unexpectedly unmatched"}}
	})
	b.until("the badge says failing", fmt.Sprintf(text+" == 'failing'", "verdict"))
	if reasons := evaluate[string](b, "document.getElementById('reasons').innerText"); !strings.Contains(reasons, "3 events were dead-lettered") {
		t.Errorf("the reasons are %q", reasons)
	}
	f.change(func(f *fake) { f.state.Phase, f.state.Verdict.Final = Finished, true })
	b.until("the badge says FAIL", fmt.Sprintf(text+" == 'FAIL'", "verdict"))
	if title := evaluate[string](b, "document.title"); !strings.HasPrefix(title, "FAIL") {
		t.Errorf("the title of the window is %q", title)
	}
}

func testPageShowsFaults(t *testing.T, b *browser) {
	f := newFake("run", 60)
	w := newSite(t, f)
	b.open(w, 60)
	b.until("the table has the faults", "document.getElementById('faults').tBodies[0].rows.length == 3")
	const row = "document.getElementById('faults').tBodies[0].rows[%d].innerText"
	for i, want := range []string{"not injected: no such pod", "in effect", "redis-crash/0\t0:30\tKill Redis redis-0\tRecovered\t3 s\t3.4 s\t1,240\t812\t97"} {
		if got := evaluate[string](b, fmt.Sprintf(row, i)); !strings.Contains(got, want) {
			t.Errorf("row %d is %q, want %q", i, got, want)
		}
	}
	f.change(func(f *fake) { f.state.Faults = nil })
	b.until("the table is hidden", "document.getElementById('faults-panel').hidden")
}

func testPageShowsEnd(t *testing.T, b *browser) {
	f := newFake("run", 60)
	w := newSite(t, f)
	b.open(w, 60)
	f.change(func(f *fake) { f.state.Phase, f.state.Verdict = Finished, Verdict{Outcome: ledger.Pass, Final: true} })
	w.view.Close(t.Context())
	if err := w.server.Shutdown(t.Context()); err != nil { // sends what Close has queued, as package httpserver does
		t.Fatal(err)
	}
	b.until("the page keeps the verdict", fmt.Sprintf(text+" == 'PASS'", "verdict"))
	b.until("the page says that the run has ended", fmt.Sprintf(text+" == 'the run has ended'", "connection"))
}

func testPageExplainsTerms(t *testing.T, b *browser) {
	w := newSite(t, newFake("run", 60))
	b.open(w, 60)
	evaluate[bool](b, "document.querySelector('#tiles .term').focus(), true")
	b.until("the focus shows a meaning", "!document.getElementById('tip').hidden && document.getElementById('tip').textContent.length > 20")
	run(b, chromedp.KeyEvent("\x1b"))
	b.until("Escape hides it", "document.getElementById('tip').hidden")
	// Every number on the page must have a label with an explanation.
	missing := evaluate[[]string](b, `[...document.querySelectorAll('.tile, .facts > div, #ledger tbody tr, #totals tbody tr, #latencies tbody tr, figure')]
		.filter(e => {
			const id = e.querySelector('.term')?.getAttribute('aria-describedby');
			return !(document.getElementById(id)?.textContent.length > 20);
		}).map(e => e.textContent)`)
	if len(missing) > 0 {
		t.Errorf("these have no meaning: %q", missing)
	}
	run(b, chromedp.Steps(chromedp.Click("#theme"), chromedp.Click("#theme")))
	if theme := evaluate[string](b, "document.documentElement.dataset.theme"); theme != "dark" {
		t.Errorf("after two clicks the theme is %q", theme)
	}
	run(b, chromedp.Click("#theme"))
}

func testPageSplitsLogarithmicAxes(t *testing.T, b *browser) {
	b.open(newSite(t, newFake("run", 60)), 60)
	for _, tt := range []struct{ min, max, want string }{
		{"0.0097", "0.031", "[0.01,0.02,0.03]"},
		{"1e-3", "1e-2", "[0.001,0.002,0.003,0.004,0.005,0.006,0.007,0.008,0.009,0.01]"},
		{"0.95", "0.99", "[]"},
		{"0", "1", "[]"},
		{"1", "Infinity", "[]"},
		{"NaN", "NaN", "[]"},
	} {
		expression := fmt.Sprintf("import('/assets/numbers.js').then(m => JSON.stringify(m.logSplits(%s, %s)))", tt.min, tt.max)
		if got := evaluate[string](b, expression); got != tt.want {
			t.Errorf("the splits from %s to %s are %s, want %s", tt.min, tt.max, got, tt.want)
		}
	}
}

// testPageDrawsLatenciesBelowAPowerOfTen shows a heat map whose axis begins at 96.4 ms. The chart library uPlot would
// loop forever if it computed the ticks of such an axis, so the page computes them.
func testPageDrawsLatenciesBelowAPowerOfTen(t *testing.T, b *browser) {
	var latencies histogram.Histogram
	latencies.Observe(98 * time.Millisecond)
	f := newFake("run", 60)
	for i := range f.rows {
		for _, events := range []*timeline.Events{&f.rows[i].Entry, &f.rows[i].Exit} {
			events.EndToEnd, events.Processing = latencies.Snapshot(), latencies.Snapshot()
		}
	}
	b.open(newSite(t, f), 60)
	b.resize(1280, 3000, "light") // a chart that is out of view is not drawn
}

func testPageIsAccessible(t *testing.T, b *browser) {
	content, err := os.ReadFile(axe)
	need(t, axe, err)
	f := newFake("run", 60)
	f.state.Verdict = Verdict{Outcome: ledger.Fail, Reasons: []string{"3 events were dead-lettered"}}
	w := newSite(t, f)
	for _, width := range []int64{1280, 400} {
		for _, theme := range []string{"light", "dark"} {
			b.resize(width, 900, theme)
			b.open(w, 60)
			evaluate[any](b, string(content)+"; 1")
			violations := evaluate[[]string](b, `axe.run({resultTypes: ['violations']}).then(r => r.violations.flatMap(v =>
				v.nodes.map(n => v.id + ': ' + n.html.slice(0, 150) + ' ' + n.failureSummary)))`)
			for _, v := range violations {
				t.Errorf("%d px, %s: %s", width, theme, v)
			}
			if wide := evaluate[int64](b, "document.documentElement.scrollWidth"); wide > width {
				t.Errorf("the page is %d px wide in a window of %d px", wide, width)
			}
		}
	}
}

// testPageDrawsEveryUpdate sends 10 updates to a page with an hour of history. It sends the next update only when the
// charts show the previous one, so the result does not depend on the speed of the machine.
func testPageDrawsEveryUpdate(t *testing.T, b *browser) {
	f := newFake("run", 3600)
	w := newSite(t, f)
	b.resize(1280, 900, "light")
	b.open(w, 3600)
	for i := range 10 {
		f.grow()
		b.until("the update is drawn", fmt.Sprintf("document.getElementById('charts').dataset.drawn == %d", 3601+i))
	}
}

// testPageKeepsUp sends 10 updates per second to a page with an hour of history. It checks that the charts finally show
// all of them. The time per frame and the number of updates per frame depend on the machine, so the test only logs
// them, together with the values for an idle page.
func testPageKeepsUp(t *testing.T, b *browser) {
	f := newFake("run", 3600)
	w := newSite(t, f)
	b.resize(1280, 900, "light")
	b.open(w, 3600)
	const updates = 50
	const interval = 100 * time.Millisecond
	b.until("the history is drawn", "document.getElementById('charts').dataset.drawn == 3600")
	b.recordFrames()
	time.Sleep(updates * interval)
	t.Log("at rest: " + b.frames())

	b.recordFrames()
	before := b.processorTime()
	for range updates {
		f.grow()
		time.Sleep(interval)
	}
	b.until("all updates are drawn", fmt.Sprintf("document.getElementById('charts').dataset.drawn == %d", 3600+updates))
	after := b.processorTime()
	t.Logf("with %d updates: %s", updates, b.frames())
	for name, seconds := range after {
		t.Logf("%s: %.1f ms of processor time per update", name, (seconds-before[name])/updates*1000)
	}
}

// recordFrames starts to record the frames of the page. For each frame it records the time since the previous frame,
// the number of rows that the page has received, and the number of rows that the charts show.
func (b *browser) recordFrames() {
	b.t.Helper()
	evaluate[int](b, `(() => {
		const frames = window.frames_ = [], charts = document.getElementById('charts');
		let last = performance.now();
		const frame = now => {
			if (window.frames_ !== frames) return;
			frames.push({time: now - last, rows: Number(charts.dataset.rows), drawn: Number(charts.dataset.drawn)});
			last = now;
			requestAnimationFrame(frame);
		};
		return requestAnimationFrame(frame);
	})()`)
}

// frames returns statistics of the frames since the call of recordFrames, as text.
func (b *browser) frames() string {
	b.t.Helper()
	return evaluate[string](b, `(() => {
		const all = frames_.slice(1), times = all.map(f => f.time).sort((a, b) => a - b);
		const at = q => times[Math.floor(q * (times.length - 1))].toFixed(1);
		const states = new Set(all.map(f => f.drawn)).size, behind = Math.max(...all.map(f => f.rows - f.drawn));
		return all.length + ' frames, time between them: p50 ' + at(0.5) + ' ms, p90 ' + at(0.9) + ' ms, p99 ' + at(0.99) + ' ms, max ' +
			at(1) + ' ms; ' + states + ' states of all visible charts, at most ' + behind + ' updates behind';
	})()`)
}

// processorTime returns the CPU time in seconds that the main thread of the page has used, by kind of work. Unlike
// elapsed time, CPU time hardly depends on the load of the machine.
func (b *browser) processorTime() map[string]float64 {
	b.t.Helper()
	times := map[string]float64{}
	for _, m := range call(b, performance.GetMetrics, cdp.Empty{}).Metrics {
		if strings.HasSuffix(m.Name, "Duration") {
			times[m.Name] = m.Value
		}
	}
	return times
}

// testPageScreenshots takes the screenshots for the documentation.
func testPageScreenshots(t *testing.T, b *browser) {
	if os.Getenv("PARKING_SCREENSHOTS") != "1" {
		t.Skip("PARKING_SCREENSHOTS=1 writes the images of the documentation")
	}
	f := newFake("run", 1500)
	f.state.Faults[2].Fault, f.state.Faults[2].AtSeconds = "cut", 240
	w := newSite(t, f)
	if err := os.MkdirAll(screenshots, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, width := range []int64{1280, 400} {
		for _, theme := range []string{"light", "dark"} {
			b.resize(width, 900, theme)
			b.open(w, 1500)
			height := evaluate[int64](b, "document.documentElement.scrollHeight")
			b.resize(width, height, theme)
			image := run(b, chromedp.CaptureScreenshot())
			if err := os.WriteFile(filepath.Join(screenshots, fmt.Sprintf("live-%s-%d.png", theme, width)), image, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
