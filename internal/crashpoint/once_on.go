//go:build crashpoints

package crashpoint

import (
	"fmt"
	"sync/atomic"
)

// watch sees what is used once.
var watch atomic.Pointer[func(name string)]

// Watch has fn called whenever something is used that must not be used twice, with
// a name of its own; nil ends that.
func Watch(fn func(name string)) {
	if fn == nil {
		watch.Store(nil)
		return
	}
	watch.Store(&fn)
}

// Once marks that number n of something is used, which must not be used twice.
func Once(what string, of fmt.Stringer, group []byte, epoch uint64, n uint32) {
	if fn := watch.Load(); fn != nil {
		(*fn)(fmt.Sprintf("%s %d of %s in epoch %d of group %x", what, n, of, epoch, group))
	}
}
