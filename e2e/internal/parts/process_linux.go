package parts

import "syscall"

// childAttributes puts a child in a process group of its own, so that Ctrl-C reaches only us, who then stop it in order,
// and lets the kernel end it when we are gone.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
