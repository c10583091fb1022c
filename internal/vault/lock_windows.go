package vault

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/windows"
)

// lockFile waits for the lock of an open file, which lasts until it is closed.
func lockFile(f *os.File) error {
	return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK, 0, 1, 0, &windows.Overlapped{})
}

// rename tries for a while: a reader that has the old file open at this moment
// keeps it from being replaced.
func rename(root *os.Root, from, to string) (err error) {
	for range 50 {
		err = root.Rename(from, to)
		if !errors.Is(err, windows.ERROR_SHARING_VIOLATION) && !errors.Is(err, windows.ERROR_ACCESS_DENIED) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}
