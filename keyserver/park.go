package keyserver

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// A long-poll is most of what a server has in memory: each device has one, all
// day. Looking into an inbox takes a stack of 16 KiB, which stays with the
// goroutine that has grown it, and waiting takes next to none. So a request that
// may wait looks on a goroutine of its own, waits on that of its connection, and
// looks again as if it had just come, but for its token, which was checked.

// parking is a request that may wait. It is used by one goroutine at a time.
type parking struct {
	known bool // who was checked
	who   identity
	// place is where it waits, once it has begun to. A look that ends with waits
	// has given no answer; one with last gives one, whatever there is.
	place       *waiter
	waits, last bool

	headers []string // of the request, names and values, without secrets
}

type parkingKey struct{}

// parkingOf is nil where a request may not wait.
func parkingOf(ctx context.Context) *parking {
	p, _ := ctx.Value(parkingKey{}).(*parking)
	return p
}

// mayWait tells by its form whether a request may want to wait. Not seeing it
// would do no harm: it would be answered at once.
func mayWait(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.RawQuery, "wait") && strings.HasPrefix(r.URL.Path, "/v1/delivery/")
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !mayWait(r) {
		s.handler.ServeHTTP(w, r)
		return
	}
	p := &parking{}
	defer s.leave(p)
	s.look(p, w, r)
	for p.waits {
		p.putAway(r)
		there := s.wait(r.Context(), p)
		p.takeBack(r)
		if !there {
			writeProblem(w, newUnavailable("the client is gone"))
			return
		}
		s.look(p, w, r)
	}
}

// look has the handler answer, or find that there is nothing to tell yet.
func (s *Server) look(p *parking, w http.ResponseWriter, r *http.Request) {
	p.waits = false
	var panicked any
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { panicked = recover() }()
		s.handler.ServeHTTP(&lookWriter{ResponseWriter: w, p: p, header: http.Header{}}, r.WithContext(context.WithValue(r.Context(), parkingKey{}, p)))
	}()
	<-done
	if panicked != nil {
		panic(panicked) // of http.ErrAbortHandler: for others there is recoverer
	}
}

// wait tells, at the latest when the client's time is over, that it is worth
// looking again; false: the client has gone.
func (s *Server) wait(ctx context.Context, p *parking) (there bool) {
	select {
	case <-p.place.c:
		p.last = p.place.over.Load()
	case <-s.closed:
		p.last = true
	case <-ctx.Done():
		return false
	}
	return true
}

// park has a look end without an answer. It is nil where the user or the network
// has as many long-polls as it may; the caller looks once more after the first
// call, so that nothing is missed.
func (s *Server) park(p *parking, who identity, in *deliveriesInput, from string) *waiter {
	w := s.waiting.enter(who, in.account(), from, &s.Limits)
	if w != nil {
		w.timer = time.AfterFunc(time.Duration(in.Wait)*time.Second, w.end)
		p.place = w
	}
	return w
}

func (s *Server) leave(p *parking) {
	if p.place != nil {
		p.place.timer.Stop()
		s.waiting.leave(p.place)
	}
}

// putAway keeps of the headers of a request what another look may need, in
// little room; takeBack undoes it. The access token is half of what a client
// sends, and was read.
func (p *parking) putAway(r *http.Request) {
	p.headers = p.headers[:0]
	for name, values := range r.Header {
		if name == "Authorization" || name == "Cookie" {
			continue
		}
		for _, v := range values {
			p.headers = append(p.headers, name, v)
		}
	}
	r.Header = nil
}

func (p *parking) takeBack(r *http.Request) {
	r.Header = make(http.Header, len(p.headers)/2)
	for i := 0; i < len(p.headers); i += 2 {
		r.Header[p.headers[i]] = append(r.Header[p.headers[i]], p.headers[i+1])
	}
}

// lookWriter passes on the answer of a look, if it gives one.
type lookWriter struct {
	http.ResponseWriter
	p      *parking
	header http.Header
	begun  bool
}

// Header is that of the answer, if there is one.
func (w *lookWriter) Header() http.Header {
	if w.begun {
		return w.ResponseWriter.Header()
	}
	return w.header
}

// WriteHeader begins the answer.
func (w *lookWriter) WriteHeader(status int) {
	if w.p.waits {
		return
	}
	w.begin()
	w.ResponseWriter.WriteHeader(status)
}

func (w *lookWriter) begin() {
	if w.begun {
		return
	}
	w.begun = true
	h := w.ResponseWriter.Header()
	for name, values := range w.header {
		h[name] = values
	}
}

// Write writes the answer.
func (w *lookWriter) Write(b []byte) (int, error) {
	if w.p.waits {
		return len(b), nil
	}
	w.begin()
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *lookWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
