package manifests_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSecurityDoc_NamesExistingTests checks that every test mentioned in docs/security.md exists, and that every threat
// has a test.
func TestSecurityDoc_NamesExistingTests(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "docs/security.md"))
	if err != nil {
		t.Fatal(err)
	}
	missing := map[string]bool{}
	for _, name := range regexp.MustCompile("`(Test[A-Za-z0-9_]+)`").FindAllStringSubmatch(string(text), -1) {
		missing[name[1]] = true
	}
	_, section, _ := strings.Cut(string(text), "## Threat model\n")
	_, threats, found := strings.Cut(section, "|---|---|---|\n")
	if !found {
		t.Fatal("docs/security.md has no table of threats with three columns")
	}
	threats, _, _ = strings.Cut(threats, "\n\n")
	for row := range strings.Lines(threats) {
		if !strings.Contains(row, "`Test") {
			t.Errorf("docs/security.md names no test for this threat: %s", row)
		}
	}
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for name := range missing {
			if strings.Contains(string(source), "func "+name+"(") {
				delete(missing, name)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range missing {
		t.Errorf("docs/security.md names %s, which does not exist", name)
	}
}
