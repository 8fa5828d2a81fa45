//go:build unix && !linux

package privateserver

import "syscall"

// childAttributes puts a child process into its own process group. Only Linux can also kill the child when its
// parent ends. If user is not nil, the child runs as that user.
func childAttributes(root string, user *owner) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Chroot: root, Credential: user.credential()}
}
