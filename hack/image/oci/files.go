package oci

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Files writes the files of a layer. Paths have no leading slash. After an error nothing more is written,
// and writing the image returns it.
type Files struct {
	tar  *tar.Writer
	time time.Time
	err  error
}

func (f *Files) close() error {
	if f.err != nil {
		return f.err
	}
	return f.tar.Close()
}

// Text writes a file that everybody may read.
func (f *Files) Text(path, content string) {
	f.header(tar.Header{Name: path, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg})
	if f.err == nil {
		_, f.err = io.WriteString(f.tar, content)
	}
}

// JSON writes a file with a value as JSON.
func (f *Files) JSON(path string, value any) {
	text, err := json.Marshal(value)
	if f.err == nil {
		f.err = err
	}
	f.Text(path, string(text))
}

// Folder makes a folder. Mode may have the sticky bit, as tar knows it: 01777.
func (f *Files) Folder(path string, mode int64) {
	f.header(tar.Header{Name: path + "/", Mode: mode, Typeflag: tar.TypeDir})
}

// Program writes the copy of a file that everybody may run.
func (f *Files) Program(path, source string) {
	f.copy(tar.Header{Name: path, Mode: 0o755, Typeflag: tar.TypeReg}, source)
}

// Tree writes everything below root with its owners and modes, but what skip leaves out: it is given paths
// without leading slash, and a folder that it skips is left out with all that is in it. Devices and sockets
// are left out as well.
func (f *Files) Tree(root string, skip func(path string) bool) {
	err := filepath.WalkDir(root, func(source string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		path, err := filepath.Rel(root, source)
		if err != nil || path == "." {
			return err
		}
		if skip(path) {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		f.entry(path, source, entry)
		return f.err
	})
	if f.err == nil {
		f.err = err
	}
}

func (f *Files) entry(path, source string, entry fs.DirEntry) {
	info, err := entry.Info()
	if err != nil {
		f.err = err
		return
	}
	h := tar.Header{Name: path}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		h.Uid, h.Gid, h.Mode = int(stat.Uid), int(stat.Gid), int64(stat.Mode&0o7777)
	}
	switch info.Mode().Type() {
	case 0:
		h.Typeflag = tar.TypeReg
		f.copy(h, source)
	case fs.ModeDir:
		h.Typeflag, h.Name = tar.TypeDir, path+"/"
		f.header(h)
	case fs.ModeSymlink:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = os.Readlink(source); err != nil {
			f.err = err
			return
		}
		f.header(h)
	}
}

func (f *Files) copy(h tar.Header, source string) {
	if f.err != nil {
		return
	}
	file, err := os.Open(source)
	if err != nil {
		f.err = err
		return
	}
	defer func() { _ = file.Close() }() // it was only read
	info, err := file.Stat()
	if err != nil {
		f.err = err
		return
	}
	h.Size = info.Size()
	f.header(h)
	if f.err == nil {
		_, f.err = io.Copy(f.tar, file)
	}
}

func (f *Files) header(h tar.Header) {
	if f.err != nil {
		return
	}
	h.ModTime = f.time
	h.Format = tar.FormatPAX
	if strings.HasPrefix(h.Name, "/") {
		f.err = fmt.Errorf("path %s of a layer has a leading slash", h.Name)
		return
	}
	f.err = f.tar.WriteHeader(&h)
}
