package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const troubleshooting = "../../docs/troubleshooting.md"

func TestTroubleshootingPage_ListsEveryConditionReason(t *testing.T) {
	t.Parallel()
	var reasons []string
	for _, file := range sourceFiles(t, "../../controllers") {
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok {
				for i, name := range spec.Names {
					if strings.HasPrefix(strings.ToLower(name.Name), "reason") && i < len(spec.Values) {
						reasons = append(reasons, literal(spec.Values[i]))
					}
				}
			}
			return true
		})
	}
	compareRows(t, "## Condition reasons", reasons)
}

func TestTroubleshootingPage_ListsEveryWarningAndError(t *testing.T) {
	t.Parallel()
	var messages []string
	for _, dir := range []string{"../../cmd", "../../controllers", "../../internal"} {
		for _, file := range sourceFiles(t, dir) {
			ast.Inspect(file, func(n ast.Node) bool {
				messages = append(messages, loggedProblem(n))
				return true
			})
		}
	}
	compareRows(t, "## Log messages", slices.DeleteFunc(messages, func(message string) bool { return message == "" }))
}

// Another table lists the reasons of conditions, so the table of events omits them.
func TestTroubleshootingPage_ListsEveryKubernetesEvent(t *testing.T) {
	t.Parallel()
	var reasons []string
	for _, file := range sourceFiles(t, "../../controllers") {
		ast.Inspect(file, func(n ast.Node) bool {
			reasons = append(reasons, eventReason(n))
			return true
		})
	}
	compareRows(t, "## Events", slices.DeleteFunc(reasons, func(reason string) bool { return reason == "" }))
}

func TestTroubleshootingPage_ListsEveryCheckOfTheVerdict(t *testing.T) {
	t.Parallel()
	var names []string
	for _, file := range sourceFiles(t, "../../internal/ledger") {
		ast.Inspect(file, func(n ast.Node) bool {
			// Collect the names of the checks. They are constants such as CheckLost.
			if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 && strings.HasPrefix(strings.ToLower(spec.Names[0].Name), "check") {
				names = append(names, strings.TrimSpace(literal(spec.Values[0])))
			}
			return true
		})
	}
	compareRows(t, "## The verdict is FAIL", names)
}

// eventReason returns the reason of a Kubernetes event in a syntax node. It returns "" if the reason is a constant,
// because it then is a reason of a condition.
func eventReason(n ast.Node) string {
	switch n := n.(type) {
	case *ast.CallExpr:
		switch name := lastName(n.Fun); {
		case name == "event" && len(n.Args) > 3:
			return literal(n.Args[2])
		case name == "Eventf" && len(n.Args) > 3:
			return literal(n.Args[3])
		case name == "note" && len(n.Args) == 4:
			return literal(n.Args[1])
		}
	case *ast.AssignStmt:
		for i, variable := range n.Lhs {
			if name, ok := variable.(*ast.Ident); ok && name.Name == "reason" && len(n.Rhs) == len(n.Lhs) {
				return literal(n.Rhs[i])
			}
		}
	}
	return ""
}

// loggedProblem returns the message that a node of the syntax tree logs as a warning or an error, or "" for any other
// node.
func loggedProblem(n ast.Node) string {
	switch n := n.(type) {
	case *ast.CallExpr:
		method, ok := n.Fun.(*ast.SelectorExpr)
		if !ok {
			return ""
		}
		receiver := lastName(method.X)
		isLogger := regexp.MustCompile(`(?i)log(ger)?$|^FromContext$`).MatchString(receiver)
		switch name := method.Sel.Name; {
		case name == "New" && receiver == "outage", name == "Error" && isLogger && len(n.Args) > 1 && literal(n.Args[0]) == "":
			return literal(n.Args[1])
		case (name == "Warn" || name == "Error") && isLogger:
			return literal(n.Args[0])
		}
	case *ast.CompositeLit:
		if name, ok := n.Type.(*ast.Ident); ok && name.Name == "problem" && !isInfo(n) {
			return literal(valueOf(n, "message"))
		}
	case *ast.AssignStmt:
		if field, ok := n.Lhs[0].(*ast.SelectorExpr); ok && field.Sel.Name == "message" && len(n.Rhs) == 1 {
			return literal(n.Rhs[0])
		}
	}
	return ""
}

// isInfo reports whether a literal of the type processor.problem has the level Info.
func isInfo(problem *ast.CompositeLit) bool {
	return lastName(valueOf(problem, "level")) == "LevelInfo"
}

// valueOf returns the value of a key in a composite literal, or nil if the key is missing.
func valueOf(l *ast.CompositeLit, key string) ast.Expr {
	for _, element := range l.Elts {
		if pair, ok := element.(*ast.KeyValueExpr); ok && lastName(pair.Key) == key {
			return pair.Value
		}
	}
	return nil
}

// lastName returns the last identifier of an expression such as a, a.b or a.b(c).
func lastName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.CallExpr:
		return lastName(e.Fun)
	}
	return ""
}

// literal returns the value of a string literal or of a concatenation, with "…" for each constant. It returns "" for
// other expressions.
func literal(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, _ := strconv.Unquote(e.Value)
		return text
	case *ast.BinaryExpr:
		if _, isConstant := e.Y.(*ast.SelectorExpr); isConstant {
			return literal(e.X) + "…"
		}
		return literal(e.X) + literal(e.Y)
	}
	return ""
}

// sourceFiles parses the Go files below a directory, except tests and test helpers.
func sourceFiles(t *testing.T, dir string) (files []*ast.File) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && strings.HasSuffix(entry.Name(), "test"):
			return filepath.SkipDir
		case entry.IsDir(), !strings.HasSuffix(path, ".go"), strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		files = append(files, file)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// compareRows compares the first column of all tables in a section of the document with the expected values.
func compareRows(t *testing.T, heading string, want []string) {
	t.Helper()
	text, err := os.ReadFile(troubleshooting)
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n"+heading+"\n")
	if !found {
		t.Fatalf("%s has no section %q", troubleshooting, heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var listed []string
	for _, cell := range regexp.MustCompile("(?m)^\\| (`[^|]+`) \\|").FindAllStringSubmatch(section, -1) {
		for item := range strings.SplitSeq(cell[1], "`, `") {
			listed = append(listed, strings.Trim(item, "`"))
		}
	}
	slices.Sort(want)
	slices.Sort(listed)
	if diff := cmp.Diff(slices.Compact(want), listed); diff != "" {
		t.Errorf("section %q of %s (-code +listed):\n%s", heading, troubleshooting, diff)
	}
}
