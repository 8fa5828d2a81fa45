package servers

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
)

// NotInstalledError says that a server's program is not on this machine, and how to get it.
type NotInstalledError struct {
	Program string // such as rabbitmq-server
	Where   string // where it was looked for
	Remedy  string
}

func (e *NotInstalledError) Error() string {
	return fmt.Sprintf("%s is not in %s: %s", e.Program, e.Where, e.Remedy)
}

// findProgram returns the absolute path of a program as seen from root, looking into the given
// folders first and then, without a root, along PATH.
func findProgram(root, name, remedy string, folders ...string) (string, error) {
	for _, dir := range folders {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(filepath.Join(root, path)); err == nil && !info.IsDir() {
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

// newPassword returns a random password that a URI can hold only when it is escaped, so that code
// which forgets to do so does not pass its tests.
func newPassword() string {
	return "p@ss:/?#%&+ " + randomHex(12)
}

// randomHex returns n random bytes as 2n hexadecimal digits.
func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // documented never to return an error
	return hex.EncodeToString(b)
}

// redacted is the URI without its password.
func redacted(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return "(not a URI)"
	}
	u.User = nil
	return u.String()
}
