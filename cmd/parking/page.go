package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"

	"github.com/parking-operator/parking-operator/internal/excerpt"
)

// ownHosts returns the host names, besides localhost, by which clients may address the server.
func ownHosts(address string) []string {
	var hosts []string
	if host, _, err := net.SplitHostPort(address); err == nil && host != "" {
		hosts = append(hosts, host)
	}
	if name, err := os.Hostname(); err == nil {
		hosts = append(hosts, name)
	}
	return hosts
}

// pageURL returns the URL of the live page for the address of its listener.
func pageURL(address string) string {
	if a, err := netip.ParseAddrPort(address); err == nil && a.Addr().IsUnspecified() {
		address = fmt.Sprintf("localhost:%d", a.Port())
	}
	return "http://" + address + "/"
}

// openPage opens a URL in the user's browser, or writes a warning with the URL to w.
func openPage(ctx context.Context, w io.Writer, url string) {
	command := browserCommand(runtime.GOOS, url)
	if err := exec.CommandContext(ctx, command[0], command[1:]...).Run(); err != nil && ctx.Err() == nil {
		_, _ = fmt.Fprintf(w, "--open: %s failed: %s; open %s in a browser\n", command[0], excerpt.OneLine(err.Error()), url)
	}
}

// browserCommand returns the command that opens a URL on the given operating system.
func browserCommand(system, url string) []string {
	switch system {
	case "darwin":
		return []string{"open", url}
	case "windows":
		return []string{"rundll32", "url.dll,FileProtocolHandler", url}
	}
	return []string{"xdg-open", url}
}
