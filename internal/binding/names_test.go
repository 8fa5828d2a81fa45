package binding

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

// If too many files are open, package net returns a DNSError that contains the cause only as text.
func TestExplain_ConnectionFails_RemedyMatchesCause(t *testing.T) {
	t.Parallel()
	const files, correct, dns = "ulimit -n", "correct the host name", "check the DNS"
	lookup := func(failed net.DNSError) error {
		failed.Name = "h"
		return fmt.Errorf("connect: %w", &net.OpError{Op: "dial", Net: "tcp", Err: &failed})
	}
	for name, tt := range map[string]struct {
		err         error
		want        string
		isTemporary bool
	}{
		"the process has too many open files": {fmt.Errorf("dial: %w", os.NewSyscallError("socket", syscall.EMFILE)), files, true},
		"the system has too many open files":  {os.NewSyscallError("socket", syscall.ENFILE), files, true},
		"the process has too many open files for the Go resolver": {lookup(net.DNSError{
			Err: "dial udp 192.0.2.53:53: socket: " + syscall.EMFILE.Error(), Server: "192.0.2.53:53", IsTemporary: true,
		}), files, true},
		"the system has too many open files for the Go resolver": {lookup(net.DNSError{Err: "dial udp 192.0.2.53:53: socket: " + syscall.ENFILE.Error(), IsTemporary: true}), files, true},
		"the process has too many open files for the C resolver": {lookup(net.DNSError{Err: syscall.EMFILE.Error()}), files, true},
		"the host does not exist":                                {lookup(net.DNSError{Err: "no such host", IsNotFound: true}), correct, false},
		"a busy DNS server says that the host does not exist":    {lookup(net.DNSError{Err: "no such host", IsNotFound: true, IsTemporary: true}), correct, false},
		"the host name is malformed":                             {lookup(net.DNSError{Err: "invalid character"}), correct, false},
		"the DNS server does not respond":                        {lookup(net.DNSError{Err: "i/o timeout", IsTimeout: true}), dns, true},
		"the DNS server refuses connections":                     {lookup(net.DNSError{Err: "read: connection refused", IsTemporary: true}), dns, true},
		"another error":                                          {errors.New("socket"), "", false},
	} {
		byFiles, byName := ExplainFiles(tt.err), ExplainName(tt.err)
		if got := byFiles + byName; !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") || byFiles != "" && byName != "" {
			t.Errorf("%s: the remedies are %q and %q, want only %q", name, byFiles, byName, tt.want)
		}
		if got := IsTemporary(tt.err); got != tt.isTemporary {
			t.Errorf("%s: IsTemporary returns %t, want %t", name, got, tt.isTemporary)
		}
	}
}
