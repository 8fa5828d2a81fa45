package rest

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/summary"
)

// post stores the summaries in a request. The body contains either a single summary, or one summary per line.
func (a *api) post(w http.ResponseWriter, r *http.Request) error {
	mediaType, err := requestType(r)
	if err != nil {
		w.Header().Set("Accept-Post", typeJSON+", "+typeNDJSON)
		return err
	}
	if mediaType == typeNDJSON {
		return a.postMany(w, r)
	}
	return a.postOne(w, r)
}

// requestType returns the media type of the body, or an error if the API does not support it.
func requestType(r *http.Request) (string, error) {
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return "", problemf(http.StatusUnsupportedMediaType, "content encoding %.40q is not supported; send the body without a content encoding", encoding)
	}
	given := r.Header.Get("Content-Type")
	mediaType, _, err := mime.ParseMediaType(given)
	if err != nil || mediaType != typeJSON && mediaType != typeNDJSON {
		return "", problemf(http.StatusUnsupportedMediaType, "content type %.40q is not supported; send %s, or %s with one summary per line", given, typeJSON, typeNDJSON)
	}
	return mediaType, nil
}

// postOne stores a single summary and responds with it.
func (a *api) postOne(w http.ResponseWriter, r *http.Request) error {
	body, err := a.read(w, r, event.MaxBodyBytes)
	if err != nil {
		return err
	}
	s, err := decode(body)
	if err != nil {
		return err
	}
	outcomes, err := a.store(r.Context(), []event.Summary{s})
	if err != nil {
		return err
	}
	status := statusOf(outcomes[0])
	if status == http.StatusConflict {
		return summary.Conflict()
	}
	if status == http.StatusCreated {
		w.Header().Set("Location", pathSummaries+"/"+url.PathEscape(s.ID))
	}
	a.answer(w, status, typeJSON, append(event.AppendSummary(nil, s), '\n'))
	return nil
}

// postMany stores the valid summaries in a request. The response has one line for each line of the request.
func (a *api) postMany(w http.ResponseWriter, r *http.Request) error {
	body, err := a.read(w, r, a.limits.maxBytes)
	if err != nil {
		return err
	}
	b, err := decodeBulk(body, a.limits.maxLines)
	if err != nil {
		return err
	}
	outcomes, err := a.store(r.Context(), b.summaries)
	if err != nil {
		return err
	}
	const usualLength = 64 // the usual length of a line of the response, in bytes
	a.answer(w, http.StatusOK, typeNDJSON, b.appendAnswer(make([]byte, 0, b.lines*usualLength), outcomes))
	return nil
}

func (a *api) store(ctx context.Context, summaries []event.Summary) ([]summary.Outcome, error) {
	if len(summaries) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.limits.timeout)
	defer cancel()
	return a.summaries.Store(ctx, summaries)
}

// read reads the body of a request. It returns an error if the body exceeds limit bytes.
func (a *api) read(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	control := http.NewResponseController(w)
	// SetReadDeadline fails only in tests whose ResponseWriter has no connection.
	_ = control.SetReadDeadline(time.Now().Add(a.limits.maxTransfer))
	body, err := readAll(http.MaxBytesReader(w, r.Body, limit), r.ContentLength)
	if _, exceeded := errors.AsType[*http.MaxBytesError](err); exceeded {
		return nil, tooLarge(limit)
	}
	if err != nil {
		return nil, problemf(http.StatusRequestTimeout, "the request body did not arrive completely: %v", err)
	}
	// Remove the deadline. Otherwise, it could expire before the response is sent, and cancel the request.
	_ = control.SetReadDeadline(time.Time{})
	return body, nil
}

// readAll reads r until its end. length is the expected number of bytes, or -1 if it is unknown.
func readAll(r io.Reader, length int64) ([]byte, error) {
	if length < 0 {
		return io.ReadAll(r)
	}
	body := make([]byte, length)
	_, err := io.ReadFull(r, body)
	return body, err
}

func tooLarge(limit int64) *problem {
	return problemf(http.StatusRequestEntityTooLarge, "the body has more than %d bytes; nothing was stored", limit)
}
