package kubectl

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/parking-operator/parking-operator/internal/document"
	"github.com/parking-operator/parking-operator/internal/resources"
	"github.com/parking-operator/parking-operator/internal/view"
)

const (
	// podAttempts is the maximum number of pods that one request tries.
	podAttempts = 3
	// podTimeout is the maximum time without data from a pod. A whole response has no timeout, because the connection
	// may be slow.
	podTimeout = 4 * time.Second
	// podTimelineTimeout replaces podTimeout in requests for a timeline. The pod may first have to finish another such
	// request.
	podTimelineTimeout = view.MaxSilence + podTimeout
	timelinePath       = "/v1/timeline"
	// For avoidTime after a failure, a pod is tried only after the other pods.
	avoidTime = 15 * time.Second
	// maxAnswer is the maximum size of a response in bytes. The largest responses are timelines of a few megabytes.
	maxAnswer = 64 << 20
)

type podAccess struct {
	// list returns the pods of the simulation. open opens a tunnel to one of these pods.
	list func(ctx context.Context) ([]corev1.Pod, error)
	open func(ctx context.Context, pod *corev1.Pod) (tunnel, error)
	// connected is called with the name of each pod to which a tunnel was opened. It may be nil.
	connected func(pod string)
}

// pages reads live data through a tunnel to one pod of a simulation, and switches to another pod if the pod fails. It
// is safe for concurrent use.
type pages struct {
	podAccess

	client http.Client
	// timelineTimeout is the timeout of requests for a timeline, and timeout that of all other requests.
	timeout, timelineTimeout time.Duration
	// maxAnswer is the maximum size of a response in bytes. Tests set a smaller maximum.
	maxAnswer int64

	mu     sync.Mutex // mu guards the fields below
	tunnel tunnel     // nil if no tunnel is open
	pod    string     // the name of the pod at the other end of the tunnel
	port   int32
	failed map[string]time.Time
}

// newPages returns a reader of live data that the caller must close.
func newPages(a podAccess) *pages {
	p := &pages{podAccess: a, timeout: podTimeout, timelineTimeout: podTimelineTimeout, maxAnswer: maxAnswer, failed: map[string]time.Time{}}
	// All data passes through the API server, so keep the default of requesting compressed responses.
	p.client.Transport = &http.Transport{
		DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return p.dial(ctx) },
		IdleConnTimeout: time.Minute,
	}
	return p
}

func (c *cluster) pagesOf(namespace, name string, connected func(string)) *pages {
	return newPages(podAccess{
		list:      func(ctx context.Context) ([]corev1.Pod, error) { return c.podsOf(ctx, namespace, name) },
		open:      c.openTunnel,
		connected: connected,
	})
}

// get sends a GET request and decodes the JSON response. If a pod does not respond, get tries other pods.
func (p *pages) get(ctx context.Context, path string, into any) error {
	var err error
	for range podAttempts {
		var final bool
		final, err = p.getOnce(ctx, path, into)
		if err == nil || final || ctx.Err() != nil {
			return err
		}
		p.drop()
	}
	return err
}

// getOnce sends a GET request to one pod. final is true if a request to another pod would not help.
func (p *pages) getOnce(ctx context.Context, path string, into any) (final bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timeout := p.timeout
	if strings.HasPrefix(path, timelinePath) {
		timeout = p.timelineTimeout
	}
	silent := time.AfterFunc(timeout, func() { cancel(silentError(timeout)) })
	defer silent.Stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path, http.NoBody)
	if err != nil {
		return true, err
	}
	response, err := p.client.Do(request)
	if err != nil {
		var input *InputError
		var none *noPodError
		return errors.As(err, &input) || errors.As(err, &none), p.describe(orSilence(ctx, err))
	}
	defer func() { _ = response.Body.Close() }() // ignore the error, because the body was only read
	body := readerFunc(func(b []byte) (int, error) {
		n, err := response.Body.Read(b)
		silent.Reset(timeout)
		return n, err
	})
	text, err := io.ReadAll(io.LimitReader(body, p.maxAnswer+1))
	if err != nil {
		return false, p.describe(orSilence(ctx, err))
	}
	if int64(len(text)) > p.maxAnswer {
		return false, fmt.Errorf("pod %s: the answer exceeds %d bytes", p.current(), p.maxAnswer)
	}
	if response.StatusCode != http.StatusOK {
		var problem struct{ Detail string }
		// Without a valid body, the answerError contains the HTTP status.
		_ = json.Unmarshal(text, &problem)
		return true, &answerError{pod: p.current(), detail: cmp.Or(problem.Detail, response.Status)}
	}
	if err := (document.Format{}).DecodeKnown(text, into); err != nil {
		return true, fmt.Errorf("pod %s: the answer cannot be read: %w", p.current(), err)
	}
	return true, nil
}

type readerFunc func([]byte) (int, error)

// Read implements io.Reader.
func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// silentError is the error of a request to a pod that has sent nothing for some time. The value of the error is the
// length of this time.
type silentError time.Duration

func (e silentError) Error() string { return "the pod sent nothing for " + time.Duration(e).String() }

// orSilence returns the cancellation cause of ctx if it is a silentError. Otherwise, it returns err.
func orSilence(ctx context.Context, err error) error {
	if silence, ok := errors.AsType[silentError](context.Cause(ctx)); ok {
		return silence
	}
	return err
}

// describe adds the name of the pod to an error, and removes the text that package net/http has added.
func (p *pages) describe(err error) error {
	var input *InputError
	var none *noPodError
	switch {
	case errors.As(err, &input):
		return input
	case errors.As(err, &none):
		return none
	}
	if port, ok := errors.AsType[portError](err); ok {
		err = port
	} else if cause := errors.Unwrap(err); cause != nil {
		err = cause
	}
	return fmt.Errorf("pod %s does not answer: %w", p.current(), err)
}

// current returns the name of the pod that the tunnel leads to.
func (p *pages) current() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return cmp.Or(p.pod, none)
}

// dial connects to the live page through the tunnel. If no tunnel is open, dial opens one first.
func (p *pages) dial(ctx context.Context) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tunnel == nil {
		if err := p.choose(ctx); err != nil {
			return nil, err
		}
	}
	return p.tunnel.Dial(p.port)
}

// choose opens a tunnel to the first candidate. The caller holds the mutex.
func (p *pages) choose(ctx context.Context) error {
	pods, err := p.list(ctx)
	if err != nil {
		return err
	}
	candidates := p.candidates(pods)
	if len(candidates) == 0 {
		return &noPodError{pods}
	}
	best := candidates[0]
	p.pod, p.port = best.pod.Name, best.port
	if p.tunnel, err = p.open(ctx, best.pod); err != nil {
		p.tunnel = nil
		return err
	}
	if p.connected != nil {
		p.connected(p.pod)
	}
	return nil
}

// candidate is a pod that serves the live page.
type candidate struct {
	pod  *corev1.Pod
	port int32
	rank int // pods are tried in ascending order of their rank
}

// candidates returns the running pods that serve the live page, in the order in which to try them. Pods that are not
// ready are included, because they may still show earlier data.
func (p *pages) candidates(pods []corev1.Pod) []candidate {
	var all []candidate
	for i := range pods {
		pod := &pods[i]
		port, ok := pagePort(pod)
		if !ok || pod.Status.Phase != corev1.PodRunning || pod.DeletionTimestamp != nil {
			continue
		}
		c := candidate{pod: pod, port: port}
		if !resources.IsReady(pod) {
			c.rank++
		}
		if time.Since(p.failed[pod.Name]) < avoidTime {
			c.rank += 2
		}
		all = append(all, c)
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return cmp.Compare(a.rank, b.rank) })
	return all
}

// pagePort returns the port on which a pod serves the live page, or false if it does not.
func pagePort(pod *corev1.Pod) (number int32, ok bool) {
	for i := range pod.Spec.Containers {
		for _, port := range pod.Spec.Containers[i].Ports {
			if port.Name == resources.PortPage {
				return port.ContainerPort, true
			}
		}
	}
	return 0, false
}

// drop closes the tunnel after a failure.
func (p *pages) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pod != "" {
		p.failed[p.pod] = time.Now()
	}
	p.close()
}

// close closes the tunnel. The caller holds the mutex.
func (p *pages) close() {
	p.client.CloseIdleConnections()
	if p.tunnel != nil {
		_ = p.tunnel.Close() // ignore the error: the tunnel may already be broken
		p.tunnel = nil
	}
}

// Close closes the tunnel.
func (p *pages) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.close()
}

// answerError is an error that a pod returns, for example if the pod cannot read the simulation's servers.
type answerError struct{ pod, detail string }

func (e *answerError) Error() string { return "pod " + e.pod + ": " + e.detail }

// noPodError means that no pod serves the live page.
type noPodError struct{ pods []corev1.Pod }

func (e *noPodError) Error() string {
	for i := range e.pods {
		pod := &e.pods[i]
		switch _, serves := pagePort(pod); {
		case serves && pod.DeletionTimestamp != nil:
			return fmt.Sprintf("pod %s is being deleted, and no other processor runs", pod.Name)
		case serves:
			return fmt.Sprintf("pod %s is not running: its phase is %s", pod.Name, pod.Status.Phase)
		case pod.Labels[resources.ComponentLabel] == string(resources.ComponentProcessor):
			return fmt.Sprintf("pod %s does not serve the live page: update the operator", pod.Name)
		}
	}
	return "no processor runs, and only processors serve live data: the simulation has not started or has ended, or spec.processor.replicas is 0"
}
