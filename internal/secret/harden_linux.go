package secret

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// HardenProcess keeps the memory of this process from being read: no core
// dumps, no debugger of the same user. Call it at the start; what it did stays
// for the life of the process, and the core limit for its children.
func HardenProcess() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid memory dumps: %w", err)
	}
	return noCore()
}
