// Package ports finds TCP ports on loopback for programs that a test starts, and
// starts again, by address.
package ports

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
)

// The ports that are given out: none of those that systems take for connections by
// themselves (from 32768 on Linux, from 49152 elsewhere), since one of these would be
// somebody's connection by the time that a program listens on it; nor those of
// test/maillab.
const (
	first = 22000
	last  = 32000
)

// Ports gives out ports, none twice before all of them were. It is safe for
// concurrent use.
type Ports struct{ next atomic.Uint32 }

// New begins anywhere: other processes look for ports at the same time.
func New() *Ports {
	p := &Ports{}
	p.next.Store(rand.Uint32N(last - first))
	return p
}

// Address gives an address of 127.0.0.1 on which nobody listens.
func (p *Ports) Address() (string, error) {
	for range last - first {
		address := fmt.Sprintf("127.0.0.1:%d", first+p.next.Add(1)%(last-first))
		ln, err := net.Listen("tcp", address)
		if err == nil {
			return address, ln.Close()
		}
	}
	return "", errors.New("all ports of 127.0.0.1 that tests use are taken")
}
