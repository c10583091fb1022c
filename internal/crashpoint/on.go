//go:build crashpoints

package crashpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
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

// Here marks a point. Nothing runs after the one that the environment names:
// no deferred call, no flush.
func Here(name string) {
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
