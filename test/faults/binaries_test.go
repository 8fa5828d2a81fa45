package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/parking-operator/parking-operator/test/servers"
	"github.com/parking-operator/parking-operator/test/stack"
)

func TestMain(m *testing.M) { servers.Main(withBinaries{m}) }

// binaries contains the parking binaries that the tests share. Linking takes several seconds of CPU time, so each
// binary is built once.
var binaries struct {
	sync.Mutex
	dir  string
	path map[string]string // the paths of the binaries, by the flags of go build
}

// withBinaries runs tests that call binary.
type withBinaries struct{ *testing.M }

func (m withBinaries) Run() int {
	dir, err := os.MkdirTemp("", "parking-faults-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "create the directory of the binaries:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binaries.dir, binaries.path = dir, map[string]string{}
	return m.M.Run()
}

// binary returns the path of a parking binary that was built with the given flags of go build.
func binary(t *testing.T, flags ...string) string {
	t.Helper()
	binaries.Lock()
	defer binaries.Unlock()
	key := strings.Join(flags, " ")
	if path, ok := binaries.path[key]; ok {
		return path
	}
	dir := filepath.Join(binaries.dir, strconv.Itoa(len(binaries.path)))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path, err := stack.Build(t.Context(), dir, flags...)
	if err != nil {
		t.Fatal(err)
	}
	binaries.path[key] = path
	return path
}
