package keyserver

import (
	"net/http"
	"time"
)

// Over HTTP/2 a connection has many requests at once, each of which costs as much
// as a connection of HTTP/1 that is served, and may be kept by a client that does
// not take its answer. So requests are counted by network too, with shares like
// those of connections: what a network may have as connections and as long-polls
// together, and all of them twice the connections.
//
// What one connection makes the server keep is bounded by these; browsers and Go
// open another connection where one is full.
const (
	streamsAtOnce = 100
	receiveBuffer = 64 << 10 // octets that a connection may send before they are read
)

func http2Config() *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxConcurrentStreams: streamsAtOnce, MaxReceiveBufferPerConnection: receiveBuffer, MaxReceiveBufferPerStream: receiveBuffer,
		WriteByteTimeout: sendAny,
	}
}

// requestLimits are Limits for requests in place of connections.
func (l *Limits) requestLimits() *Limits {
	r := &Limits{Connections: -1, ConnectionsFrom: -1}
	if l.Connections >= 0 {
		r.Connections = 2 * l.Connections
	}
	if l.ConnectionsFrom >= 0 && l.LongPollsFrom >= 0 {
		r.ConnectionsFrom = l.ConnectionsFrom + l.LongPollsFrom
	}
	return r
}

// countRequests is a middleware behind clientAddress. One request too many gets an
// answer while there are not many of these, as one connection too many does; the
// others are reset.
func (s *Server) countRequests(next http.Handler) http.Handler {
	limits, open := s.Limits.requestLimits(), &connections{}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from := network(r.Context())
		v := open.enter(from, false, limits)
		if v == dropped {
			panic(http.ErrAbortHandler)
		}
		defer open.leave(from, v)
		if v == admitted {
			next.ServeHTTP(w, r)
		} else {
			p := newRateLimited(time.Second)
			p.Detail = "too many requests at once, or too many from your network"
			writeProblem(w, p)
		}
		if p := parkingOf(r.Context()); r.ProtoMajor > 1 && (p == nil || !p.waits) {
			s.sendRest(w)
		}
	})
}
