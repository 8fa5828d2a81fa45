//go:build unix && !linux

package privateserver

import "syscall"

// childAttributes puts the child into its own process group. Only Linux can also kill the child with its parent. A
// nil user means the user of this process.
func childAttributes(root string, user *owner) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Chroot: root, Credential: user.credential()}
}
