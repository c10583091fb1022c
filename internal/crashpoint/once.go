//go:build !crashpoints

package crashpoint

import "fmt"

// Once marks that something is used which must not be used twice; in this build
// it does nothing.
func Once(what string, of fmt.Stringer, group []byte, epoch uint64, n uint32) {}
