//go:build unix && !linux

package privateserver

import "syscall"

// childAttributes gives a child its own process group. Only Linux can kill the child when its parent ends.
func childAttributes(root string) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Chroot: root}
}
