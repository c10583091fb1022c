package keyserver

import (
	"errors"
	"net/http"
	"time"
)

// An answer is in memory until its client has taken it, so how long that lasts
// must not be the client's to decide. A longer one is sent in parts, each with a
// deadline of its own: whoever takes octets at the least rate gets all of it,
// however long that is, and whoever does not is cut off. Short ones have the time
// that HTTPServer gives to a whole request and, over HTTP/2, that of one part.
const (
	// sendLeast octets of an answer, or one of sendParts of it where that is more,
	// are taken in each sendWindow: 8 KiB a second, and all of it within ten minutes.
	sendLeast  = 80 << 10
	sendParts  = 60
	sendWindow = 10 * time.Second
	// sendAny is how long a connection of HTTP/2 may take for what is written to it
	// at once, 16 KiB or less: the frame that ends a stream waits behind it.
	sendAny = 10 * time.Second
)

// paceAnswers is a middleware that has answers taken at the least rate.
func (s *Server) paceAnswers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&pacedWriter{w, s.sendWindow}, r)
	})
}

// pacedWriter is an answer that ends where it is not taken.
type pacedWriter struct {
	http.ResponseWriter
	window time.Duration
}

// Write writes a part of the answer. It panics with http.ErrAbortHandler where
// nobody takes it: whoever makes the answer could do nothing about that.
func (w *pacedWriter) Write(b []byte) (written int, err error) {
	part := len(b)
	if part > sendLeast {
		part = max(sendLeast, (part+sendParts-1)/sendParts)
	}
	for len(b) > part {
		w.extend()
		n, err := w.write(b[:part])
		written += n
		if err != nil {
			return written, err
		}
		b = b[part:]
	}
	if written > 0 {
		w.extend()
	}
	n, err := w.write(b)
	if written += n; written > n {
		w.extend() // what net/http has of it still goes out when the handler is done
	}
	return written, err
}

func (w *pacedWriter) write(b []byte) (int, error) {
	n, err := w.ResponseWriter.Write(b)
	if err != nil && !errors.Is(err, http.ErrBodyNotAllowed) && !errors.Is(err, http.ErrContentLength) {
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// extend gives the client a window more, where there is a connection: not in the
// recorder of a test.
func (w *pacedWriter) extend() {
	err := http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(w.window))
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		panic(http.ErrAbortHandler) // the connection is gone
	}
}

// Unwrap is for http.ResponseController.
func (w *pacedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// sendRest sends what is left of an answer over HTTP/2, where a stream lasts
// until its answer is sent, which is after the handler unless it is sent now.
func (s *Server) sendRest(w http.ResponseWriter) {
	c := http.NewResponseController(w)
	_ = c.SetWriteDeadline(time.Now().Add(s.sendWindow)) // the client is gone if one of these fails
	_ = c.Flush()
}
