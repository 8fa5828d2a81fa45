package document_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/internal/document"
)

func TestDecodeKnown_InvalidDocument_ErrorContainsFieldNamesButNoGoTypes(t *testing.T) {
	t.Parallel()
	type part struct {
		Count int64   `json:"count"`
		Share float64 `json:"share"`
	}
	type whole struct {
		Parts []part `json:"parts"`
	}
	for text, want := range map[string]string{
		`{"parts":[{"count":1,"share":0.5,"new":true}],"NEW":1}`: "",
		`{"parts":[{"count":1},{"count":"x"}],"new":1}`:          `parts[1].count: Invalid value: "x": must be a whole number`,
		`{"parts":[{"share":"0.5"}]}`:                            `parts[0].share: Invalid value: "0.5": must be a number without quotes: write 0.5`,
		`{"parts":[{"share":[1]}]}`:                              `parts[0].share: Invalid value: […]: must be a number, such as 0.5`,
		`{"PARTS":7}`:                                            "a field whose name differs only in case from a known field has a value of the wrong type",
		`{"parts":`:                                              "line 1: not valid JSON",
		`[]`:                                                     "must be an object with fields, not a list",
	} {
		var got whole
		err := document.Format{}.DecodeKnown([]byte(text), &got)
		if (want == "") != (err == nil) || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s fails with %v, want %q", text, err, want)
		}
	}
}

func TestWriteFile_Error_ContainsThePathButNotTheTemporaryFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	link := filepath.Join(dir, "link.md")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "missing", "r.md"): "no such file or directory",
		link:                                  "this is a directory",
	} {
		for name, err := range map[string]error{"CheckWritable": document.CheckWritable(path), "WriteFile": document.WriteFile(path, nil)} {
			if err == nil || !strings.HasPrefix(err.Error(), "write "+path+": ") || strings.Contains(err.Error(), ".tmp") {
				t.Errorf("%s of %s fails with %v, want %q", name, path, err, want)
			}
		}
	}
}
