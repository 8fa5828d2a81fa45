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

func TestTroubleshooting_ListsEveryConditionReason(t *testing.T) {
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

func TestTroubleshooting_ListsEveryWarningAndError(t *testing.T) {
	t.Parallel()
	var messages []string
	for _, dir := range []string{"../../cmd", "../../controllers", "../../internal"} {
		for _, file := range sourceFiles(t, dir) {
			ast.Inspect(file, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok {
					messages = append(messages, loggedProblem(call)...)
				}
				return true
			})
		}
	}
	compareRows(t, "## Log messages", messages)
}

// loggedProblem returns the messages of a call that logs a warning or an error. A log of outages is created with the
// message of the outage.
func loggedProblem(call *ast.CallExpr) []string {
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return nil
	}
	receiver := ""
	switch x := method.X.(type) {
	case *ast.Ident:
		receiver = x.Name
	case *ast.SelectorExpr:
		receiver = x.Sel.Name
	}
	argument := -1
	switch method.Sel.Name {
	case "Warn", "Error":
		if regexp.MustCompile(`(?i)log(ger)?$`).MatchString(receiver) {
			argument = 0
		}
	case "New":
		if receiver == "outage" {
			argument = 1
		}
	}
	if argument < 0 || len(call.Args) <= argument {
		return nil
	}
	if text := literal(call.Args[argument]); text != "" {
		return []string{text}
	}
	return nil
}

// literal returns the value of a string literal, or of several that are concatenated, and "" for other expressions.
func literal(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, _ := strconv.Unquote(e.Value)
		return text
	case *ast.BinaryExpr:
		return literal(e.X) + literal(e.Y)
	}
	return ""
}

// sourceFiles parses the Go files below a folder. It omits tests and test helpers.
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

// compareRows compares the first column of the tables in a section of the document with what it must list.
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
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(section, -1) {
		listed = append(listed, row[1])
	}
	slices.Sort(want)
	slices.Sort(listed)
	if diff := cmp.Diff(slices.Compact(want), listed); diff != "" {
		t.Errorf("section %q of %s (-code +listed):\n%s", heading, troubleshooting, diff)
	}
}
