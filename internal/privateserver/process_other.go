//go:build unix && !linux

package privateserver

import "syscall"

// childAttributes puts the child into its own process group. Unlike on Linux, the kernel does not kill the child when
// its parent ends. A nil user means the user of this process.
func childAttributes(root string, user *owner) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Chroot: root, Credential: user.credential()}
}
