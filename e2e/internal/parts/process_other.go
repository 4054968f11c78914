//go:build unix && !linux

package parts

import "syscall"

// childAttributes puts a child in a process group of its own, so that Ctrl-C reaches only us, who then stop it in order.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
