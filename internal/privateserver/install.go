package privateserver

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
)

// NotInstalledError means that a program is not installed. Its text says how to install the program.
type NotInstalledError struct {
	Program string // the name of the program, such as rabbitmq-server
	Where   string // the place that was searched: the root directory, or "PATH"
	Remedy  string // how to install the program
}

func (e *NotInstalledError) Error() string {
	return fmt.Sprintf("%s is not in %s: %s", e.Program, e.Where, e.Remedy)
}

// FindProgram returns the path of a program within root. It searches the directories below root, and PATH if root is
// empty. If the program is missing, the error is a *NotInstalledError with the remedy.
func FindProgram(root, name, remedy string, directories ...string) (string, error) {
	for _, dir := range directories {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(filepath.Join(root, path)); err == nil && !info.IsDir() { //nolint:gosec // the caller names the directories
			return path, nil
		}
	}
	if root != "" {
		return "", &NotInstalledError{Program: name, Where: root, Remedy: remedy}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", &NotInstalledError{Program: name, Where: "PATH", Remedy: remedy}
	}
	return filepath.Abs(path)
}

// newPassword returns a random password. It contains characters that must be escaped in a URI, so that tests
// detect code that does not escape them.
func newPassword() string {
	return "p@ss:/?#%&+ " + RandomHex(12)
}

// RandomHex returns n random bytes as a text of 2n hexadecimal digits.
func RandomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // according to its documentation, rand.Read never returns an error
	return hex.EncodeToString(b)
}

// Redacted returns the URI without user name and password.
func Redacted(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return "(not a URI)"
	}
	u.User = nil
	return u.String()
}
