// Command testreport reads the output of go test -json and prints what go test prints without -json:
// a line for each package and all that a failed test wrote. At the end it prints which servers the
// tests ran against, from the file that package test/servers wrote, and every test that was skipped,
// with its reason. It exits 1 when anything failed.
//
//	go test -json ./... | testreport -servers FILE
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

func main() {
	servers := flag.String("servers", "", "`file` that package test/servers wrote, named to the tests by PARKING_TEST_REPORT")
	flag.Parse()
	failed, err := run(os.Stdin, os.Stdout, *servers)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(2)
	}
	if failed {
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer, serversPath string) (failed bool, err error) {
	s := newSummary(out)
	if err := s.read(in); err != nil {
		return false, err
	}
	uses, err := readUses(serversPath)
	if err != nil {
		return false, err
	}
	s.print(uses)
	return s.failed(), nil
}

// event is one line of go test -json; "go doc test2json" describes the fields.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
}

type testID struct{ pkg, test string }

type skipped struct {
	testID
	reason string
}

// summary collects the events of one run and prints each package when it ends.
type summary struct {
	out      io.Writer
	output   map[testID][]string // what the tests that have not ended wrote; a package's own under the empty test
	failures map[string][]testID // the failed tests of the packages that have not ended
	skipped  []skipped
	tests    map[string]int // tests by how they ended
	packages map[string]int // packages by how they ended
}

func newSummary(out io.Writer) *summary {
	return &summary{
		out:      out,
		output:   map[testID][]string{},
		failures: map[string][]testID{},
		tests:    map[string]int{},
		packages: map[string]int{},
	}
}

// read takes in all events. A line that is not JSON is go's own and is printed as it is.
func (s *summary) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil {
				s.add(e)
			} else {
				fmt.Fprint(s.out, string(line))
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the output of go test: %w", err)
		}
	}
}

func (s *summary) add(e event) {
	id := testID{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(s.out, e.Output)
	case "output":
		s.output[id] = append(s.output[id], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			s.endPackage(id, e.Action)
		} else {
			s.endTest(id, e.Action)
		}
	}
}

func (s *summary) endTest(id testID, how string) {
	s.tests[how]++
	switch how {
	case "fail":
		s.failures[id.pkg] = append(s.failures[id.pkg], id)
		return // its output is printed with the package's end
	case "skip":
		s.skipped = append(s.skipped, skipped{id, skipReason(s.output[id])})
	}
	delete(s.output, id)
}

func (s *summary) endPackage(id testID, how string) {
	s.packages[how]++
	if how == "fail" {
		s.printFailure(id)
	} else {
		fmt.Fprint(s.out, lastLine(s.output[id]))
	}
	delete(s.output, id)
	delete(s.failures, id.pkg)
}

// printFailure prints what the failed tests wrote, then what those wrote that never ended, as they do
// not when the test binary crashes, then the package's own output.
func (s *summary) printFailure(pkg testID) {
	for _, id := range s.failures[pkg.pkg] {
		s.printOutput(id)
	}
	var unfinished []testID
	for id := range s.output {
		if id.pkg == pkg.pkg && id.test != "" {
			unfinished = append(unfinished, id)
		}
	}
	slices.SortFunc(unfinished, func(a, b testID) int { return cmp.Compare(a.test, b.test) })
	for _, id := range unfinished {
		s.printOutput(id)
	}
	s.printOutput(pkg)
}

func (s *summary) printOutput(id testID) {
	for _, line := range s.output[id] {
		if !isProgress(line) {
			fmt.Fprint(s.out, line)
		}
	}
	delete(s.output, id)
}

func (s *summary) failed() bool { return s.tests["fail"]+s.packages["fail"] > 0 }

func (s *summary) print(uses []use) {
	fmt.Fprintln(s.out)
	table := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	if len(uses) == 0 {
		fmt.Fprintln(table, "No test ran against a server.")
	} else {
		fmt.Fprintln(table, "RAN AGAINST\tVERSION\tINSTANCES\tPACKAGE")
	}
	for _, u := range uses {
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\n", u.product, u.version, u.instances, u.pkg)
	}
	_ = table.Flush() // as with the other output, there is no better place to report that it cannot be written
	fmt.Fprintln(s.out)
	for _, skip := range s.skipped {
		fmt.Fprintf(s.out, "SKIPPED %s in %s: %s\n", skip.test, skip.pkg, skip.reason)
	}
	fmt.Fprintf(s.out, "Tests: %d passed, %d failed, %d skipped. Packages: %d passed, %d failed, %d without tests.\n",
		s.tests["pass"], s.tests["fail"], s.tests["skip"], s.packages["pass"], s.packages["fail"], s.packages["skip"])
}

// skipReason is the last thing that a skipped test wrote, without the place in the source.
func skipReason(output []string) string {
	reason := ""
	for _, line := range output {
		if text := strings.TrimSpace(line); text != "" && !isProgress(line) && !strings.HasPrefix(text, "--- SKIP") {
			reason = text
		}
	}
	if place, text, found := strings.Cut(reason, ": "); found && strings.Contains(place, ".go:") {
		reason = text
	}
	return cmp.Or(reason, "no reason given")
}

// isProgress reports whether a line only says which test runs.
func isProgress(line string) bool {
	return slices.ContainsFunc([]string{"=== RUN ", "=== PAUSE ", "=== CONT ", "=== NAME "}, func(prefix string) bool {
		return strings.HasPrefix(line, prefix)
	})
}

func lastLine(output []string) string {
	if len(output) == 0 {
		return ""
	}
	return output[len(output)-1]
}

// use says how many instances of one server the tests of a package ran against.
type use struct {
	pkg, product, version string
	instances             int
}

// readUses counts the lines "server", package, product, version, address in the file; other lines are
// not for this program. An empty path gives none.
func readUses(path string) ([]use, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read which servers the tests used: %w", err)
	}
	instances := map[use]int{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		if len(fields) == 5 && fields[0] == "server" {
			instances[use{pkg: fields[1], product: fields[2], version: fields[3]}]++
		}
	}
	var uses []use
	for u, n := range instances {
		u.instances = n
		uses = append(uses, u)
	}
	slices.SortFunc(uses, func(a, b use) int {
		return cmp.Or(cmp.Compare(a.product, b.product), cmp.Compare(a.version, b.version), cmp.Compare(a.pkg, b.pkg))
	})
	return uses, nil
}
