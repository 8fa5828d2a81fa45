package oci

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

const testName = "docker.io/local/test:1"

func testImage(layers ...Layer) Image {
	return Image{
		Name: testName, Architecture: "amd64", Created: time.Unix(1_000_000_000, 0),
		Config: v1.Config{User: "65532", Entrypoint: []string{"/bin/test"}, Labels: map[string]string{"a": "1", "b": "2"}},
		Layers: layers,
	}
}

// write writes an image to an archive in a temporary directory, and returns the path of the archive.
func write(t *testing.T, image Image) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := image.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// headers returns the tar headers of the files in an image archive, by path. The image must have exactly one layer.
func headers(t *testing.T, archive string) map[string]*tar.Header {
	t.Helper()
	tag, err := name.NewTag(testName)
	if err != nil {
		t.Fatal(err)
	}
	image, err := tarball.ImageFromPath(archive, &tag)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(image); err != nil {
		t.Error(err)
	}
	layers, err := image.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("the image has %d layers, want 1: %v", len(layers), err)
	}
	text, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*tar.Header{}
	for r := tar.NewReader(text); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all[header.Name] = header
	}
}

func TestWriteImage_EqualImages_ProduceIdenticalArchives(t *testing.T) {
	t.Parallel()
	image := testImage(func(f *Files) { f.Text("etc/motd", "hello") }, func(f *Files) { f.Directory("tmp", 0o1777) })
	first, err := os.ReadFile(write(t, image))
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(write(t, image))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("two archives of one image differ")
	}
}

func TestWriteImage_KeepsDirectoryModeAndTime(t *testing.T) {
	t.Parallel()
	h := headers(t, write(t, testImage(func(f *Files) { f.Directory("tmp", 0o1777) })))["tmp/"]
	if h == nil || h.Mode != 0o1777 || h.ModTime.Unix() != 1_000_000_000 {
		t.Errorf("the directory is %+v", h)
	}
}

func TestTree_SkippedPath_IsOmittedAndTheRestKeepsLinksAndModes(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, err := range []error{
		os.Mkdir(filepath.Join(root, "skipped"), 0o755),
		os.WriteFile(filepath.Join(root, "skipped", "file"), nil, 0o644),
		os.Mkdir(filepath.Join(root, "kept"), 0o755),
		os.WriteFile(filepath.Join(root, "kept", "program"), []byte("#!"), 0o755),
		os.Symlink("program", filepath.Join(root, "kept", "link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	all := headers(t, write(t, testImage(func(f *Files) { f.Tree(root, "skipped") })))
	if len(all) != 3 {
		t.Errorf("the layer has %d entries, want 3: %v", len(all), all)
	}
	if h := all["kept/link"]; h == nil || h.Linkname != "program" {
		t.Errorf("the link is %+v", h)
	}
	if h := all["kept/program"]; h == nil || h.Mode != 0o755 || h.Size != 2 {
		t.Errorf("the program is %+v", h)
	}
}

func TestWriteImage_UnreadableFile_LeavesNoArchive(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "image.tar")
	image := testImage(func(f *Files) { f.Program("bin/test", "/does/not/exist") })
	if err := image.WriteFile(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the error is %v", err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 0 {
		t.Errorf("the directory holds %v: %v", entries, err)
	}
}
