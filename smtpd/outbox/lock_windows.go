package outbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// errSharing is ERROR_SHARING_VIOLATION: somebody else has the file open.
const errSharing = syscall.Errno(32)

// fileFlagDeleteOnClose is FILE_FLAG_DELETE_ON_CLOSE.
const fileFlagDeleteOnClose = 0x04000000

// lock takes the folder for this process until the result is closed: a file
// that is shared with nobody and goes with its handle.
func lock(dir string) (io.Closer, error) {
	name, err := syscall.UTF16PtrFromString(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, err
	}
	h, err := syscall.CreateFile(name, syscall.GENERIC_WRITE, 0, nil, syscall.OPEN_ALWAYS, fileFlagDeleteOnClose, 0)
	switch {
	case errors.Is(err, errSharing):
		return nil, fmt.Errorf("%w (%s)", ErrLocked, dir)
	case err != nil:
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return os.NewFile(uintptr(h), "lock"), nil
}
