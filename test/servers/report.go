package servers

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
)

const reportVariable = "PARKING_TEST_REPORT"

// reported contains the lines that this process has already written to the report, so that no line is written twice.
var reported sync.Map

// reportServer adds a line about a server to the report. The line consists of five fields, separated by tabs: "server",
// package, product, version, address.
func reportServer(product, version, address string) {
	report("server", testPackage(), product, version, address)
}

// reportSkip adds a line about a skipped test to the report. The line consists of four fields, separated by tabs:
// "skip", package, test, reason.
func reportSkip(test, reason string) {
	report("skip", testPackage(), test, reason)
}

// report appends a line to the file in PARKING_TEST_REPORT. Several test binaries can append at the same time,
// because small appends are atomic.
func report(fields ...string) {
	path := os.Getenv(reportVariable)
	if path == "" {
		return
	}
	line := strings.Join(fields, "\t") + "\n"
	if _, done := reported.LoadOrStore(line, true); done {
		return
	}
	if err := appendTo(path, line); err != nil {
		fmt.Fprintf(os.Stderr, "write the test report that %s names: %v\n", reportVariable, err)
	}
}

func appendTo(path, line string) error {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := file.WriteString(line); err != nil {
		_ = file.Close() // the error of WriteString is more useful than that of Close
		return err
	}
	return file.Close()
}

// testPackage returns the import path of the package under test, or the name of its binary.
func testPackage() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Path != "" {
		return strings.TrimSuffix(info.Path, ".test")
	}
	return strings.TrimSuffix(filepath.Base(os.Args[0]), ".test")
}
