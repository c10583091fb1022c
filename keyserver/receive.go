package keyserver

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

const (
	// plainBody is announced length up to which a body is counted as announced.
	plainBody = 64 << 10
	// receiveChunk is what a longer body is received in, and counted by.
	receiveChunk = 256 << 10
	// A body that is being received brings receiveLeast octets in each
	// receiveWindow, 8 KiB a second, and ends within bodyTimeout.
	receiveLeast  = 80 << 10
	receiveWindow = 10 * time.Second
)

// gateLarge is a middleware behind authenticate or recognise, for routes with bodies that may
// be large. A longer body is received before anything is done about it.
func (s *Server) gateLarge(c huma.Context, next func(huma.Context)) {
	r, w := humachi.Unwrap(c)
	u, limit := bearer(c.Context()).user, c.Operation().MaxBodyBytes
	if n := r.ContentLength; n >= 0 && n <= plainBody {
		if !s.large.enter(u, n) {
			writeProblem(w, newRateLimited(time.Second))
			return
		}
		defer s.large.leave(u, n)
		next(c)
		return
	}
	body := &receivedBody{gate: &s.large, user: u}
	defer body.drop()
	if p := body.receive(r, http.NewResponseController(w), limit, receiveWindow); p != nil {
		if r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close") // nothing else is read of it
		}
		writeProblem(w, p)
		return
	}
	if body.size >= largeBody {
		if !s.large.begin(c.Context(), u) {
			writeProblem(w, newRateLimited(time.Second))
			return
		}
		done := sync.OnceFunc(func() { s.large.end(u) })
		defer done()
		c = working{c, done}
	}
	r.Body = body
	next(c)
}

// working is the context of a large body that is worked on, until the answer
// begins: how long that takes is the client's doing.
type working struct {
	humaContext
	done func()
}

// SetStatus writes the header.
func (c working) SetStatus(status int) {
	c.done()
	c.humaContext.SetStatus(status)
}

// BodyWriter is where the answer goes.
func (c working) BodyWriter() io.Writer {
	c.done()
	return c.humaContext.BodyWriter()
}

// Unwrap gives huma the context below.
func (c working) Unwrap() huma.Context { return c.humaContext }

// receivedBody is a body in memory. What was read of it is let go.
type receivedBody struct {
	gate    *largeGate
	user    UserID
	counted int64
	size    int64
	chunks  [][]byte
}

// receive reads a body of less than limit octets.
func (b *receivedBody) receive(r *http.Request, c *http.ResponseController, limit int64, window time.Duration) *problem {
	if r.ContentLength >= limit {
		return bodyTooLarge()
	}
	if n := r.ContentLength; n > 0 && !b.gate.fits(b.user, n) {
		return newRateLimited(time.Second)
	}
	end := time.Now().Add(bodyTimeout)
	deadline := func(t time.Time) error {
		if t.After(end) {
			t = end
		}
		if err := c.SetReadDeadline(t); !errors.Is(err, http.ErrNotSupported) { // not by the recorder of a test
			return err
		}
		return nil
	}
	fresh := int64(0) // octets of this window
	err := deadline(time.Now().Add(window))
	for err == nil {
		chunk, full := b.room(r.ContentLength)
		if full != nil {
			return full
		}
		var n int
		n, err = r.Body.Read(chunk[len(chunk):cap(chunk)])
		b.chunks[len(b.chunks)-1] = chunk[:len(chunk)+n]
		b.size += int64(n)
		if b.size >= limit {
			return bodyTooLarge()
		}
		if fresh += int64(n); err == nil && fresh >= receiveLeast {
			fresh = 0
			err = deadline(time.Now().Add(window))
		}
	}
	if err != io.EOF {
		return notReceived(err)
	}
	if err := deadline(end); err != nil { // the window is over, the request is not
		return notReceived(err)
	}
	return nil
}

// room gives the chunk to read into, a new one where the last one is full.
func (b *receivedBody) room(announced int64) ([]byte, *problem) {
	if n := len(b.chunks); n > 0 && len(b.chunks[n-1]) < cap(b.chunks[n-1]) {
		return b.chunks[n-1], nil
	}
	n := int64(receiveChunk)
	if announced > 0 {
		n = min(n, announced-b.size+1) // one more, to see the end
	}
	if !b.gate.enter(b.user, n) {
		return nil, newRateLimited(time.Second)
	}
	b.counted += n
	b.chunks = append(b.chunks, make([]byte, 0, n))
	return b.chunks[len(b.chunks)-1], nil
}

func bodyTooLarge() *problem {
	return newProblem(http.StatusRequestEntityTooLarge, keyapi.CodeTooLarge, "request body is too large")
}

func notReceived(err error) *problem {
	p := newRateLimited(time.Second)
	p.Detail = "the body did not arrive whole"
	var t interface{ Timeout() bool }
	if errors.As(err, &t) && t.Timeout() {
		p.Detail = "the body came too slowly"
	}
	return p
}

// Read implements io.Reader.
func (b *receivedBody) Read(p []byte) (int, error) {
	for len(b.chunks) > 0 && len(b.chunks[0]) == 0 {
		b.chunks = b.chunks[1:]
	}
	if len(b.chunks) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.chunks[0])
	b.chunks[0] = b.chunks[0][n:]
	return n, nil
}

// Close implements io.Closer. The octets count until the request is over: they
// are in memory in other forms meanwhile.
func (b *receivedBody) Close() error { return nil }

func (b *receivedBody) drop() {
	b.chunks = nil
	b.gate.leave(b.user, b.counted)
}
