package keyserver

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Limits of request bodies, per route.
const (
	smallBody  = 64 << 10
	uploadBody = 16 << 20 // MaxKeyPackages of MaxKeyPackageSize, in base64
)

// routes builds the router; it is the list of everything that can be asked.
func (s *Server) routes() http.Handler {
	r := chi.NewRouter()
	r.Use(s.recoverer, noStore)
	if len(s.TrustedProxies) == 0 {
		r.Use(middleware.ClientIPFromRemoteAddr)
	} else {
		var prefixes []string
		for _, p := range s.TrustedProxies {
			prefixes = append(prefixes, p.String())
		}
		r.Use(middleware.ClientIPFromXFF(prefixes...))
	}
	r.NotFound(func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, newProblem(http.StatusNotFound, keyapi.CodeNoRoute, "no such path"))
	})
	r.MethodNotAllowed(func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, newProblem(http.StatusMethodNotAllowed, keyapi.CodeNoRoute, "no such method here"))
	})
	api := humachi.New(r, apiConfig())
	api.UseMiddleware(func(c huma.Context, next func(huma.Context)) { next(foldStatus{c}) })

	open := router{server: s, api: api}
	add(open, "GET /v1/server", 0, s.serverInfo)
	add(open, "POST /v1/auth/params", smallBody, s.params)
	add(open, "POST /v1/auth/register", smallBody, s.register)
	add(open, "POST /v1/auth/login", smallBody, s.login)
	add(open, "POST /v1/auth/refresh", smallBody, s.refresh)

	add(open, "POST /v1/auth/recover", smallBody, s.recover)

	// What a session can do that was opened with the recovery code.
	recovering := router{server: s, api: api, middlewares: huma.Middlewares{s.authenticate(true)}}
	add(recovering, "POST /v1/auth/logout", 0, s.logout)
	add(recovering.behind(s.gateLarge), "POST /v1/auth/password", uploadBody, s.password)
	add(recovering.behind(s.gateAnswer), "GET /v1/objects", 0, s.objectIndex)
	add(recovering.behind(s.gateAnswer), "POST /v1/objects", smallBody, s.objects)

	signedIn := router{server: s, api: api, middlewares: huma.Middlewares{s.authenticate(false)}}
	add(signedIn, "GET /v1/sessions", 0, s.sessions)
	add(signedIn, "DELETE /v1/sessions/{session}", 0, s.endSession)
	add(signedIn, "POST /v1/accounts/verify", smallBody, s.verify)
	add(signedIn, "POST /v1/accounts", smallBody, s.addAccount)
	add(signedIn, "GET /v1/accounts", 0, s.accounts)
	add(signedIn, "POST /v1/accounts/rotate", smallBody, s.rotate)
	add(signedIn.behind(s.gateLarge), "POST /v1/keypackages/{platform}/{id}", uploadBody, s.uploadKeyPackages)
	add(signedIn, "GET /v1/keypackages/{platform}/{id}", 0, s.countKeyPackages)
	add(signedIn, "POST /v1/keypackages/{platform}/{id}/claim", 0, s.claimKeyPackage)
	add(signedIn, "GET /v1/reachable/{platform}/{id}", 0, s.reachable)
	add(signedIn.behind(s.gateLarge), "POST /v1/tx", keyapi.MaxTxSize, s.tx)
	add(signedIn, "GET /v1/conversations/{conversation}", 0, s.instance)
	add(signedIn.behind(s.gateAnswer), "GET /v1/delivery/{platform}/{id}", 0, s.deliveries)
	add(signedIn, "POST /v1/delivery/{platform}/{id}/ack", smallBody, s.acknowledge)
	return r
}

func apiConfig() huma.Config {
	format := huma.Format{
		Marshal:   func(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) },
		Unmarshal: decodeStrict,
	}
	c := huma.DefaultConfig("CloudMLS key server", "1")
	c.Info.Description = "Byte strings are standard base64 with padding. docs/spec/keyserver-api.md has the rules."
	c.Formats = map[string]huma.Format{"application/json": format, "json": format}
	c.DocsPath, c.SchemasPath = "", ""
	c.CreateHooks = nil // they would add links to answers
	c.RejectUnknownQueryParameters = true
	c.Transformers = []huma.Transformer{toProblem}
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"bearer": {Type: "http", Scheme: "bearer", BearerFormat: "JWT"},
	}
	return c
}

type router struct {
	server      *Server
	api         huma.API
	middlewares huma.Middlewares
}

// behind adds a middleware to those that a route has.
func (r router) behind(m func(huma.Context, func(huma.Context))) router {
	r.middlewares = append(slices.Clone(r.middlewares), m)
	return r
}

// add declares one route, "METHOD path". Bodies are decoded strictly and
// checked by the handlers, not by schema: that would decode each of them twice.
func add[I, O any](r router, route string, body int64, handler func(context.Context, *I) (*O, error)) {
	method, path, _ := strings.Cut(route, " ")
	op := huma.Operation{
		Method: method, Path: path, OperationID: operationID(method, path), Middlewares: r.middlewares,
		SkipValidateBody: true, MaxBodyBytes: max(body, 1), BodyReadTimeout: bodyTimeout,
		Responses: map[string]*huma.Response{"default": problemResponse(r.api)},
	}
	if r.middlewares != nil {
		op.Security = []map[string][]string{{"bearer": {}}}
	}
	if _, empty := any(new(O)).(*struct{}); empty {
		op.DefaultStatus = http.StatusNoContent
	}
	huma.Register(r.api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handler(ctx, in)
		if err != nil {
			return nil, r.server.asProblem(route, err)
		}
		return out, nil
	})
}

func operationID(method, path string) string {
	words := []string{strings.ToLower(method)}
	for _, w := range strings.Split(strings.TrimPrefix(path, "/v1/"), "/") {
		words = append(words, strings.Trim(w, "{}"))
	}
	return strings.Join(words, "-")
}

func problemResponse(api huma.API) *huma.Response {
	schema := huma.SchemaFromType(api.OpenAPI().Components.Schemas, typeOfProblem)
	return &huma.Response{
		Description: "A problem (RFC 9457). Clients branch on its code.",
		Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: schema}},
	}
}

// authenticate lets requests with a valid token of an existing session pass;
// whether one that was opened with the recovery code does too, recovering says.
func (s *Server) authenticate(recovering bool) func(huma.Context, func(huma.Context)) {
	return func(c huma.Context, next func(huma.Context)) {
		id, err := s.identify(c)
		if err == nil && id.recovering && !recovering {
			err = forbidden("signed in with the recovery code: set a new password first")
		}
		var p *problem
		switch {
		case err == nil:
			next(huma.WithValue(c, identityKey{}, id))
			return
		case errors.As(err, &p):
		default:
			p = s.asProblem("authenticate", err).(*problem)
		}
		_, w := humachi.Unwrap(c)
		writeProblem(w, p)
	}
}

func (s *Server) identify(c huma.Context) (identity, error) {
	scheme, token, ok := strings.Cut(c.Header("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return identity{}, unauthorized("no access token")
	}
	id, err := s.tokens.check(token)
	if err != nil {
		return identity{}, unauthorized("access token is not valid")
	}
	var session *Session
	err = s.Store.View(c.Context(), func(r Reader) (err error) {
		session, err = r.Session(id.session)
		return err
	})
	if err != nil {
		return identity{}, err
	}
	if session == nil || session.User != id.user {
		return identity{}, unauthorized("session has ended")
	}
	id.recovering = session.Recovering
	return id, nil
}

type identityKey struct{}

// caller is who makes the request; routes behind authenticate only.
func caller(ctx context.Context) identity {
	id, ok := ctx.Value(identityKey{}).(identity)
	if !ok {
		panic("keyserver: route without authentication asks who calls")
	}
	return id
}

// network is the prefix that the client of a request is counted by.
func network(ctx context.Context) string {
	return networkOf(middleware.GetClientIPAddr(ctx))
}

func noStore(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}

func (s *Server) recoverer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if v := recover(); v != nil {
				if v == http.ErrAbortHandler {
					panic(v)
				}
				id := s.newLogID()
				s.log.Error("request panicked", "id", id, "panic", v, "stack", string(debug.Stack()))
				writeProblem(w, newProblem(http.StatusInternalServerError, keyapi.CodeInternal, "see the server's log under "+id))
			}
		}()
		next.ServeHTTP(w, r)
	})
}

func writeProblem(w http.ResponseWriter, p *problem) {
	for k, v := range p.GetHeaders() {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	// The client is gone if this fails; there is nobody to tell.
	_ = json.NewEncoder(w).Encode(p.Problem)
}
