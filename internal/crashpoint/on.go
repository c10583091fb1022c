//go:build crashpoints

package crashpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// Enabled says whether this build can crash on demand.
const Enabled = true

const environment = "CLOUDMLS_CRASHPOINT"

// plan is what the environment asks for. There is one for the process, since a
// crash ends all of it.
type plan struct {
	name string

	mu   sync.Mutex
	left int
}

var planned = sync.OnceValue(func() *plan {
	p, err := parsePlan(os.Getenv(environment))
	if err != nil {
		fmt.Fprintln(os.Stderr, environment+":", err)
		os.Exit(2)
	}
	return p
})

// parsePlan reads "name" or "name:n"; nil for nothing.
func parsePlan(s string) (*plan, error) {
	if s == "" {
		return nil, nil
	}
	name, count, counted := strings.Cut(s, ":")
	p := &plan{name: name, left: 1}
	if counted {
		n, err := strconv.Atoi(count)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is not a number of passes", count)
		}
		p.left = n
	}
	return p, nil
}

// pass counts one pass and reports whether it is the one to crash at.
func (p *plan) pass(name string) bool {
	if p == nil || p.name != name {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left--
	return p.left == 0
}

// hook sees each point that is passed.
var hook atomic.Pointer[func(name string)]

// Hook has fn called at each point, in the goroutine that passes it, in place of
// what the environment asks for; nil ends that. For tests that crash one of many
// devices in their process: fn keeps what the device stores from then on from
// being stored, and panics.
func Hook(fn func(name string)) {
	if fn == nil {
		hook.Store(nil)
		return
	}
	hook.Store(&fn)
}

// Here marks a point. Nothing runs after the one that the environment names:
// no deferred call, no flush.
func Here(name string) {
	if fn := hook.Load(); fn != nil {
		(*fn)(name)
		return
	}
	if !planned().pass(name) {
		return
	}
	fmt.Fprintln(os.Stderr, "crash point", name) // unbuffered; tests look for it
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		os.Exit(137)
	}
	select {} // the signal is on its way
}
