package localtls

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Source serves the pair of a folder to listeners and follows its renewal
// without a restart, by whichever process it was renewed. It is safe for
// concurrent use.
type Source struct {
	dir string
	now func() time.Time

	mu   sync.Mutex
	pair *Pair
	seen os.FileInfo // the file that pair was read from, or was last tried
}

// Open makes sure that dir holds a pair and returns a source for it. now may be
// nil.
func Open(dir string, now func() time.Time) (*Source, error) {
	if now == nil {
		now = time.Now
	}
	s := &Source{dir: dir, now: now}
	if _, err := s.Reload(); err != nil {
		return nil, err
	}
	return s, nil
}

// Pair returns the pair as it is now. While the folder holds none that can be
// used, it is the last one.
func (s *Source) Pair() *Pair {
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := os.Stat(filepath.Join(s.dir, bundleName))
	if err != nil || same(info, s.seen) {
		return s.pair
	}
	s.seen = info
	if p, err := Load(s.dir, s.now()); err == nil {
		s.pair = p
	}
	return s.pair
}

// same tells whether a file was not replaced since: a renewed pair is a new file.
func same(a, b os.FileInfo) bool {
	return b != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// Reload reads the folder again, and renews the pair if it is due. On an error
// the source goes on with the pair it has.
func (s *Source) Reload() (*Pair, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := Ensure(s.dir, s.now())
	if err != nil {
		return nil, err
	}
	s.pair, s.seen = p, nil // the next call looks at the file once more
	return p, nil
}

// TLSConfig returns a configuration that shows the pair of the moment.
// protocols are the ALPN names to accept.
func (s *Source) TLSConfig(protocols ...string) *tls.Config {
	return &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return &s.Pair().Certificate, nil
		},
		NextProtos: protocols,
		MinVersion: tls.VersionTLS12,
	}
}
