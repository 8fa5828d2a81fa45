package servers

import "syscall"

// childAttributes gives a child its own process group, so that an interrupt typed at a terminal
// reaches the tests alone, and has the kernel kill it when its parent dies.
func childAttributes(root string) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Chroot: root}
}
