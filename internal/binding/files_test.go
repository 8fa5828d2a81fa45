package binding

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestExplainTLS_ServerWithoutTLS_SaysWhatToDo(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	client := http.Client{Transport: &http.Transport{TLSHandshakeTimeout: time.Millisecond}}
	response, err := client.Get("https://" + silent.Addr().String())
	if err == nil {
		_ = response.Body.Close()
	}
	if got := ExplainTLS(err); !strings.Contains(got, "check that it speaks TLS") {
		t.Errorf("the remedy for %v is %q", err, got)
	}
}
