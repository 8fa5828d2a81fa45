//go:build unix && !linux

package privateserver

import "syscall"

// childAttributes puts a child process into its own process group. Only Linux can also kill the child when its
// parent ends.
func childAttributes(root string) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Chroot: root}
}
