package rest

import (
	"context"
	_ "embed" // required for the directive go:embed
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/metrics"
	"github.com/parking-operator/parking-operator/internal/summary"
)

// Summaries is the service that the API exposes. See summary.Service.
type Summaries interface {
	Store(ctx context.Context, summaries []event.Summary) ([]summary.Outcome, error)
	Find(ctx context.Context, id string) (event.Summary, bool, error)
	List(ctx context.Context, q summary.Query) (summary.Page, error)
	Stats(ctx context.Context) (summary.Stats, error)
}

// Dependencies are the dependencies of the API. All are required.
type Dependencies struct {
	Summaries  Summaries
	Registerer prometheus.Registerer
	Logger     *slog.Logger
}

const (
	pathSummaries = "/v1/summaries"
	pathSummary   = "/v1/summaries/{id}"
	pathStats     = "/v1/stats"
	pathOpenAPI   = "/openapi.json"
)

const (
	typeJSON    = "application/json"
	typeNDJSON  = "application/x-ndjson"
	typeProblem = "application/problem+json"
)

//go:embed openapi.json
var document []byte

type api struct {
	summaries Summaries
	log       *slog.Logger
	limits    limits
	gate      *gate
	seconds   *prometheus.HistogramVec
}

// endpoint handles a request. If it returns an error, dispatch responds with a problem document (RFC 9457).
type endpoint func(w http.ResponseWriter, r *http.Request) error

// methods maps the HTTP methods of a path to their endpoints.
type methods map[string]endpoint

// New returns the HTTP handler of the API. It does not serve metrics, health or readiness.
func New(d Dependencies) (http.Handler, error) { return newHandler(defaultLimits(), d) }

func newHandler(l limits, d Dependencies) (http.Handler, error) {
	a := &api{
		summaries: d.Summaries, log: d.Logger, limits: l, gate: newGate(l),
		seconds: prometheus.NewHistogramVec(metrics.Latency("summary_requests_seconds",
			"Time to answer a request to the summary API, by the status code of the answer."), []string{"code"}),
	}
	if err := metrics.Register(d.Registerer, "summary API", a.seconds); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	for path, endpoints := range a.routes() {
		handler := a.dispatch(endpoints)
		if strings.HasPrefix(path, "/v1/") {
			handler = a.measure(handler)
		}
		mux.Handle(path, handler)
	}
	mux.Handle("/", a.dispatch(nil))
	return mux, nil
}

func (a *api) routes() map[string]methods {
	return map[string]methods{
		pathSummaries: {http.MethodPost: a.bounded(a.post), http.MethodGet: a.bounded(a.list)},
		pathSummary:   {http.MethodGet: a.bounded(a.find)},
		pathStats:     {http.MethodGet: a.bounded(a.stats)},
		pathOpenAPI:   {http.MethodGet: a.openAPI},
	}
}

// dispatch calls the endpoint for the HTTP method of a request. If the endpoint returns an error, dispatch responds
// with a problem document.
func (a *api) dispatch(endpoints methods) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := endpoints.call(w, r); err != nil {
			a.refuse(w, asProblem(err))
		}
	})
}

func (m methods) call(w http.ResponseWriter, r *http.Request) error {
	if len(m) == 0 {
		return problemf(http.StatusNotFound, "this path does not exist; %s describes the API", pathOpenAPI)
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet // handle HEAD like GET, because package http omits the body from the response to HEAD
	}
	if endpoint, ok := m[method]; ok {
		return endpoint(w, r)
	}
	w.Header().Set("Allow", m.allowed())
	return problemf(http.StatusMethodNotAllowed, "this path does not support the method")
}

// allowed returns the methods of a path as the value of the header Allow.
func (m methods) allowed() string {
	var names []string
	for name := range m {
		names = append(names, name)
		if name == http.MethodGet {
			names = append(names, http.MethodHead)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// bounded returns an endpoint that handles a request as soon as the gate admits it.
func (a *api) bounded(next endpoint) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		leave, err := a.gate.enter(r)
		if err != nil {
			return err
		}
		defer leave()
		return next(w, r)
	}
}

func (a *api) measure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		recorder := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(recorder, r)
		a.seconds.WithLabelValues(strconv.Itoa(recorder.status)).Observe(time.Since(start).Seconds())
	})
}

type statusRecorder struct {
	http.ResponseWriter

	status int
}

// WriteHeader implements http.ResponseWriter.
func (r *statusRecorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap returns the underlying writer. http.ResponseController needs it.
func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// refuse responds with a problem document (RFC 9457).
func (a *api) refuse(w http.ResponseWriter, p *problem) {
	p.header(w.Header())
	a.answer(w, p.Status, typeProblem, p.body())
}

// answer sends a response. It closes the connection if the client does not receive the response in time.
func (a *api) answer(w http.ResponseWriter, status int, contentType string, body []byte) {
	header := w.Header()
	header.Set("Content-Type", contentType)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	control := http.NewResponseController(w)
	// Ignore the error: the response recorders of tests do not support deadlines.
	_ = control.SetWriteDeadline(time.Now().Add(a.limits.maxTransfer))
	w.WriteHeader(status)
	_, err := w.Write(body)
	if err == nil {
		err = control.Flush()
	}
	if err != nil {
		a.log.Debug("The client did not receive the response", "error", err)
		return
	}
	_ = control.SetWriteDeadline(time.Time{}) // the deadline must not apply to the next request
}

func (a *api) openAPI(w http.ResponseWriter, _ *http.Request) error {
	a.answer(w, http.StatusOK, typeJSON, document)
	return nil
}
