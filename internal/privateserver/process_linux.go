package privateserver

import "syscall"

// childAttributes makes the kernel kill the child when the thread that started it ends. The child has its own process
// group, so Ctrl-C reaches only the parent. A nil user means the user of this process.
func childAttributes(root string, user *owner) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Chroot: root, Credential: user.credential()}
}
