//go:build unix && !linux

package privateserver

import "syscall"

// childAttributes puts a child into its own process group. Only on Linux does the kernel kill the child when
// its parent ends.
func childAttributes(root string) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Chroot: root}
}
