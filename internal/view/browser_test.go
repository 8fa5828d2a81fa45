package view

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/timeline"
	"github.com/parking-operator/parking-operator/test/servers"
)

const (
	// browserTimeout is the timeout of each action in the browser.
	browserTimeout = 10 * time.Minute
	// screenshots is the directory of the images in the documentation. The tests write the images only if the
	// environment variable PARKING_SCREENSHOTS is 1.
	screenshots = "../../docs/images"
	// axe is the path of a script that checks the accessibility of a page. hack/web.sh downloads it.
	axe = "../../.tools/web/node_modules/axe-core/axe.min.js"
)

// need returns the path of a program or file. If err is not nil, need skips the test. With PARKING_TEST_REQUIRE=1, it
// fails the test instead.
func need(t *testing.T, path string, err error) string {
	t.Helper()
	switch {
	case err == nil:
	case os.Getenv("PARKING_TEST_REQUIRE") == "1":
		t.Fatalf("%v; run hack/install-servers.sh", err)
	default:
		t.Skipf("%v; run hack/install-servers.sh", err)
	}
	return path
}

// site serves the live page in a test. Its address stays the same when the server is restarted.
type site struct {
	t       *testing.T
	address string
	view    *View
	server  *http.Server
}

func newSite(t *testing.T, s Source) *site {
	t.Helper()
	w := &site{t: t, address: servers.FreeAddress(t)}
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
		time.Sleep(50 * time.Millisecond) // wait until the previous server has released the port
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.address = listener.Addr().String()
	w.view = New(Config{Interval: 100 * time.Millisecond}, Dependencies{Source: s, Logger: slog.New(slog.DiscardHandler)})
	w.server = &http.Server{Handler: w.view}
	go func() { _ = w.server.Serve(listener) }()
}

// stop simulates a crash of the server: the clients do not receive the final state.
func (w *site) stop() { _ = w.server.Close() }

// browser is a tab of a Chromium browser.
type browser struct {
	t   *testing.T
	ctx context.Context

	console *console
}

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

// take returns the errors and warnings since the last call of take. It omits errors about failed connections.
func (c *console) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := slices.DeleteFunc(c.errors, func(text string) bool { return strings.Contains(text, "net::ERR_") })
	c.errors = nil
	return all
}

// forSubtest returns the same browser for use in a subtest.
func (b *browser) forSubtest(t *testing.T) *browser {
	t.Helper()
	return &browser{t: t, ctx: b.ctx, console: b.console}
}

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

// evaluate returns the value of a JavaScript expression in the page. If the value is a promise, evaluate waits until
// the promise is resolved.
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

// settles waits up to a minute until a JavaScript expression returns no problems. The page draws over several frames,
// so problems may be temporary.
func (b *browser) settles(what, problems string) {
	b.t.Helper()
	var found []string
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		isLast := time.Now().After(deadline)
		if found = evaluate[[]string](b, problems); len(found) == 0 {
			return
		}
		if isLast {
			b.t.Errorf("%s: %s", what, strings.Join(found, "\n"))
			return
		}
	}
}

// fits checks that the page can be read in a window of the given width without scrolling sideways.
func (b *browser) fits(width int64) {
	b.t.Helper()
	b.settles(fmt.Sprintf("the page fits into %d px", width), fmt.Sprintf(
		"[document.documentElement.scrollWidth].filter(width => width > %d).map(width => 'it is ' + width + ' px wide')", width))
}

// open loads the live page of a site and waits until the page has received at least the given number of rows.
func (b *browser) open(w *site, rows int) {
	b.t.Helper()
	run(b, chromedp.Navigate("http://"+w.address+"/"))
	b.until("all rows are there", fmt.Sprintf("document.getElementById('charts')?.dataset.rows >= %d", rows))
}

func (b *browser) resize(width, height int64, theme string) {
	b.t.Helper()
	run(b, chromedp.EmulateViewport(width, height))
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}},
	})
	// Wait longer than the page needs to redraw its charts, which takes several frames.
	evaluate[bool](b, "new Promise(done => setTimeout(() => requestAnimationFrame(() => done(true)), 400))")
}

const text = "document.getElementById('%s').textContent"

// All subtests share one browser, because starting a browser takes most of the time.
func TestLivePage_OpenedInChromium_ShowsTheSimulation(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser")
	}
	b := newBrowser(t)
	for _, tt := range []struct {
		name string
		test func(*testing.T, *browser)
	}{
		{"ShowsNewRows", testPageShowsNewRows},
		{"SurvivesReconnect", testPageSurvivesReconnect},
		{"SurvivesSleep", testPageSurvivesSleep},
		{"DropsRowsOfAnEarlierRun", testPageDropsRowsOfAnEarlierRun},
		{"SaysThatItsDataIsOld", testPageSaysThatItsDataIsOld},
		{"PausedRunHasRateZero", testPagePausedRunHasRateZero},
		{"LatencyHasAGapWhilePaused", testPageLatencyHasAGapWhilePaused},
		{"HistoryStaysSmall", testPageHistoryStaysSmall},
		{"MarksAreNotRepeated", testPageMarksAreNotRepeated},
		{"WorksBelowAPathPrefix", testPageWorksBelowAPathPrefix},
		{"ShowsFailure", testPageShowsFailure},
		{"ShowsFaults", testPageShowsFaults},
		{"ShowsEnd", testPageShowsEnd},
		{"ShowsProgress", testPageShowsProgress},
		{"ShowsOutcomes", testPageShowsOutcomes},
		{"BalancesTheLedger", testPageBalancesTheLedger},
		{"MarksAllCharts", testPageMarksAllCharts},
		{"QuantilesAreThoseOfPackageHistogram", testPageQuantilesAreThoseOfPackageHistogram},
		{"ExplainsTerms", testPageExplainsTerms},
		{"ExplainsNumbersUnderThePointer", testPageExplainsNumbersUnderThePointer},
		{"WorksWithTheKeyboard", testPageWorksWithTheKeyboard},
		{"SplitsLogarithmicAxes", testPageSplitsLogarithmicAxes},
		{"DrawsLatenciesBelowAPowerOfTen", testPageDrawsLatenciesBelowAPowerOfTen},
		{"IsAccessible", testPageIsAccessible},
		{"ClipsNoText", testPageClipsNoText},
		{"ListsNotableEvents", testPageListsNotableEvents},
		{"JoinsOverlappingBands", testPageJoinsOverlappingBands},
		{"FinishedRunShowsLatenciesOfTheWholeRun", testPageFinishedRunShowsLatenciesOfTheWholeRun},
		{"DrawsEveryUpdate", testPageDrawsEveryUpdate},
		{"DoesNotFlicker", testPageDoesNotFlicker},
		{"HeatMapShowsTheHistograms", testPageHeatMapShowsTheHistograms},
		{"KeepsUp", testPageKeepsUp},
		{"ReportBreaksNoWord", testReportBreaksNoWord},
		{"Screenshots", testPageScreenshots},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// Check the browser console even after t.Fatal, because it may show the cause of the failure.
			defer func() {
				for _, text := range b.console.take() {
					t.Errorf("the browser console shows %s", text)
				}
			}()
			tt.test(t, b.forSubtest(t))
		})
	}
}

func testPageShowsNewRows(t *testing.T, b *browser) {
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
	b.until("the charts are drawn", "document.getElementById('charts').dataset.drawn == 65")
	b.until("a key number changes", fmt.Sprintf("document.querySelector('#tiles .value').textContent != %q", before))
	if n := evaluate[int](b, "document.querySelectorAll('#charts canvas').length"); n != 9 {
		t.Errorf("there are %d charts, want 9", n)
	}
	// Check that the lines are drawn: a chart without lines has only a few colors.
	colors := evaluate[int](b, `(() => {
		const c = document.querySelector('#charts canvas'), data = new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer);
		return new Set(data).size;
	})()`)
	if colors < 20 {
		t.Errorf("the first chart has %d colors, want 20 or more", colors)
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

// testPageSurvivesSleep simulates a laptop that sleeps: connections go silent without an error, and the clock jumps.
func testPageSurvivesSleep(t *testing.T, b *browser) {
	f := newFake("run", 60)
	w := newSite(t, f)
	network := newSilencer(t, w.address)
	run(b, chromedp.Navigate("http://"+network.address+"/"))
	b.until("all rows are there", "document.getElementById('charts')?.dataset.rows >= 60")
	network.silence()
	for range 7 {
		f.grow()
	}
	evaluate[int](b, "Date.now = (now => () => now() + 60_000)(Date.now), 0")
	b.until("no row is missing", "document.getElementById('charts').dataset.rows == 67")
	b.until("the page is connected", fmt.Sprintf(text+" == ''", "connection"))
}

// silencer forwards connections to a server, and numbers them from 1. It can silence all open connections: they stay
// open, but transfer no data any more.
type silencer struct {
	address string
	silent  atomic.Int64 // connections with a number up to this one are silenced
	opened  atomic.Int64 // how many connections were opened so far
}

func newSilencer(t *testing.T, server string) *silencer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	s := &silencer{address: listener.Addr().String()}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			backend, err := net.Dial("tcp", server)
			if err != nil {
				_ = client.Close()
				continue
			}
			t.Cleanup(func() { _, _ = client.Close(), backend.Close() })
			number := s.opened.Add(1)
			go s.forward(number, client, backend)
			go s.forward(number, backend, client)
		}
	}()
	return s
}

func (s *silencer) silence() { s.silent.Store(s.opened.Load()) }

// forward copies data from one connection to another. It closes the destination when the source ends. Once the
// connections are silenced, forward discards all data and closes nothing.
func (s *silencer) forward(number int64, from io.Reader, to io.WriteCloser) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		isSilent := number <= s.silent.Load()
		if !isSilent {
			_, _ = to.Write(buffer[:n]) // ignore the error: if the connection has ended, the next read fails
		}
		if err != nil {
			if !isSilent {
				_ = to.Close()
			}
			return
		}
	}
}

func testPageDropsRowsOfAnEarlierRun(t *testing.T, b *browser) {
	w := newSite(t, newFake("first", 60))
	b.open(w, 60)
	w.stop()
	w.start(newFake("second", 11))
	b.until("only the rows of the second run are shown", "document.getElementById('charts').dataset.rows == 11")
}

func testPageSaysThatItsDataIsOld(t *testing.T, b *browser) {
	f := newFake("run", 60)
	b.open(newSite(t, f), 60)
	connection := fmt.Sprintf(text, "connection")
	for want, change := range map[string]func(*fake){
		"no data since ":         func(f *fake) { f.err = errSecret },
		"no measurements since ": func(f *fake) { f.timelineErr = errSecret },
	} {
		f.change(change)
		b.until("the page says "+want, fmt.Sprintf("%s.startsWith(%q)", connection, want))
		if class := evaluate[string](b, "document.getElementById('connection').className"); class != "waiting" {
			t.Errorf("the class of %q is %q", want, class)
		}
		f.change(func(f *fake) { f.err, f.timelineErr = nil, nil })
		b.until("the data is new again", connection+" == ''")
	}
}

func testPagePausedRunHasRateZero(t *testing.T, b *browser) {
	f := newFake("run", 60)
	f.state.Queues.InFlight = nil // nil means unknown, as for a simulation in Kubernetes
	b.open(newSite(t, f), 60)
	tile := func(i int) string {
		return fmt.Sprintf("document.querySelectorAll('#tiles .value')[%d].textContent", i)
	}
	if rate := evaluate[string](b, tile(0)); rate == "0/s" {
		t.Fatal("the rate is 0 before the pause")
	}
	f.change(func(f *fake) { f.state.At, f.state.Entry.Rate = f.state.At.Add(time.Minute), 0 })
	b.until("the rate is 0", tile(0)+" == '0/s'")
	b.until("there is no recent latency", tile(2)+" == '–'")
	for _, value := range evaluate[[]string](b, "[...document.querySelectorAll('#tiles .tile')].map(e => e.innerText)") {
		if strings.Contains(value, "flight") {
			t.Errorf("a tile without data is shown: %q", value)
		}
	}
	f.change(func(f *fake) {
		next := fakeRow(f.rows[59].Second+61, 59, 60)
		f.rows, f.state.At = append(f.rows, next), next.End()
	})
	b.until("the new row is there", "document.getElementById('charts').dataset.rows == 61")
}

// The constant history is the beginning of a JavaScript expression, to which each test appends its computation. It
// defines a History h, and the helper row(t, n), which returns a row with n events at second t.
const history = `import('/assets/history.js').then(({History}) => {
	const h = new History(), row = (t, n, w = 1) => ({t, w, ready: 7, entry: {due: n, published: n, endToEnd: {sumNs: 1e6 * n, buckets: [[-60, n]]}}});
	const rows = (from, to, n, w = 1) => Array.from({length: (to - from) / w}, (_, i) => row(from + i * w, n, w));
	const total = () => h.sum(r => r.entry?.published);
	`

func testPageLatencyHasAGapWhilePaused(t *testing.T, b *browser) {
	b.open(newSite(t, newFake("run", 60)), 60)
	for name, tt := range map[string]struct{ code, want string }{
		"a pause": {
			"h.add(rows(1000, 1010, 50)); h.add([row(1100, 20)]); return [h.x.slice(9), h.column('entryRate').slice(9), h.column('endToEnd99').slice(9).map(v => v && 1), h.column('ready').slice(9)]",
			"[[1009,1010,1099,1100],[50,0,0,20],[1,null,null,1],[7,7,7,7]]",
		},
		"a second without events": {
			"h.add([row(1000, 1), row(1002, 1)]); return [h.x, h.column('entryRate'), h.column('endToEnd99').map(v => v === undefined)]",
			"[[1000,1001,1002],[1,0,1],[false,true,false]]",
		},
		"a pause that has not ended":       {"h.add(rows(1000, 1010, 50), 1100); return [h.end, h.recent('entryRate'), h.distribution('endToEnd', 10).total]", "[1095,0,0]"},
		"rows that arrive late fill a gap": {"h.add([row(1000, 1), row(1100, 1)]); h.add(rows(1001, 1100, 1)); return [h.rows.length, h.measured, total()]", "[101,101,101]"},
		"wide rows":                        {"h.add(rows(1000, 1100, 500, 10)); return [h.recent('entryRate'), h.distribution('endToEnd', 10).total]", "[50,500]"},
		"a late row in the time of a wide row": {
			"h.add(rows(1000, 1100, 500, 10)); h.add([row(1005, 1)]); return [total(), h.distribution('endToEnd').total]", "[5000,5000]",
		},
	} {
		if got := evaluate[string](b, history+tt.code+"; }).then(JSON.stringify)"); got != tt.want {
			t.Errorf("%s: the result is %s, want %s", name, got, tt.want)
		}
	}
}

func testPageMarksAreNotRepeated(t *testing.T, b *browser) {
	b.open(newSite(t, newFake("run", 60)), 60)
	const code = history + `const mark = (t, kind) => ({t, marks: [{at: new Date(t * 1000).toISOString(), kind, subject: 'broker'}]});
		h.add([mark(1, 'unavailable'), mark(2, 'unavailable'), mark(3, 'available'), mark(4, 'available'), mark(5, 'unavailable')]);
		return h.marks().map(m => Date.parse(m.at) / 1000); }).then(JSON.stringify)`
	if got, want := evaluate[string](b, code), "[1,3,5]"; got != want {
		t.Errorf("the page shows marks at the seconds %s, want %s", got, want)
	}
}

// testPageHistoryStaysSmall adds 7200 rows of 10 s each. The page must merge old rows, and must not lose events.
func testPageHistoryStaysSmall(t *testing.T, b *browser) {
	b.open(newSite(t, newFake("run", 60)), 60)
	const code = history + `for (let t = 0; t < 72_000; t += 600) h.add(rows(t, t + 600, 10, 10));
		return [total(), h.distribution('endToEnd').total, h.rows.length < 5000, h.rows[0].w, h.rows.at(-1).w]; }).then(JSON.stringify)`
	if got, want := evaluate[string](b, code), "[72000,72000,true,60,10]"; got != want {
		t.Errorf("the history is %s, want %s", got, want)
	}
}

// testPageWorksBelowAPathPrefix serves the page under a path prefix, like a reverse proxy.
func testPageWorksBelowAPathPrefix(t *testing.T, b *browser) {
	f := newFake("run", 60)
	v := New(Config{Interval: 100 * time.Millisecond}, Dependencies{Source: f, Logger: slog.New(slog.DiscardHandler)})
	server := httptest.NewServer(http.StripPrefix("/runs/7", v))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	run(b, chromedp.Navigate(server.URL+"/runs/7/"))
	b.until("all rows are there", "document.getElementById('charts')?.dataset.rows == 60")
}

func testPageShowsFailure(t *testing.T, b *browser) {
	f := newFake("run", 60)
	w := newSite(t, f)
	b.open(w, 60)
	if shown := evaluate[bool](b, "!document.getElementById('verdict').hidden"); shown {
		t.Error("the page shows a verdict, but the state has none")
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
	b.resize(1280, 900, "light")
	b.open(w, 60)
	b.until("the table has the faults", "document.getElementById('faults').tBodies[0].rows.length == 3")
	const row = "document.getElementById('faults').tBodies[0].rows[%d].innerText"
	for i, want := range []string{"not injected: no such pod", "in effect", "redis-crash/0\t0:30\tKill Redis (redis-0)\tRecovered\t3 s\t3.4 s\t1,240\t812\t97"} {
		if got := evaluate[string](b, fmt.Sprintf(row, i)); !strings.Contains(got, want) {
			t.Errorf("row %d is %q, want %q", i, got, want)
		}
	}
	f.change(func(f *fake) {
		f.state.Faults = fakeFaults(time.Now().Add(-time.Minute), 60)
		f.state.Faults[0].HitOmitted = 7
	})
	b.until("the table counts the omitted names", fmt.Sprintf(row, 2)+".includes('(redis-0 and 7 more)')")
	f.change(func(f *fake) { f.state.Faults = nil })
	b.until("the table is hidden", "document.getElementById('faults-panel').hidden")
	// The fault and the recovery lasted 3 s each, so their bands in the charts have the same width.
	evaluate[bool](b, `(() => {
		window.widths = new Map(); // the width of the latest rectangle in each color
		const fillRect = CanvasRenderingContext2D.prototype.fillRect;
		CanvasRenderingContext2D.prototype.fillRect = function(x, y, width, height) {
			window.widths.set(this.fillStyle, width);
			return fillRect.call(this, x, y, width, height);
		};
		window.widthOf = name => {
			const context = document.createElement('canvas').getContext('2d');
			context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
			return window.widths.get(context.fillStyle) ?? 0;
		};
		return true;
	})()`)
	f.change(func(f *fake) { f.state.Faults = fakeFaults(time.Now().Add(-time.Minute), 60)[:1] })
	b.until("the charts show the fault and the recovery", "widthOf('--fault') > 5 && Math.abs(widthOf('--fault') - widthOf('--recovering')) < 1")
}

func testPageShowsEnd(t *testing.T, b *browser) {
	f := newFake("run", 60)
	w := newSite(t, f)
	b.open(w, 60)
	f.change(func(f *fake) { f.state.Phase, f.state.Verdict = Finished, Verdict{Outcome: ledger.Pass, Final: true} })
	f.change(func(f *fake) { f.state.Unmeasured = new(int64(1029)) })
	w.view.Close(t.Context())
	if err := w.server.Shutdown(t.Context()); err != nil { // waits until the events that View.Close has queued are sent
		t.Fatal(err)
	}
	b.until("the page says how many events were not measured", "document.getElementById('facts').innerText.includes('not measured\\n1,029')")
	b.until("the page keeps the verdict", fmt.Sprintf(text+" == 'PASS'", "verdict"))
	b.until("the page says that the run has ended", fmt.Sprintf(text+" == 'the run has ended'", "connection"))
}

func testPageShowsProgress(t *testing.T, b *browser) {
	f := newFake("run", 60)
	b.open(newSite(t, f), 60)
	const elapsed, bar = "document.getElementById('elapsed').textContent", "document.getElementById('progress')"
	f.change(func(f *fake) { f.state.StartedAt = f.state.At.Add(-1000 * time.Second) })
	b.until("a quarter of the run is over", elapsed+" == '16:40 of 1:06:40' && Math.abs("+bar+".value - 0.25) < 0.001")
	f.change(func(f *fake) { f.state.StartedAt = f.state.At.Add(-5000 * time.Second) })
	b.until("the schedules are over", elapsed+" == '1:06:40 of 1:06:40' && "+bar+".value == 1")
	f.change(func(f *fake) { f.state.DurationSeconds = 0 })
	b.until("the run has no end", elapsed+" == '1:23:20, without end' && "+bar+".hidden")
}

func testPageShowsOutcomes(t *testing.T, b *browser) {
	f := newFake("run", 60)
	f.change(func(f *fake) {
		last := &f.rows[59]
		last.Entry.Outcomes, last.Entry.Errors = map[string]int64{"recorded": 40, "duplicate": 2}, map[string]int64{"store": 12}
		last.Exit.Outcomes = map[string]int64{"matched": 30, "unmatched_expected": 20, "unmatched_unexpected": 11, "duplicate": 50}
		last.Exit.Errors = map[string]int64{"post": 1}
	})
	b.resize(1280, 3000, "light") // tall enough to show all charts, because the page draws only visible charts
	b.open(newSite(t, f), 60)
	const legend = `[...[...document.querySelectorAll('figure')].find(f => f.querySelector('.term').textContent === 'Outcomes')
		.querySelectorAll('.u-legend tr')].slice(1).map(r => r.querySelector('th').textContent + ' ' + r.querySelector('.u-value').textContent).join(', ')`
	const want = "recorded 40, matched 30, unmatched as expected 20, duplicates 52, unexpectedly unmatched 11, failed attempts 13"
	b.settles("the chart of outcomes shows the latest row", fmt.Sprintf("[%s].filter(text => text !== %q)", legend, want))
}

func testPageBalancesTheLedger(t *testing.T, b *browser) {
	f := newFake("run", 60)
	b.open(newSite(t, f), 60)
	const balances = "[...document.querySelectorAll('#ledger .balance')].map(e => e.textContent + (e.className.match(/ (good|bad)/)?.[0] ?? '')).join(', ')"
	report := ledger.Report{
		EntriesConfirmed: 10, EntriesRecorded: 12, IndeterminateEntries: 2, ExitsMatchedConfirmed: 10, Matched: 7,
		ExitsUnmatchedConfirmed: 5, UnmatchedExpected: 6, SummariesStored: 6,
	}
	for _, tt := range []struct {
		atRest bool
		want   string
	}{
		{false, "✓ equal good, 3 pending, counting, 1 pending"},
		{true, "✓ equal good, ✗ 3 less bad, ✗ 1 more bad, ✗ 1 less bad"},
	} {
		report.AtRest = tt.atRest
		f.change(func(f *fake) { f.state.Ledger = new(report) })
		b.settles(fmt.Sprintf("the balances with AtRest=%t", tt.atRest), fmt.Sprintf("[%s].filter(text => text !== %q)", balances, tt.want))
	}
	if row := evaluate[string](b, "document.getElementById('ledger').tBodies[0].rows[1].innerText"); row != "matched exits\t10\tmatched\t7\t✗ 3 less" {
		t.Errorf("the row of matched exits is %q", row)
	}
}

func testPageMarksAllCharts(t *testing.T, b *browser) {
	f := newFake("run", 60)
	b.resize(1280, 3000, "light") // a chart that is out of view is not drawn
	b.open(newSite(t, f), 60)
	evaluate[bool](b, `(() => {
		const context = document.createElement('canvas').getContext('2d'), fill = CanvasRenderingContext2D.prototype.fill;
		context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue('--mark').trim();
		window.marked = new Set();
		CanvasRenderingContext2D.prototype.fill = function(...path) {
			if (this.fillStyle === context.fillStyle) window.marked.add(this.canvas);
			return fill.apply(this, path);
		};
		return true;
	})()`)
	f.grow()
	const charts = "[...document.querySelectorAll('figure')]"
	b.settles("all charts draw the marks", charts+".filter(f => !marked.has(f.querySelector('canvas'))).map(f => f.querySelector('h2').textContent)")
	if n := evaluate[int](b, charts+".length"); n != 9 {
		t.Errorf("there are %d charts, want 9", n)
	}
}

// testPageQuantilesAreThoseOfPackageHistogram compares the histograms in JavaScript with those in Go.
func testPageQuantilesAreThoseOfPackageHistogram(t *testing.T, b *browser) {
	b.open(newSite(t, newFake("run", 60)), 60)
	r := rand.New(rand.NewPCG(1, 2))
	quantiles := []float64{0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 1}
	for i := range 20 {
		var first, second histogram.Histogram
		for range 1 + r.IntN(1000) {
			first.Observe(time.Duration(math.Exp(r.Float64() * 31)))
			if i%2 == 0 {
				second.Observe(time.Duration(math.Exp(20 + r.NormFloat64())))
			}
		}
		snapshots := []histogram.Snapshot{first.Snapshot(), second.Snapshot()}
		content, err := json.Marshal(snapshots)
		if err != nil {
			t.Fatal(err)
		}
		all := histogram.Merge(snapshots...)
		want := []time.Duration{all.Mean()}
		for _, q := range quantiles {
			want = append(want, all.Quantile(q))
		}
		got := evaluate[[]float64](b, fmt.Sprintf(`import('/assets/histogram.js').then(m => {
			const h = m.merge(...%s);
			return [m.mean(h), ...%s.map(q => m.quantile(h, q))];
		})`, content, strings.ReplaceAll(fmt.Sprint(quantiles), " ", ",")))
		for k := range want {
			seconds := want[k].Seconds()
			if math.Abs(got[k]-seconds) > 2e-9+1e-9*seconds { // package histogram rounds to nanoseconds
				t.Errorf("histogram %d: the mean and the quantiles %v are %v, want %v", i, quantiles, got, want)
				break
			}
		}
	}
	empty := "import('/assets/histogram.js').then(m => [m.quantile(m.merge(), 0.5), m.mean(m.merge())].every(v => v === null))"
	if !evaluate[bool](b, empty) {
		t.Error("an empty histogram has quantiles")
	}
}

func testPageExplainsTerms(t *testing.T, b *browser) {
	w := newSite(t, newFake("run", 60))
	b.open(w, 60)
	evaluate[bool](b, "document.querySelector('#tiles .term').focus(), true")
	b.until("the focus shows an explanation", "!document.getElementById('tip').hidden && document.getElementById('tip').textContent.length > 20")
	run(b, chromedp.KeyEvent("\x1b"))
	b.until("Escape hides the explanation", "document.getElementById('tip').hidden")
	// Every number on the page must have a label with an explanation.
	missing := evaluate[[]string](b, `[...document.querySelectorAll('.progress, .tile, .facts > div, #ledger tbody tr, #totals tbody tr, #latencies tr > *:first-child:not(td), #ledger td:nth-child(3), #latencies thead th, #faults th, figure')]
		.filter(e => {
			const id = e.querySelector('.term')?.getAttribute('aria-describedby');
			return !(document.getElementById(id)?.textContent.length > 20);
		}).map(e => e.textContent)`)
	if len(missing) > 0 {
		t.Errorf("these elements have no explanation: %q", missing)
	}
	run(b, chromedp.Steps(chromedp.Click("#theme"), chromedp.Click("#theme")))
	if theme := evaluate[string](b, "document.documentElement.dataset.theme"); theme != "dark" {
		t.Errorf("after two clicks the theme is %q", theme)
	}
	run(b, chromedp.Click("#theme"))
}

// numbers is a JavaScript expression for the position and text of each visible number, except in "Events of note",
// controls and charts.
const numbers = `(() => {
	const found = [], texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let node = texts.nextNode(); node; node = texts.nextNode()) {
		const e = node.parentElement;
		if (!/\d|–|✓/.test(node.textContent) || e.closest('.term, #marks, #key, #tip, h1, noscript, .controls, footer')) continue;
		if (!e.checkVisibility({visibilityProperty: true})) continue;
		const range = document.createRange();
		range.selectNodeContents(node);
		const {left, right, top, bottom} = range.getBoundingClientRect();
		found.push({x: (left + right) / 2, y: (top + bottom) / 2, text: node.textContent});
	}
	return found;
})()`

func testPageExplainsNumbersUnderThePointer(t *testing.T, b *browser) {
	b.resize(1280, 3000, "light") // the whole page fits into a window of this height
	b.open(newSite(t, newFake("run", 60)), 60)
	b.until("the charts are drawn", "document.getElementById('charts').dataset.drawn == 60")
	const tip, hidden = "document.getElementById('tip').textContent", "document.getElementById('tip').hidden"
	// leave moves the pointer away from all numbers, to the top left corner of the page.
	leave := func() { run(b, chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, 1, 1)) }
	defer leave()
	meanings := map[string]bool{}
	all := evaluate[[]struct {
		X, Y float64
		Text string
	}](b, numbers)
	for _, number := range all {
		leave()
		b.until("the previous explanation is hidden", hidden)
		run(b, chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, number.X, number.Y))
		if isHidden := evaluate[bool](b, hidden); isHidden {
			t.Errorf("the pointer on %q shows no explanation", number.Text)
			continue
		}
		meanings[evaluate[string](b, tip)] = true
	}
	// Several numbers can have the same explanation.
	if len(all) < 90 || len(meanings) < 50 {
		t.Errorf("%d numbers have %d different explanations, want at least 90 numbers and 50 explanations", len(all), len(meanings))
	}
	for _, want := range []string{
		"Time that a processor needs for one event, over the whole run. 90 % of the events took at most this long.",
		"Exits that ended a visit. Whether as many events took effect as were confirmed. Events that are on their way are pending.",
		"Time until latency and backlog were as before the fault.",
	} {
		if !meanings[want] {
			t.Errorf("no number has the explanation %q; the explanations are %q", want, slices.Sorted(maps.Keys(meanings)))
		}
	}
}

func testPageWorksWithTheKeyboard(t *testing.T, b *browser) {
	f := newFake("run", 60)
	f.change(func(f *fake) {
		for i := range 10 { // more marks than the page lists at first, so that the page has a button to show all marks
			row := &f.rows[40+i]
			row.Marks = []timeline.Mark{{At: row.Start(), Kind: timeline.MarkStarted, Subject: fmt.Sprint("generator-", i)}}
		}
	})
	b.resize(1280, 900, "light")
	b.open(newSite(t, f), 60)
	// Tab skips the unchecked buttons of a radio group. The label of the checked button has the outline.
	evaluate[int](b, `window.unreached = new Set([...document.querySelectorAll('a[href], button, input:checked, [tabindex="0"]')].filter(e => e.checkVisibility())), unreached.size`)
	if n := evaluate[int](b, "unreached.size"); n < 60 {
		t.Errorf("the page has %d controls", n)
	}
	const visit = `(() => {
		const e = document.activeElement, shown = e.labels?.[0] ?? e, {left, right, top, bottom} = shown.getBoundingClientRect(), found = [];
		const at = document.elementFromPoint((left + right) / 2, (Math.max(top, 0) + Math.min(bottom, innerHeight)) / 2);
		const style = getComputedStyle(shown);
		window.unreached.delete(e);
		if (!shown.contains(at)) found.push('is hidden by ' + at?.outerHTML.slice(0, 60));
		if (style.outlineStyle === 'none' || parseFloat(style.outlineWidth) < 1) found.push('has no outline');
		return e === document.body ? [] : found.map(text => (e.id || e.className || e.tagName) + ' ' + e.textContent.slice(0, 30) + ' ' + text);
	})()`
	for range 2 * evaluate[int](b, "unreached.size") {
		run(b, chromedp.KeyEvent("\t"))
		for _, problem := range evaluate[[]string](b, visit) {
			t.Error(problem)
		}
		if evaluate[int](b, "unreached.size") == 0 {
			break
		}
	}
	if missing := evaluate[[]string](b, "[...unreached].map(e => e.outerHTML.slice(0, 150))"); len(missing) > 0 {
		t.Errorf("Tab does not reach %q", missing)
	}
	// The arrow keys choose the period of the charts. Enter presses the button that shows all events.
	evaluate[bool](b, "document.querySelector('#windows :checked').focus(), true")
	run(b, chromedp.KeyEvent(kb.ArrowLeft))
	if chosen := evaluate[string](b, "document.querySelector('#windows :checked').id"); chosen != "window-15-min" {
		t.Errorf("the arrow key chooses %s", chosen)
	}
	evaluate[bool](b, "document.getElementById('all-marks').focus(), true")
	run(b, chromedp.KeyEvent(kb.Enter))
	b.until("all events of note are listed", "[...document.getElementById('marks').children].every(e => !e.hidden)")
	// The arrow keys move the cursors of all charts to the same time. The legend of each chart shows this time.
	const legends = "[...document.querySelectorAll('#charts .u-legend tr:first-child .u-value')].map(e => e.textContent)"
	evaluate[bool](b, "document.querySelector('#charts .plot').focus(), true")
	run(b, chromedp.Steps(chromedp.KeyEvent(kb.Home), chromedp.KeyEvent(kb.ArrowRight)))
	first := evaluate[[]string](b, legends)
	if len(first) != 9 || len(slices.Compact(slices.Clone(first))) != 1 {
		t.Errorf("the cursors of the charts are at %q, want the same time in 9 charts", first)
	}
	run(b, chromedp.KeyEvent(kb.End))
	if last := evaluate[[]string](b, legends); slices.Equal(first, last) {
		t.Errorf("the key End leaves the cursors at %q", last)
	}
	run(b, chromedp.KeyEvent(kb.Escape))
	// In the list "Events of note", the arrow keys select an event.
	evaluate[bool](b, "document.getElementById('marks').focus(), true")
	run(b, chromedp.KeyEvent(kb.ArrowDown))
	b.until("the first event of note is chosen", "document.querySelector('#marks li')?.className.includes('chosen')")
	if n := evaluate[int](b, "document.querySelectorAll('#marks li.bad.down').length"); n != 1 {
		t.Errorf("%d events of note say that a process is down, want 1", n)
	}
	f.change(func(f *fake) {
		f.rows[3].Marks = []timeline.Mark{{At: f.rows[3].Start(), Kind: timeline.MarkDown, Subject: "redis", Message: "late"}}
	})
	b.until("an event of note that is reported late is listed in chronological order",
		"[...document.querySelectorAll('#marks li')].map(e => e.textContent).at(-2)?.endsWith('redis down: late')")
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

// testPageDrawsLatenciesBelowAPowerOfTen draws an axis that begins at 96.4 ms. With uPlot's own ticks instead of
// logSplits, drawing this axis would never end.
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
			b.settles(fmt.Sprintf("the page is accessible at %d px in the theme %s", width, theme),
				`axe.run({resultTypes: ['violations']}).then(r => r.violations.flatMap(v =>
					v.nodes.map(n => v.id + ': ' + n.html.slice(0, 150) + ' ' + n.failureSummary)))`)
			b.fits(width)
		}
	}
}

// clipped is a JavaScript expression that lists the visible texts that are cut off, are drawn outside of an enclosing
// element, or can be read only by scrolling.
const clipped = `(() => {
	const found = [], isScrolled = e => getComputedStyle(e).overflowX !== 'visible';
	const report = (e, why) => found.push((e.id || e.className || e.tagName) + ' ' + why + ': ' + e.textContent.trim().slice(0, 60));
	for (const e of document.querySelectorAll('body *')) {
		if (e.clientWidth === 0 || e.closest('.unseen, .skip, #tip')) continue;
		if (isScrolled(e) && (e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 1)) {
			report(e, 'is larger than its box');
		}
		if (![...e.childNodes].some(n => n.nodeType === Node.TEXT_NODE && n.textContent.trim())) continue;
		const text = document.createRange();
		text.selectNodeContents(e);
		const {left, right, top, bottom} = text.getBoundingClientRect();
		for (let box = e.parentElement; box; box = box.parentElement) {
			const outer = box.getBoundingClientRect();
			if (box.clientWidth > 0 && (left < outer.left - 1 || right > outer.right + 1 || top < outer.top - 3 || bottom > outer.bottom + 3)) {
				report(e, 'is outside of ' + (box.id || box.className || box.tagName));
				break;
			}
		}
	}
	return found;
})()`

// testPageClipsNoText shows runs with long texts and large numbers in windows of many widths.
func testPageClipsNoText(t *testing.T, b *browser) {
	f := newFake("run", 60)
	w := newSite(t, f)
	f.change(longTexts)
	b.open(w, 60)
	for _, state := range []struct {
		name   string
		change func(*State)
	}{
		{"running", func(*State) {}},
		{"PASS", func(s *State) { s.Phase, s.Verdict = Finished, Verdict{Outcome: ledger.Pass, Final: true} }},
		{"FAIL", func(s *State) {
			s.Verdict = Verdict{Outcome: ledger.Fail, Final: true, Reasons: []string{"end-to-end p99 is 16.5s (1001 events not measured), beyond the objective of 10s"}}
		}},
	} {
		f.change(func(f *fake) { state.change(&f.state) })
		b.until("the page shows the state", fmt.Sprintf("document.body.innerText.includes(%q)", state.name))
		for _, width := range []int64{1920, 1500, 1280, 1150, 1024, 1000, 768, 700, 400, 320} {
			b.resize(width, 900, "light")
			b.fits(width)
			b.settles(fmt.Sprintf("%s: no text is clipped at %d px", state.name, width), clipped)
		}
	}
}

func longTexts(f *fake) {
	f.state.Simulation = "parking-lots-of-the-city-center.rush-hour-of-a-friday-in-december"
	f.state.Queues = Queues{Ready: new(int64(25_123)), Retrying: new(int64(25_123)), DeadLetters: new(int64(1_234_567)), InFlight: new(int64(2_345))}
	f.state.Ledger.Outstanding, f.state.Ledger.EntriesConfirmed = 25_123, 1_234_567_890
	f.state.Ledger.EntriesRecorded = 1_204_567_890
	f.state.Entry.Missed, f.state.Entry.LagSeconds = 123_456, 4.47
	f.state.Entry.TargetRate, f.state.Entry.AchievedRate, f.state.Entry.Rate = 123_456, 123_400, 123_456
	for i := range f.state.Faults {
		occurrence := &f.state.Faults[i]
		occurrence.Fault = []string{"generator-stall", "rabbitmq-partition", "processor-eviction"}[i]
		occurrence.Target, occurrence.Hit = plan.TargetEntryGenerator, []string{"rush-hour-entry-generator-0", "rush-hour-entry-generator-1"}
		occurrence.Outcome, occurrence.Message = fault.OutcomeNotRecovered, "Latency and backlog did not return to their previous level: p99 is 10.3s; before the fault, it was 701ms"
		occurrence.PeakBacklog, occurrence.Redeliveries, occurrence.DuplicatesSuppressed = new(int64(153_523)), 102_165, 101_613
		occurrence.InjectedAt, occurrence.PeakP99Seconds = f.rows[30].Start(), new(17.3)
	}
	for i := range f.rows {
		f.rows[i].Marks = append(f.rows[i].Marks, timeline.Mark{
			At: f.rows[i].Start(), Kind: timeline.MarkInjected, Subject: "generator-stall/0", Message: "Pause of rush-hour-entry-generator-0",
		})
	}
}

func testPageListsNotableEvents(t *testing.T, b *browser) {
	f := newFake("run", 60)
	w := newSite(t, f)
	f.change(longTexts)
	b.open(w, 60)
	b.until("the latest events are listed", "document.getElementById('marks').children.length > 60")
	const shown = "[...document.getElementById('marks').children].filter(e => !e.hidden).length"
	if n := evaluate[int](b, shown); n != 8 {
		t.Errorf("the page lists %d events of note, want 8", n)
	}
	run(b, chromedp.Click("#all-marks"))
	b.until("all events are listed", shown+" == document.getElementById('marks').children.length")
	run(b, chromedp.Click("#all-marks"))
	evaluate[bool](b, "document.getElementById('marks').focus(), true")
	for range 9 {
		run(b, chromedp.KeyEvent(kb.ArrowDown))
	}
	b.until("the arrow keys reach all events", "document.querySelector('#marks .chosen') == document.getElementById('marks').children[8] && "+shown+" > 8")
}

func testPageJoinsOverlappingBands(t *testing.T, b *browser) {
	b.open(newSite(t, newFake("run", 60)), 60)
	const bands = `[{from: 5, to: 7, color: 'a'}, {from: 1, to: 3, color: 'a'}, {from: 2, to: 4, color: 'a'}, {from: 2, to: 3, color: 'b'},
		{from: 6, to: null, color: 'a'}, {from: 8, to: 9, color: 'a'}]`
	const want = "a 1-4, b 2-3, a 5-null"
	expression := "import('/assets/marks.js').then(m => m.union(" + bands + ").map(b => `${b.color} ${b.from}-${b.to}`).join(', '))"
	if got := evaluate[string](b, expression); got != want {
		t.Errorf("the bands are %s, want %s", got, want)
	}
}

func testPageFinishedRunShowsLatenciesOfTheWholeRun(t *testing.T, b *browser) {
	f := newFake("run", 60)
	b.open(newSite(t, f), 60)
	const tile, total = "document.querySelectorAll('#tiles .value')[2].textContent", "document.querySelector('#latencies tbody').rows[0].cells[3].textContent"
	if evaluate[bool](b, tile+" == "+total) {
		t.Fatal("the last seconds have the same p99 as the whole run")
	}
	f.change(func(f *fake) { f.state.Phase, f.state.Verdict = Finished, Verdict{Outcome: ledger.Pass, Final: true} })
	b.until("the tile shows the p99 of the whole run", tile+" == "+total)
}

// testPageDrawsEveryUpdate sends each update only after the previous one is drawn, so that the speed of the machine
// does not matter.
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

// testPageDoesNotFlicker checks that updates neither replace elements of the charts nor leave a heat map blank. Only
// complete frames are visible, so it examines each frame.
func testPageDoesNotFlicker(t *testing.T, b *browser) {
	f := newFake("run", 60)
	w := newSite(t, f)
	b.resize(1280, 3000, "light") // large enough to show all charts
	b.open(w, 60)
	b.until("the charts are drawn", "document.getElementById('charts').dataset.drawn == 60")
	const heatMaps = "document.querySelectorAll('#charts .heatmap canvas')"
	evaluate[bool](b, `(() => {
		const charts = document.getElementById('charts'), all = () => [...charts.querySelectorAll('*')], before = all();
		const canvases = [...`+heatMaps+`], copies = canvases.map(() => document.createElement('canvas').getContext('2d', {willReadFrequently: true}));
		const watch = window.watch_ = {frames: 0, blank: 0, states: new Set(), least: Infinity, replaced: () => {
			const after = all();
			return before.filter((e, i) => e !== after[i]).length + Math.abs(after.length - before.length);
		}};
		// colored counts the pixels of a canvas that are neither gray, like the axes, nor transparent.
		const colored = i => {
			const {canvas} = copies[i], {width, height} = canvases[i];
			Object.assign(canvas, {width, height});
			copies[i].drawImage(canvases[i], 0, 0);
			const {data} = copies[i].getImageData(0, 0, width, height);
			let n = 0;
			for (let at = 0; at < data.length; at += 4) if (data[at + 3] > 200 && data[at + 2] - data[at] > 30) n++;
			return n;
		};
		const frame = () => {
			if (window.watch_ !== watch) return;
			setTimeout(() => { // after the frame
				const least = Math.min(...canvases.map((_, i) => colored(i)));
				watch.frames++;
				watch.states.add(charts.dataset.drawn);
				watch.least = Math.min(watch.least, least);
				if (least < 1000) watch.blank++;
				requestAnimationFrame(frame);
			});
		};
		frame();
		return canvases.length === 2;
	})()`)
	const updates = 50
	for i := range updates {
		f.grow()
		b.until("the update is drawn and looked at", fmt.Sprintf("watch_.states.has('%d')", 61+i))
	}
	t.Log(evaluate[string](b, "`${watch_.frames} frames, at least ${watch_.least} colored pixels`"))
	if blank := evaluate[int](b, "watch_.blank"); blank > 0 {
		t.Errorf("%d frames have a blank heat map", blank)
	}
	if n := evaluate[int](b, "watch_.replaced()"); n > 0 {
		t.Errorf("%d elements of the charts were replaced", n)
	}
	evaluate[bool](b, "window.watch_ = null, true")
}

// cell describes one cell of a heat map on the page. The field Legend is the text in the legend while the pointer is on
// the cell.
type cell struct {
	Legend string
	Color  string // the color of the cell, or "" if the cell is not painted
}

// heatMapCell moves the pointer to a cell of the heat map of end-to-end latencies, and returns the content of the cell.
func (b *browser) heatMapCell(second int64, latency time.Duration) cell {
	b.t.Helper()
	return evaluate[cell](b, fmt.Sprintf(`Promise.all([import('/assets/numbers.js'), import('/assets/histogram.js')]).then(([{seconds, timeOfDay}, {bucketOf, upperBound}]) => {
		const plot = document.querySelector('#charts .heatmap'), over = plot.querySelector('.u-over'), canvas = plot.querySelector('canvas');
		const box = over.getBoundingClientRect(), outer = canvas.getBoundingClientRect(), scale = canvas.width / outer.width;
		const legends = () => [...plot.querySelectorAll('.u-legend .u-value')].map(e => e.textContent);
		const point = (x, y) => {
			over.dispatchEvent(new MouseEvent('mousemove', {bubbles: true, clientX: box.left + x, clientY: box.top + y}));
			return legends();
		};
		over.dispatchEvent(new MouseEvent('mouseenter', {bubbles: true}));
		// middle returns one of the pixels for which a condition holds. The share 0.5 selects the pixel in the middle.
		const middle = (length, holds, share) => {
			const all = Array.from({length: Math.floor(length)}, (_, i) => i + 0.5).filter(holds);
			return all[Math.floor(all.length * share)];
		};
		const index = bucketOf(%[2]g), range = seconds(upperBound(index - 1)) + ' to ' + seconds(upperBound(index)) + ':', time = timeOfDay(new Date(%[1]d * 1000));
		// A cell begins at a whole second, but the legend rounds the time at the pointer to the nearest second. So the
		// legend shows the start of a cell from the middle of the previous cell to the middle of this cell. The share
		// 0.75 selects a pixel in the first half of this cell.
		const x = middle(box.width, x => point(x, box.height / 2)[0] === time, 0.75);
		const y = middle(box.height, y => point(x, y)[1].startsWith(range), 0.5);
		if (x == null || y == null) return {Legend: 'no cell for ' + time + ' and ' + range + ' ' + legends(), Color: ''};
		const legend = point(x, y)[1];
		const copy = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
		copy.drawImage(canvas, -Math.floor((box.left - outer.left + x) * scale), -Math.floor((box.top - outer.top + y) * scale));
		const [red, green, blue, alpha] = copy.getImageData(0, 0, 1, 1).data;
		const hex = [red, green, blue].map(v => v.toString(16).padStart(2, '0')).join('');
		return {Legend: legend.slice(legend.indexOf(': ') + 2), Color: alpha === 255 && blue - red > 30 ? '#' + hex : ''};
	})`, second, latency.Seconds()))
}

// testPageHeatMapShowsTheHistograms shows a run in which all latencies are 10 ms, except for some latencies of 1 s in
// the second half of the run.
func testPageHeatMapShowsTheHistograms(t *testing.T, b *browser) {
	const fast, slow = 10 * time.Millisecond, time.Second
	f := newFake("run", 60)
	f.state.Faults = nil
	for i := range f.rows {
		row := &f.rows[i]
		row.Marks = nil
		var entries, exits histogram.Histogram
		for range 100 {
			entries.Observe(fast)
		}
		for range 20 {
			exits.Observe(fast)
		}
		if i >= 30 {
			for range 10 {
				exits.Observe(slow)
			}
		}
		row.Entry.EndToEnd, row.Exit.EndToEnd = entries.Snapshot(), exits.Snapshot()
	}
	b.resize(1280, 3000, "light")
	b.open(newSite(t, f), 60)
	b.until("the charts are drawn", "document.getElementById('charts').dataset.drawn == 60")
	high := evaluate[string](b, "getComputedStyle(document.documentElement).getPropertyValue('--heat-high').trim()")
	low := evaluate[string](b, "getComputedStyle(document.documentElement).getPropertyValue('--heat-low').trim()")
	for _, at := range []int{10, 29, 30, 50} {
		second := f.rows[at].Second
		if got, want := b.heatMapCell(second, fast), (cell{"120", high}); got != want {
			t.Errorf("row %d, 10 ms: the cell is %+v, want %+v", at, got, want)
		}
		got := b.heatMapCell(second, slow)
		if at < 30 && got != (cell{Legend: "0"}) {
			t.Errorf("row %d, 1 s: the cell is %+v, want an empty cell", at, got)
		}
		if at >= 30 && (got.Legend != "10" || got.Color == "" || got.Color == high || got.Color == low) {
			t.Errorf("row %d, 1 s: the cell is %+v, want 10 events in a color between %s and %s", at, got, low, high)
		}
	}
	if got := b.heatMapCell(f.rows[50].Second, 100*time.Millisecond); got != (cell{Legend: "0"}) {
		t.Errorf("100 ms: the cell is %+v, want an empty cell", got)
	}
}

// testPageKeepsUp sends 10 updates per second to a page with an hour of history. It checks that all are drawn, and logs
// frame times, which depend on the machine.
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

// processorTime returns CPU seconds by kind of work. CPU time hardly depends on the load of the machine.
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

// brokenWords is a JavaScript expression for the words of up to 20 letters that a line break splits, other than after
// a hyphen or a slash.
const brokenWords = `(() => {
	const found = [], texts = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
	for (let node = texts.nextNode(); node; node = texts.nextNode()) {
		for (const word of node.textContent.matchAll(/[^\s\/-]+/g)) {
			const range = document.createRange();
			range.setStart(node, word.index);
			range.setEnd(node, word.index + word[0].length);
			if (word[0].length <= 20 && new Set([...range.getClientRects()].map(r => Math.round(r.top))).size > 1) found.push(word[0]);
		}
	}
	return found;
})()`

// testReportBreaksNoWord opens the HTML reports from files, as a user does who receives them by email.
func testReportBreaksNoWord(t *testing.T, b *browser) {
	dir, err := filepath.Abs("../report/testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"report.html", "comparison.html"} {
		run(b, chromedp.Navigate("file://"+filepath.Join(dir, page)))
		loaded := evaluate[[]string](b, "performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith('data:'))")
		if drawn := evaluate[int](b, "document.querySelectorAll('svg').length"); drawn == 0 || len(loaded) > 0 {
			t.Errorf("%s has %d charts and loads %q, want some charts and no loaded files", page, drawn, loaded)
		}
		for _, width := range []int64{1920, 1280, 1000, 640, 400, 320} {
			b.resize(width, 900, "light")
			b.fits(width)
			b.settles(fmt.Sprintf("%s breaks no word at %d px", page, width), brokenWords)
		}
	}
}

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
			// Only the legends of the two heat maps show no values while the pointer is on no chart.
			b.until("all charts are drawn", "[...document.querySelectorAll('#charts .u-legend')].filter(l => l.textContent.includes('–')).length == 2")
			image := run(b, chromedp.CaptureScreenshot())
			if err := os.WriteFile(filepath.Join(screenshots, fmt.Sprintf("live-%s-%d.png", theme, width)), image, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
