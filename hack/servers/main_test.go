package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestServersCommand_WithoutEnvFlag_Fails(t *testing.T) {
	t.Parallel()
	if err := run(t.Context(), &strings.Builder{}, ""); err == nil || !strings.Contains(err.Error(), "-env") {
		t.Fatalf("the error is %v, want one with -env", err)
	}
}

func TestWriteEnv_FileIsReadableOnlyByItsOwner(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "servers.env")
	if err := writeEnv(path, "amqp://u:p%20q@127.0.0.1:1/", "redis://default:p@127.0.0.1:2/0"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the mode is %v, want 0600", info.Mode())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const want = "export PARKING_TEST_AMQP_URI='amqp://u:p%20q@127.0.0.1:1/'\nexport PARKING_TEST_REDIS_URI='redis://default:p@127.0.0.1:2/0'\n"
	if string(text) != want {
		t.Errorf("the file holds\n%s\nwant\n%s", text, want)
	}
}
