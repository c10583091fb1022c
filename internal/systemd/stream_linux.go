package systemd

import (
	"fmt"
	"os"
	"syscall"
)

// ToJournal reports whether f is connected to the journal (JOURNAL_STREAM names
// the device and inode of what systemd has connected).
func ToJournal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", s.Dev, s.Ino)
}
