package privateserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRemoveAbandoned_KeepsDirectoriesInUse(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	long := time.Now().Add(-time.Hour)
	abandoned := filepath.Join(base, directoryPrefix+"abandoned")
	used := filepath.Join(base, directoryPrefix+"used")
	for _, dir := range []string{abandoned, used} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	lock, err := tryLock(filepath.Join(used, lockName))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	for _, dir := range []string{abandoned, used} {
		if err := os.Chtimes(dir, long, long); err != nil {
			t.Fatal(err)
		}
	}
	removeAbandoned(base)
	if _, err := os.Stat(abandoned); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the abandoned directory still exists (%v)", err)
	}
	if _, err := os.Stat(used); err != nil {
		t.Errorf("the directory in use is gone: %v", err)
	}
}

func TestDirectoryErrors_FortyLongErrors_ReturnsThreeLinesOfEachOfTheFirstThirty(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var log []string
	for i := range 40 {
		for line := range 9 {
			log = append(log, fmt.Sprintf("%02d [error] <0.1> line %d of the error", i, line))
		}
		log = append(log, fmt.Sprintf("%02d [info] <0.1> a message", i))
	}
	if err := os.WriteFile(filepath.Join(dir, "node.log"), []byte(strings.Join(log, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	got := strings.Split((&directory{host: dir}).errors("*.log"), "\n")
	first, last := "00 [error] <0.1> line 0 of the error", "29 [error] <0.1> line 2 of the error"
	if len(got) != 30*3 || got[0] != first || got[len(got)-1] != last {
		t.Errorf("%d lines from %q to %q, want 90 lines from %q to %q", len(got), got[0], got[len(got)-1], first, last)
	}
}
