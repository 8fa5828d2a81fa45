package privateserver

import "syscall"

// childAttributes puts a child process into its own process group, so that Ctrl-C reaches only the parent. It also
// makes the kernel kill the child when the thread that started the child ends. If user is not nil, the child runs as
// that user.
func childAttributes(root string, user *owner) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Chroot: root, Credential: user.credential()}
}
