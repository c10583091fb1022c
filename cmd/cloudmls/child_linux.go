package main

import "syscall"

// childAttributes end the child with the gateway, also when that is killed, and
// keep the terminal's interrupt from it: the gateway ends it, after itself.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
