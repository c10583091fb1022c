package stack

import (
	"fmt"
	"strings"
	"time"
)

// CrashAt starts the program so that it kills itself at the n-th pass of a crash
// point (Lab.Tags must hold "crashpoints"), and waits until it has. It may do
// so before it is ready.
func (p *Process) CrashAt(ready, point string, n int) error {
	said := strings.Count(p.LogText(), crashed(point))
	p.Env = append(p.Env, fmt.Sprintf("CLOUDMLS_CRASHPOINT=%s:%d", point, n))
	err := p.TryStart(ready)
	p.Env = p.Env[:len(p.Env)-1]
	if err == nil {
		select {
		case <-p.done:
		case <-time.After(Deadline):
			p.Kill()
			return fmt.Errorf("the crash point %s was not reached", point)
		}
	}
	if strings.Count(p.LogText(), crashed(point)) == said {
		return fmt.Errorf("the program ended, but not at the crash point %s:\n%s", point, tail(p.LogText()))
	}
	return nil
}

func crashed(point string) string { return "crash point " + point + "\n" }

// tail is the last part of a log.
func tail(s string) string { return s[max(0, len(s)-4000):] }
