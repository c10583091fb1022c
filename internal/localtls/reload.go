package localtls

import (
	"crypto/tls"
	"sync"
	"time"
)

// Source serves the pair of a folder to listeners and follows its renewal
// without a restart. It is safe for concurrent use.
type Source struct {
	dir string
	now func() time.Time

	mu   sync.Mutex
	pair *Pair
}

// Open makes sure that dir holds a pair and returns a source for it. now may be
// nil.
func Open(dir string, now func() time.Time) (*Source, error) {
	if now == nil {
		now = time.Now
	}
	p, err := Ensure(dir, now())
	if err != nil {
		return nil, err
	}
	return &Source{dir: dir, now: now, pair: p}, nil
}

// Pair returns the pair as it is now.
func (s *Source) Pair() *Pair {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pair
}

// Reload reads the folder again, and renews the pair if it is due. On an error
// the source goes on with the pair it has.
func (s *Source) Reload() (*Pair, error) {
	p, err := Ensure(s.dir, s.now())
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pair = p
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
