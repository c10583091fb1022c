//go:build linux || darwin

package main

import "golang.org/x/sys/unix"

// freeSpace is how much room there is for this user where dir lies.
func freeSpace(dir string) (octets int64, ok bool) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, false
	}
	return int64(s.Bavail) * int64(s.Bsize), true
}
