package process

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cloudmls/gateway/keyserver"
)

// exchange answers whatever it is asked with a number of octets, and does
// nothing else: what HTTP costs by itself. Its http.Server is that of a key
// server.
type exchange struct {
	size    atomic.Int64 // of an answer
	buffers sync.Pool
	octets  []byte
}

// maxAnswer bounds what Answer may ask for.
const maxAnswer = 1 << 20

func newExchange() *exchange {
	return &exchange{octets: make([]byte, maxAnswer), buffers: sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}}
}

// ServeHTTP reads a body into memory before it answers. A request with "wait" in
// its query is answered when its client has gone.
func (e *exchange) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b := e.buffers.Get().(*[]byte)
	_, err := io.ReadFull(r.Body, *b)
	e.buffers.Put(b)
	if err == nil || err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) { // longer than any that is measured
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if strings.Contains(r.URL.RawQuery, "wait=") {
		<-r.Context().Done()
		return
	}
	w.Header().Set("Content-Type", "application/cbor")
	// The client is gone if this fails.
	_, _ = w.Write(e.octets[:e.size.Load()])
}

// serveExchange is serve for a Config with Exchange.
func (c *Config) serveExchange() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	e := newExchange()
	h := keyserver.HTTPServer(e, nil)
	served := make(chan error, 1)
	go func() { served <- h.Serve(ln) }()
	tell(hello{Address: ln.Addr().String()})
	err = errors.Join(c.answer(e), h.Close())
	if end := <-served; !errors.Is(end, http.ErrServerClosed) {
		err = errors.Join(err, end)
	}
	return err
}

// setSize carries out Process.Answer.
func (e *exchange) setSize(text string) error {
	n, err := strconv.Atoi(text)
	if err == nil && (n < 0 || n > maxAnswer) {
		err = errors.New("answer of " + text + " octets")
	}
	if err == nil {
		e.size.Store(int64(n))
	}
	return err
}
