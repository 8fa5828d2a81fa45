package oci

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func testImage() Image {
	return Image{
		Name: "docker.io/local/test:1", Architecture: "amd64", Created: time.Unix(1_000_000_000, 0),
		Config: Config{User: "65532", Entrypoint: []string{"/bin/test"}, Labels: map[string]string{"a": "1", "b": "2", "c": "3"}},
		Layers: []Layer{
			func(f *Files) { f.Text("etc/motd", "hello") },
			func(f *Files) { f.Folder("tmp", 0o1777) },
		},
	}
}

func write(t *testing.T, image Image) []byte {
	t.Helper()
	var archive bytes.Buffer
	if err := image.Write(&archive); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

// unpack returns the files of an archive by their paths.
func unpack(t *testing.T, archive []byte) (files map[string][]byte, headers map[string]*tar.Header) {
	t.Helper()
	files, headers = map[string][]byte{}, map[string]*tar.Header{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, headers
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[header.Name], headers[header.Name] = content, header
	}
}

func TestTheSameImageIsTheSameBytes(t *testing.T) {
	t.Parallel()
	if !bytes.Equal(write(t, testImage()), write(t, testImage())) {
		t.Error("two archives of the same image differ")
	}
}

func TestEveryBlobHasItsDigestForAName(t *testing.T) {
	t.Parallel()
	files, _ := unpack(t, write(t, testImage()))
	blobs := 0
	for path, content := range files {
		name, isBlob := strings.CutPrefix(path, "blobs/sha256/")
		if !isBlob {
			continue
		}
		blobs++
		if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != name {
			t.Errorf("%s holds something else than its name says", path)
		}
	}
	const wanted = 4 // configuration, manifest, two layers
	if blobs != wanted {
		t.Errorf("there are %d blobs, not %d", blobs, wanted)
	}
}

func TestTheIndexLeadsToTheFilesOfTheLayers(t *testing.T) {
	t.Parallel()
	files, _ := unpack(t, write(t, testImage()))
	var index struct{ Manifests []descriptor }
	decode(t, files["index.json"], &index)
	if name := index.Manifests[0].Annotations["io.containerd.image.name"]; name != "docker.io/local/test:1" {
		t.Errorf("the name is %q", name)
	}
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	decode(t, files[index.Manifests[0].path()], &manifest)
	var config struct {
		Config Config
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	decode(t, files[manifest.Config.path()], &config)
	if config.Config.User != "65532" || config.Config.Labels["b"] != "2" {
		t.Errorf("the configuration is %+v", config.Config)
	}
	for i, layer := range manifest.Layers {
		if int64(len(files[layer.path()])) != layer.Size || config.RootFS.DiffIDs[i] != layer.Digest {
			t.Errorf("layer %d is not what the manifest and the configuration say", i)
		}
	}
	text, _ := unpack(t, files[manifest.Layers[0].path()])
	if string(text["etc/motd"]) != "hello" {
		t.Errorf("the first layer holds %v", text)
	}
	_, folders := unpack(t, files[manifest.Layers[1].path()])
	if h := folders["tmp/"]; h == nil || h.Mode != 0o1777 {
		t.Errorf("the second layer holds %v", folders)
	}
}

func TestATreeKeepsLinksAndModesAndLeavesOutWhatIsSkipped(t *testing.T) {
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
	image := testImage()
	image.Layers = []Layer{func(f *Files) { f.Tree(root, func(path string) bool { return path == "skipped" }) }}
	layers, err := image.layers()
	if err != nil {
		t.Fatal(err)
	}
	files, _ := unpack(t, write(t, image))
	_, headers := unpack(t, files[layers[0].path()])
	if len(headers) != 3 {
		t.Errorf("the layer has %d entries: %v", len(headers), headers)
	}
	if h := headers["kept/link"]; h == nil || h.Linkname != "program" {
		t.Errorf("the link is %+v", h)
	}
	if h := headers["kept/program"]; h == nil || h.Mode != 0o755 {
		t.Errorf("the program is %+v", h)
	}
}

func TestAFileThatCannotBeReadLeavesNoArchive(t *testing.T) {
	t.Parallel()
	image := testImage()
	image.Layers = []Layer{func(f *Files) { f.Program("bin/test", "/does/not/exist") }}
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := image.WriteFile(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the error is %v", err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 0 {
		t.Errorf("left: %v", entries)
	}
}

func decode(t *testing.T, text []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}
