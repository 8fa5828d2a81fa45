package httpserver

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
)

func TestGuard_HostHeader_MustNameThisMachine(t *testing.T) {
	t.Parallel()
	guarded := Guard([]string{"Parking.example", "build7.", ""}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for host, want := range map[string]int{
		"localhost":             http.StatusOK,
		"localhost:8080":        http.StatusOK,
		"LOCALHOST":             http.StatusOK,
		"LocalHost:8080":        http.StatusOK,
		"localhost.":            http.StatusOK,
		"localhost.:8080":       http.StatusOK,
		"run.localhost:8080":    http.StatusOK,
		"run.localhost.":        http.StatusOK,
		"127.0.0.1":             http.StatusOK,
		"127.0.0.1:8080":        http.StatusOK,
		"192.0.2.7:8080":        http.StatusOK,
		"[::1]":                 http.StatusOK,
		"[::1]:8080":            http.StatusOK,
		"parking.example":       http.StatusOK,
		"PARKING.example.:8080": http.StatusOK,
		"build7:8080":           http.StatusOK,

		"":                       http.StatusForbidden,
		".":                      http.StatusForbidden,
		":8080":                  http.StatusForbidden,
		"evil.example":           http.StatusForbidden,
		"evil.example:8080":      http.StatusForbidden,
		"evil-localhost":         http.StatusForbidden,
		"localhost.evil.example": http.StatusForbidden,
		"localhost..":            http.StatusForbidden,
		"127.0.0.1.evil.example": http.StatusForbidden,
		"build7.evil.example":    http.StatusForbidden,
		"evil.parking.example":   http.StatusForbidden,
		"user@localhost":         http.StatusForbidden,
	} {
		r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		r.Host = host
		w := httptest.NewRecorder()
		guarded.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("Host %q: the response has the status %d, want %d", host, w.Code, want)
		}
	}
}

func TestGuard_CrossOriginRequest_IsRejectedUnlessItFollowsALink(t *testing.T) {
	t.Parallel()
	guarded := Guard(nil, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	link := []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}
	for name, tt := range map[string]struct {
		headers []string
		get     int
		post    int
	}{
		"a program that is not a browser":              {nil, 200, 200},
		"the server's own page":                        {[]string{"Sec-Fetch-Site", "same-origin", "Origin", "http://localhost"}, 200, 200},
		"the server's own page in an old browser":      {[]string{"Origin", "http://LOCALHOST"}, 200, 200},
		"a user who types the address":                 {[]string{"Sec-Fetch-Site", "none"}, 200, 200},
		"a script of another site":                     {[]string{"Sec-Fetch-Site", "cross-site"}, 403, 403},
		"a script of another port":                     {[]string{"Sec-Fetch-Site", "same-site"}, 403, 403},
		"another origin in an old browser":             {[]string{"Origin", "http://evil.example"}, 403, 403},
		"another port in an old browser":               {[]string{"Origin", "http://localhost:3000"}, 403, 403},
		"an opaque origin":                             {[]string{"Origin", "null"}, 403, 403},
		"a link or a form of another site":             {link, 200, 403},
		"a frame of another site":                      {append(link[:4:4], "Sec-Fetch-Dest", "iframe"), 403, 403},
		"a script of another site that loads the page": {append(link[:2:2], "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "script"), 403, 403},
	} {
		for method, want := range map[string]int{http.MethodGet: tt.get, http.MethodPost: tt.post} {
			r := httptest.NewRequest(method, "http://localhost/", http.NoBody)
			for header := range slices.Chunk(tt.headers, 2) {
				r.Header.Set(header[0], header[1])
			}
			w := httptest.NewRecorder()
			guarded.ServeHTTP(w, r)
			if w.Code != want {
				t.Errorf("%s of %s: the response has the status %d, want %d", method, name, w.Code, want)
			}
		}
	}
}

func TestGuard_RejectedRequest_ResponseIsAProblemDocument(t *testing.T) {
	t.Parallel()
	guarded := Guard(nil, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for name, change := range map[string]func(*http.Request){
		"another host": func(r *http.Request) { r.Host = "evil.example" },
		"another site": func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
	} {
		r := httptest.NewRequest(http.MethodPost, "http://localhost/", http.NoBody)
		change(r)
		w := httptest.NewRecorder()
		guarded.ServeHTTP(w, r)
		var problem struct {
			Status int
			Detail string
		}
		err := json.Unmarshal(w.Body.Bytes(), &problem)
		if kind := w.Header().Get("Content-Type"); err != nil || kind != "application/problem+json" || problem.Status != http.StatusForbidden || problem.Detail == "" {
			t.Errorf("%s: the response has the body %q of type %q", name, w.Body, kind)
		}
	}
}
