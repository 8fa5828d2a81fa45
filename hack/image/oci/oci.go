// Package oci writes container images as OCI archives, which containerd, podman, skopeo, kind and docker
// read. The same image always gives the same bytes.
package oci

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Image is a container image for Linux.
type Image struct {
	// Name is the full reference, with registry and tag: docker.io/local/pause:1.
	Name string
	// Architecture is Go's name of it: amd64.
	Architecture string
	// Created is the time of the image and of every file in it.
	Created time.Time
	Config  Config
	Layers  []Layer
}

// Config is what a container runs by default.
type Config struct {
	User       string            `json:"User,omitempty"`
	Env        []string          `json:"Env,omitempty"`
	Entrypoint []string          `json:"Entrypoint,omitempty"`
	WorkingDir string            `json:"WorkingDir,omitempty"`
	Labels     map[string]string `json:"Labels,omitempty"`
}

// Layer writes the files of one layer. It is called twice and must write the same each time.
type Layer func(*Files)

// Media types of the parts of an image. Layers are not compressed: registries' clients do that, each in
// its own way, and what is not compressed is the same wherever it was written.
const (
	mediaTypeIndex    = "application/vnd.oci.image.index.v1+json"
	mediaTypeManifest = "application/vnd.oci.image.manifest.v1+json"
	mediaTypeConfig   = "application/vnd.oci.image.config.v1+json"
	mediaTypeLayer    = "application/vnd.oci.image.layer.v1.tar"
)

// descriptor refers to a blob by its content.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

func (d descriptor) path() string { return "blobs/sha256/" + d.Digest[len("sha256:"):] }

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

// blob is a part of an archive: text, or else a layer.
type blob struct {
	descriptor
	text  []byte
	layer Layer
}

// WriteFile writes the archive to a file, which appears when it is whole.
func (i Image) WriteFile(path string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write image %s to %s: %w", i.Name, path, err)
		}
	}()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	part, err := os.Create(path + ".part")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(part.Name()) }() // there is none any more if all went well
	err = i.Write(part)
	if closeErr := part.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(part.Name(), path)
}

// Write writes the archive.
func (i Image) Write(w io.Writer) error {
	layers, err := i.layers()
	if err != nil {
		return err
	}
	config, err := jsonBlob(mediaTypeConfig, i.configFile(layers))
	if err != nil {
		return err
	}
	manifest, err := jsonBlob(mediaTypeManifest, map[string]any{
		"schemaVersion": 2,
		"mediaType":     mediaTypeManifest,
		"config":        config.descriptor,
		"layers":        descriptors(layers),
	})
	if err != nil {
		return err
	}
	manifest.Platform = &platform{i.Architecture, "linux"}
	manifest.Annotations = map[string]string{
		"io.containerd.image.name":          i.Name,
		"org.opencontainers.image.ref.name": i.Name,
	}
	return i.writeArchive(w, append([]blob{config, manifest}, layers...), manifest.descriptor)
}

// layers describes the layers, for which it writes each of them once to nowhere.
func (i Image) layers() ([]blob, error) {
	var blobs []blob
	for _, layer := range i.Layers {
		d := digester{hash: sha256.New()}
		if err := i.writeLayer(&d, layer); err != nil {
			return nil, err
		}
		blobs = append(blobs, blob{descriptor: d.descriptor(mediaTypeLayer), layer: layer})
	}
	return blobs, nil
}

func (i Image) writeLayer(w io.Writer, layer Layer) error {
	files := Files{tar: tar.NewWriter(w), time: i.Created}
	layer(&files)
	return files.close()
}

func (i Image) configFile(layers []blob) any {
	var digests []string
	for _, layer := range layers {
		digests = append(digests, layer.Digest) // that of the content too, as it is not compressed
	}
	return map[string]any{
		"created":      i.Created.UTC().Format(time.RFC3339),
		"architecture": i.Architecture,
		"os":           "linux",
		"config":       i.Config,
		"rootfs":       map[string]any{"type": "layers", "diff_ids": digests},
	}
}

// writeArchive writes an OCI layout, and the file in which docker before version 25 looks for what is
// there.
func (i Image) writeArchive(w io.Writer, blobs []blob, manifest descriptor) error {
	files := Files{tar: tar.NewWriter(w), time: i.Created}
	files.Text("oci-layout", `{"imageLayoutVersion":"1.0.0"}`)
	files.JSON("index.json", map[string]any{
		"schemaVersion": 2, "mediaType": mediaTypeIndex, "manifests": []descriptor{manifest},
	})
	var layers []string
	for _, b := range blobs {
		if b.layer == nil {
			files.Text(b.path(), string(b.text))
			continue
		}
		layers = append(layers, b.path())
		files.header(tar.Header{Name: b.path(), Mode: 0o644, Size: b.Size, Typeflag: tar.TypeReg})
		if files.err != nil {
			return files.err
		}
		if err := i.writeLayer(files.tar, b.layer); err != nil {
			return err
		}
	}
	files.JSON("manifest.json", []map[string]any{
		{"Config": blobs[0].path(), "RepoTags": []string{i.Name}, "Layers": layers},
	})
	return files.close()
}

func jsonBlob(mediaType string, content any) (blob, error) {
	text, err := json.Marshal(content)
	if err != nil {
		return blob{}, err
	}
	d := digester{hash: sha256.New()}
	if _, err := io.Copy(&d, bytes.NewReader(text)); err != nil {
		return blob{}, err
	}
	return blob{descriptor: d.descriptor(mediaType), text: text}, nil
}

func descriptors(blobs []blob) []descriptor {
	all := make([]descriptor, len(blobs))
	for i, b := range blobs {
		all[i] = b.descriptor
	}
	return all
}

// digester measures what is written to it.
type digester struct {
	hash hash.Hash
	size int64
}

func (d *digester) Write(p []byte) (int, error) {
	d.size += int64(len(p))
	return d.hash.Write(p)
}

func (d *digester) descriptor(mediaType string) descriptor {
	return descriptor{MediaType: mediaType, Digest: "sha256:" + hex.EncodeToString(d.hash.Sum(nil)), Size: d.size}
}
