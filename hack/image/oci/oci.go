// Package oci builds container images from files and writes them as archives that docker, podman, containerd and
// kind can load. Equal input always produces an identical archive.
package oci

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Image is a container image for Linux.
type Image struct {
	// Name is the full name of the image with registry and tag, such as docker.io/local/pause:1.
	Name string
	// Architecture is the GOARCH value, such as amd64.
	Architecture string
	// Created is the creation time of the image and the modification time of every file in it.
	Created time.Time
	Config  v1.Config
	Layers  []Layer
}

// Layer is a function that writes the files of one layer.
type Layer func(*Files)

// WriteFile writes the image as an archive to a file. The file does not exist until all of it is written.
func (i Image) WriteFile(path string) error {
	if err := i.writeFile(path); err != nil {
		return fmt.Errorf("write image %s to %s: %w", i.Name, path, err)
	}
	return nil
}

func (i Image) writeFile(path string) error {
	reference, err := name.ParseReference(i.Name)
	if err != nil {
		return err
	}
	image, err := i.build()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	part := path + ".part"
	if err := tarball.WriteToFile(part, reference, image); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return os.Rename(part, path)
}

// build assembles the image. It does not compress layers, because on a local machine the compression would take
// longer than it saves.
func (i Image) build() (v1.Image, error) {
	image, err := mutate.ConfigFile(mutate.MediaType(empty.Image, types.OCIManifestSchema1), &v1.ConfigFile{
		Created: v1.Time{Time: i.Created.UTC()}, Architecture: i.Architecture, OS: "linux",
		Config: i.Config, RootFS: v1.RootFS{Type: "layers"},
	})
	if err != nil {
		return nil, err
	}
	for _, layer := range i.Layers {
		text, err := i.files(layer)
		if err != nil {
			return nil, err
		}
		if image, err = mutate.AppendLayers(image, static.NewLayer(text, types.OCIUncompressedLayer)); err != nil {
			return nil, err
		}
	}
	return image, nil
}

// files returns a layer as a tar archive.
func (i Image) files(layer Layer) ([]byte, error) {
	var text bytes.Buffer
	files := Files{tar: tar.NewWriter(&text), created: i.Created}
	layer(&files)
	return text.Bytes(), errors.Join(files.err, files.tar.Close())
}

// Files writes the files of a layer. Paths must not begin with a slash. After the first error, all further calls do
// nothing.
type Files struct {
	tar     *tar.Writer
	created time.Time
	err     error
}

// Text writes a file that every user can read.
func (f *Files) Text(path, content string) {
	f.header(tar.Header{Name: path, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg})
	if f.err == nil {
		_, f.err = io.WriteString(f.tar, content)
	}
}

// Directory writes an empty directory. The mode may contain the sticky bit, as in 01777.
func (f *Files) Directory(path string, mode int64) {
	f.header(tar.Header{Name: path + "/", Mode: mode, Typeflag: tar.TypeDir})
}

// Program copies a file. Every user can execute the copy.
func (f *Files) Program(path, source string) {
	info, err := os.Stat(source)
	if err != nil {
		f.err = errors.Join(f.err, err)
		return
	}
	f.header(tar.Header{Name: path, Mode: 0o755, Size: info.Size(), Typeflag: tar.TypeReg})
	f.content(source)
}

// Tree copies all files below root, with their owners and modes. It omits devices, sockets, and the paths in skip.
func (f *Files) Tree(root string, skip ...string) {
	err := filepath.WalkDir(root, func(source string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		path, err := filepath.Rel(root, source)
		if err != nil || path == "." {
			return err
		}
		for _, skipped := range skip {
			if path == skipped && entry.IsDir() {
				return fs.SkipDir
			}
			if path == skipped {
				return nil
			}
		}
		f.entry(path, source, entry)
		return f.err
	})
	f.err = errors.Join(f.err, err)
}

func (f *Files) entry(path, source string, entry fs.DirEntry) {
	info, err := entry.Info()
	if err != nil {
		f.err = err
		return
	}
	var link string
	switch info.Mode().Type() {
	case 0, fs.ModeDir:
	case fs.ModeSymlink:
		if link, err = os.Readlink(source); err != nil {
			f.err = err
			return
		}
	default:
		return
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		f.err = err
		return
	}
	h.Name, h.Uname, h.Gname = path, "", ""
	if info.IsDir() {
		h.Name += "/"
	}
	f.header(*h)
	if info.Mode().IsRegular() {
		f.content(source)
	}
}

// content copies the content of a file to the archive. The caller must first write the header of this file.
func (f *Files) content(source string) {
	if f.err != nil {
		return
	}
	file, err := os.Open(source)
	if err != nil {
		f.err = err
		return
	}
	_, err = io.Copy(f.tar, file)
	f.err = errors.Join(err, file.Close())
}

func (f *Files) header(h tar.Header) {
	if f.err != nil {
		return
	}
	h.ModTime, h.AccessTime, h.ChangeTime = f.created, time.Time{}, time.Time{}
	h.Format = tar.FormatPAX
	f.err = f.tar.WriteHeader(&h)
}
