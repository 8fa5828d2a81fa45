package view

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"net/http"
	"path"
	"sync"
	"time"
)

//go:embed assets
var files embed.FS

type asset struct {
	content     []byte
	contentType string
	etag        string
}

const indexFile = "index.html"

// assets returns the files of the live page by name.
var assets = sync.OnceValue(func() map[string]asset {
	entries, err := files.ReadDir("assets")
	if err != nil {
		return nil // no error is possible, because the directory is embedded in the binary
	}
	all := map[string]asset{}
	for _, entry := range entries {
		content, err := files.ReadFile("assets/" + entry.Name())
		if err != nil {
			continue // reading never fails, because the file is embedded in the binary
		}
		sum := sha256.Sum256(content)
		all[entry.Name()] = asset{
			content:     content,
			contentType: contentType(entry.Name()),
			etag:        `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`,
		}
	}
	return all
})

// contentType returns the media type of a file. It ignores the media types that the operating system defines, because
// scripts must have the same type on every machine.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return "text/plain; charset=utf-8"
}

func servePage(w http.ResponseWriter, r *http.Request) { serve(w, r, indexFile) }

func serveAsset(w http.ResponseWriter, r *http.Request) { serve(w, r, r.PathValue("name")) }

// serve responds with a file. The browser must revalidate its copy before each use.
func serve(w http.ResponseWriter, r *http.Request, name string) {
	file, ok := assets()[name]
	if !ok {
		refuse(w, http.StatusNotFound, "this file does not exist")
		return
	}
	w.Header().Set("Content-Type", file.contentType)
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("ETag", file.etag)
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(file.content))
}
