// Package krew_test tests the script that builds the archives and the manifest of the plugin for krew.
package krew_test

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// manifest contains the fields of a plugin manifest that krew requires.
type manifest struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		Version          string     `json:"version"`
		Homepage         string     `json:"homepage"`
		ShortDescription string     `json:"shortDescription"`
		Description      string     `json:"description"`
		Caveats          string     `json:"caveats"`
		Platforms        []platform `json:"platforms"`
	} `json:"spec"`
}

type platform struct {
	Selector struct {
		MatchLabels struct {
			OS   string `json:"os"`
			Arch string `json:"arch"`
		} `json:"matchLabels"`
	} `json:"selector"`
	URI    string `json:"uri"`
	SHA256 string `json:"sha256"`
	Bin    string `json:"bin"`
}

// fakeGo and fakeGit are scripts that replace go and git. Where go would write a binary, fakeGo writes the name of the
// platform.
const (
	fakeGo  = "#!/bin/sh\nwhile [ \"$1\" != -o ]; do shift; done\necho \"$GOOS $GOARCH\" >\"$2\"\nchmod 755 \"$2\"\n"
	fakeGit = "#!/bin/sh\necho 2026-01-01T00:00:00Z\n"
)

// build runs a copy of build.sh. It returns the directory of the files that the script creates, and the text that the
// script prints.
func build(t *testing.T, args ...string) (dir, output string, err error) {
	t.Helper()
	root := t.TempDir()
	write := func(name, content string, mode os.FileMode) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, source := range map[string]string{"hack/krew/build.sh": "build.sh", "hack/krew/parking.yaml": "parking.yaml", "LICENSE": "../../LICENSE"} {
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		write(name, string(text), 0o755)
	}
	write("fake/go", fakeGo, 0o755)
	write("fake/git", fakeGit, 0o755)
	cmd := exec.CommandContext(t.Context(), filepath.Join(root, "hack/krew/build.sh"), args...)
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(root, "fake")+string(os.PathListSeparator)+os.Getenv("PATH"))
	text, err := cmd.CombinedOutput()
	return filepath.Join(root, "bin/krew"), string(text), err
}

func read(t *testing.T, dir string) manifest {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "parking.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var m manifest
	if err := yaml.UnmarshalStrict(text, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestBuild_AllPlatforms_ManifestDescribesTheArchives(t *testing.T) {
	t.Parallel()
	dir, output, err := build(t, "v1.2.3-rc.1", "-X main.version=v1.2.3")
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	m := read(t, dir)
	if m.APIVersion != "krew.googlecontainertools.github.com/v1alpha2" || m.Kind != "Plugin" || m.Metadata.Name != "parking" || m.Spec.Version != "v1.2.3-rc.1" {
		t.Errorf("the manifest is %+v", m)
	}
	if s := m.Spec; s.ShortDescription == "" || len(s.ShortDescription) > 50 || s.Description == "" || !strings.HasPrefix(s.Homepage, "https://") {
		t.Errorf("the descriptions are %+v", s)
	}
	var platforms []string
	for _, p := range m.Spec.Platforms {
		name := p.Selector.MatchLabels.OS + "_" + p.Selector.MatchLabels.Arch
		platforms = append(platforms, name)
		if want := "https://github.com/parking-operator/parking-operator/releases/download/v1.2.3-rc.1/parking_" + name + ".tar.gz"; p.URI != want {
			t.Errorf("the URI of %s is %s, want %s", name, p.URI, want)
		}
		archive, err := os.ReadFile(filepath.Join(dir, path.Base(p.URI)))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(archive)
		if !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(p.SHA256) || p.SHA256 != hex.EncodeToString(sum[:]) {
			t.Errorf("the checksum of %s is %s, want %x", name, p.SHA256, sum)
		}
		files := contents(t, strings.NewReader(string(archive)))
		if want := strings.Replace(name, "_", " ", 1) + "\n"; p.Bin == "" || files[p.Bin] != want || files["LICENSE"] == "" || len(files) != 2 {
			t.Errorf("the archive of %s contains %q, and the binary is %q", name, files, p.Bin)
		}
	}
	if want := []string{"darwin_amd64", "darwin_arm64", "linux_amd64", "linux_arm64"}; !slices.Equal(platforms, want) {
		t.Errorf("the platforms are %q, want %q", platforms, want)
	}
}

// contents returns the content of each file of a compressed archive, by file name. It fails the test if the binary is
// not executable.
func contents(t *testing.T, archive io.Reader) map[string]string {
	t.Helper()
	unzipped, err := gzip.NewReader(archive)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for reader := tar.NewReader(unzipped); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		if files[header.Name] = string(text); header.Name == "parking" && header.Mode&0o111 != 0o111 {
			t.Errorf("the mode of the binary is %o", header.Mode)
		}
	}
}

func TestBuild_OnePlatform_ManifestOmitsTheOthers(t *testing.T) {
	t.Parallel()
	dir, output, err := build(t, "v1.2.3", "", "linux_arm64")
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if p := read(t, dir).Spec.Platforms; len(p) != 1 || p[0].Selector.MatchLabels.OS != "linux" || p[0].Selector.MatchLabels.Arch != "arm64" {
		t.Errorf("the platforms are %+v", p)
	}
}

func TestBuild_InvalidVersion_Fails(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"1.2.3", "v1.2", "dirty"} {
		if _, output, err := build(t, version, ""); err == nil || !strings.Contains(output, "krew needs a version such as v1.2.3") {
			t.Errorf("%s: %v, %s", version, err, output)
		}
	}
}
