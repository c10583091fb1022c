//go:build !linux

package secret

// HardenProcess keeps the memory of this process from being written to core
// dumps, where the system has them. Call it at the start.
func HardenProcess() error { return noCore() }
