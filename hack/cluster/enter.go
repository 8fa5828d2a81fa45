package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// enterNode turns this process into the node: it sets up mounts and the network in the namespaces of this process. The
// kernel discards both when the process ends.
func enterNode(l layout) error {
	for _, part := range []struct {
		name string
		do   func() error
	}{
		{"host name", func() error { return unix.Sethostname([]byte(nodeName)) }},
		{"mounts", func() error { return mountNode(l) }},
		{"kernel settings", coverKernelSettings},
		{"network", connectNode},
		{"control groups", func() error { return makeCgroups(l.cgroup()) }},
	} {
		if err := part.do(); err != nil {
			return fmt.Errorf("set up the %s of the node: %w", part.name, err)
		}
	}
	return nil
}

// mountNode mounts a private directory over each host directory that a component writes to, so that the host does not
// change.
func mountNode(l layout) error {
	run := filepath.Join(l.state, "run")
	state := filepath.Join(run, filepath.Base(nodeState))
	bin := filepath.Join(run, filepath.Base(nodeBin))
	for _, directory := range []string{run, l.logs(), filepath.Join(l.state, "volume-plugins"), filepath.Join(l.state, "volumes")} {
		if err := os.MkdirAll(directory, 0o755); err != nil {
			return err
		}
	}
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
	}{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE},
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"run", run, "tmpfs", unix.MS_NOSUID | unix.MS_NODEV},
		{l.state, state, "", unix.MS_BIND},
		{l.programs, bin, "", unix.MS_BIND},
		{run, "/run", "", unix.MS_MOVE},
		{nodeState + "/log", "/var/log", "", unix.MS_BIND},
		{"var-lib", "/var/lib", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV},
		{"", "/", "", unix.MS_REC | unix.MS_SHARED}, // shared propagation, so that pods can share mounts with each other
	} {
		if m.source != "" {
			if err := os.MkdirAll(m.target, 0o755); err != nil {
				return err
			}
		}
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return nil
}

// coverKernelSettings mounts ordinary files over those kernel settings in /proc/sys that the kubelet writes.
// Otherwise the kubelet would change the settings of the whole machine.
func coverKernelSettings() error {
	for name, value := range map[string]string{
		"vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
		"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
	} {
		cover := "/run/sysctl/" + strings.ReplaceAll(name, "/", ".")
		if err := os.MkdirAll(filepath.Dir(cover), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(cover, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := unix.Mount(cover, "/proc/sys/"+name, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount a file over /proc/sys/%s: %w", name, err)
		}
	}
	return nil
}

// connectNode creates a network interface with the node's address, and a default route. Without a route, connections
// to cluster IPs fail before kube-proxy can redirect them.
func connectNode() error {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "node0"}} // a bridge without ports: it only holds the address of the node
	if err := netlink.LinkAdd(link); err != nil {
		return fmt.Errorf("add the network interface node0: %w", err)
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(nodeAddress), Mask: net.CIDRMask(24, 32)}}
	if err := netlink.AddrAdd(link, address); err != nil {
		return fmt.Errorf("add the address %s to node0: %w", nodeAddress, err)
	}
	for _, l := range []netlink.Link{loopback, link} {
		if err := netlink.LinkSetUp(l); err != nil {
			return err
		}
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Index, Scope: netlink.SCOPE_LINK, Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}}); err != nil {
		return fmt.Errorf("add the default route: %w", err)
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644)
}
