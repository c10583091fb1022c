package keyserver

import (
	"net/http"
	"sync"

	"github.com/go-chi/chi/v5/middleware"
)

// clientAddress finds out whom a request is counted for. X-Forwarded-For is
// believed from the configured proxies only, and of its entries the last one
// that is no such proxy: what a client wrote into it has no effect.
func (s *Server) clientAddress() []func(http.Handler) http.Handler {
	if len(s.TrustedProxies) > 0 {
		var prefixes []string
		for _, p := range s.TrustedProxies {
			prefixes = append(prefixes, p.String())
		}
		return []func(http.Handler) http.Handler{middleware.ClientIPFromXFF(prefixes...)}
	}
	var once sync.Once
	warn := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Forwarded-For") != "" {
				once.Do(func() {
					s.log.Warn("a request came with X-Forwarded-For, but trusted_proxies is not set: it is ignored, and if this server " +
						"is behind a proxy, all clients count as one network; name the proxy's address in trusted_proxies")
				})
			}
			next.ServeHTTP(w, r)
		})
	}
	return []func(http.Handler) http.Handler{warn, middleware.ClientIPFromRemoteAddr}
}
