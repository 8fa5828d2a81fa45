// Package goldentest lets tests compare texts with golden files.
package goldentest

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Updating reports whether the flag -update is set.
func Updating() bool { return *update }

// Compare fails the test if a text differs from a golden file below testdata. With the flag -update, it writes the text
// to the file.
func Compare[T string | []byte](tb testing.TB, name string, got T) {
	tb.Helper()
	path := filepath.Join("testdata", name)
	if Updating() {
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		tb.Errorf("%v; run the tests with -update to write the golden file", err)
		return
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		tb.Errorf("%s differs (-want +got); run the tests with -update if that is intended:\n%s", path, diff)
	}
}
