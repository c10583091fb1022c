package certs

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// lookEvery is how often files are looked at for a new certificate.
const lookEvery = time.Minute

// Files serves a certificate from two PEM files. It is safe for concurrent use.
type Files struct {
	cert, key string
	log       *slog.Logger
	now       func() time.Time

	mu     sync.Mutex
	have   *tls.Certificate
	stamp  [2]stamp
	looked time.Time
}

// stamp tells one content of a file from the next.
type stamp struct {
	time time.Time
	size int64
}

// OpenFiles reads both files; the error names what is wrong with them.
func OpenFiles(cert, key string, log *slog.Logger) (*Files, error) {
	f := &Files{cert: cert, key: key, log: log, now: time.Now}
	if err := f.Reload(); err != nil {
		return nil, err
	}
	return f, nil
}

// Reload reads the files now. On an error the certificate stays what it was.
func (f *Files) Reload() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reload()
}

func (f *Files) reload() error {
	f.looked = f.now()
	stamps, err := f.stamps()
	if err != nil {
		return fmt.Errorf("load the certificate: %w", err)
	}
	c, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return fmt.Errorf("load the certificate: %w", err)
	}
	f.have, f.stamp = &c, stamps
	return nil
}

func (f *Files) stamps() (s [2]stamp, err error) {
	for i, name := range []string{f.cert, f.key} {
		info, err := os.Stat(name)
		if err != nil {
			return s, err
		}
		s[i] = stamp{info.ModTime(), info.Size()}
	}
	return s, nil
}

// certificate looks at the files now and then. One that is half written is
// looked at again; the old certificate serves meanwhile.
func (f *Files) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.now().Sub(f.looked) >= lookEvery {
		f.looked = f.now()
		if s, err := f.stamps(); err != nil {
			f.log.Warn("the certificate's files cannot be seen; the one read before serves on", "err", err)
		} else if s != f.stamp {
			if err := f.reload(); err != nil {
				f.log.Warn("the new certificate cannot be used; the one before serves on", "err", err)
			} else {
				f.log.Info("a new certificate serves", "file", f.cert)
			}
		}
	}
	return f.have, nil
}

// TLS returns the configuration of a listener.
func (f *Files) TLS() *tls.Config {
	c := base()
	c.GetCertificate = f.certificate
	return c
}

func base() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
}
