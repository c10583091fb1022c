package boltstore

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
)

// bbolt panics where it finds pages that cannot be. All who share the transaction
// are told, and whoever comes later is served: nobody waits for ever.
func TestPanicOfATransactionEndsItAlone(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "keyserver.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	write := func(w keyserver.Writer) error { return w.PutMark([]byte("mark")) }
	begun, release := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() { // others come together behind it
		err := s.Update(t.Context(), func(w keyserver.Writer) error {
			close(begun)
			<-release
			return write(w)
		})
		if err != nil {
			t.Errorf("before: %v", err)
		}
	})
	<-begun
	const others = 3
	errs := make(chan error, others)
	for i := range others {
		all.Go(func() {
			errs <- s.Update(t.Context(), func(w keyserver.Writer) error {
				if i == 0 {
					w.(*tx).OnCommit(func() { panic("a page that cannot be") })
				}
				return write(w)
			})
		})
	}
	for {
		s.mu.Lock()
		n := len(s.queue)
		s.mu.Unlock()
		if n == others {
			break
		}
		time.Sleep(time.Millisecond)
	}
	close(release)
	all.Wait()
	for range others {
		if err := <-errs; err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("a transaction that ended in a panic: %v", err)
		}
	}
	if err := s.Update(t.Context(), write); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
