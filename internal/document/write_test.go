package document_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/parking-operator/parking-operator/internal/document"
)

func TestWriteFile_PathExists_ReplacesAFileButNotADirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "r.md")
	for _, text := range []string{"first", "second"} {
		if err := document.WriteFile(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("the file has %q, %v, want %q", got, err, text)
		}
	}
	directory := filepath.Join(dir, "d.md")
	if err := os.Mkdir(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	if document.CheckWritable(directory) == nil || document.WriteFile(directory, []byte("x")) == nil {
		t.Error("CheckWritable or WriteFile returned no error for a directory")
	}
	if files, _ := os.ReadDir(dir); len(files) != 2 {
		t.Errorf("the directory has %v, want only r.md and d.md", files)
	}
}

func TestWriteFile_LinkAtAGuessableName_IsNotFollowed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	victim, path := filepath.Join(dir, "victim"), filepath.Join(dir, "r.md")
	if err := os.WriteFile(victim, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, filepath.Join(dir, fmt.Sprintf(".r.md.%d.tmp", os.Getpid()))); err != nil {
		t.Fatal(err)
	}
	if err := document.WriteFile(path, []byte("new")); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(victim); err != nil || string(text) != "old" {
		t.Errorf("the target of the link has %q (%v), want its old content", text, err)
	}
}

func TestWriteFile_Device_IsNotReplaced(t *testing.T) {
	t.Parallel()
	link := filepath.Join(t.TempDir(), "r.md")
	if err := os.Symlink("/dev/full", link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/dev/full", link} {
		if _, err := os.Stat(path); err != nil {
			t.Skip("this system has no /dev/full")
		}
		if err := document.CheckWritable(path); err != nil {
			t.Error(err)
		}
		if err := document.WriteFile(path, []byte("text")); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: error is %v, want ENOSPC", path, err)
		}
	}
	if info, err := os.Stat("/dev/full"); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		t.Errorf("/dev/full is %v (%v), want the device", info.Mode(), err)
	}
}

func TestWriteFile_NamedPipe_ReceivesTheText(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	read := make(chan string)
	go func() {
		text, _ := os.ReadFile(path)
		read <- string(text)
	}()
	if err := document.WriteFile(path, []byte("text")); err != nil {
		t.Error(err)
	}
	if got := <-read; got != "text" {
		t.Errorf("the reader got %q", got)
	}
}

func TestWriteFile_LinkToAPrivateFile_KeepsLinkAndPermissions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, link := filepath.Join(dir, "private.md"), filepath.Join(dir, "link.md")
	if err := errors.Join(os.WriteFile(file, []byte("old"), 0o600), os.Symlink(file, link)); err != nil {
		t.Fatal(err)
	}
	if err := document.WriteFile(link, []byte("new")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	info, statErr := os.Lstat(file)
	if err := errors.Join(err, statErr); err != nil || string(text) != "new" || info.Mode() != 0o600 {
		t.Errorf("the file has %q and mode %v (%v)", text, info.Mode(), err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is %v (%v)", info.Mode(), err)
	}
}

func TestCheckWritable_AgreesWithWriteFile(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("directory", 0o700); err != nil {
		t.Fatal(err)
	}
	for path, writable := range map[string]bool{
		"new":               true,
		"./new":             true,
		"directory/new":     true,
		"directory/../new":  true,
		"directory":         false,
		"missing/new":       false,
		"missing/../new":    false,
		"directory/new/new": false,
	} {
		check, write := document.CheckWritable(path), document.WriteFile(path, []byte("text"))
		if (check == nil) != writable || (write == nil) != writable {
			t.Errorf("%s: CheckWritable returned %v, WriteFile returned %v", path, check, write)
		}
		if err := os.Remove(path); writable && err != nil {
			t.Error(err)
		}
	}
}
