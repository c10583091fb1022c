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
	openBody   = 16 << 10 // without a token
	smallBody  = 64 << 10
	uploadBody = 16 << 20 // MaxKeyPackages of MaxKeyPackageSize, in base64
	// keyapi.MaxDirections in base64
	directionsBody = 136 << 10
)

// routes builds the router; it is the list of everything that can be asked.
func (s *Server) routes() (http.Handler, error) {
	crossOrigin, err := s.crossOrigin()
	if err != nil {
		return nil, err
	}
	r := chi.NewRouter()
	r.Use(s.paceAnswers, s.recoverer, noStore, refuse, crossOrigin)
	r.Use(s.clientAddress()...)
	r.Use(s.countRequests)
	r.NotFound(func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, newProblem(http.StatusNotFound, keyapi.CodeNoRoute, "no such path"))
	})
	r.MethodNotAllowed(func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, newProblem(http.StatusMethodNotAllowed, keyapi.CodeNoRoute, "no such method here"))
	})
	config, err := apiConfig()
	if err != nil {
		return nil, err
	}
	api := humachi.New(r, config)
	api.UseMiddleware(func(c huma.Context, next func(huma.Context)) { next(foldStatus{c}) })

	open := router{server: s, api: api, problem: problemResponse(api)}
	add(open, "GET /v1/server", 0, s.serverInfo)
	// What a session can do that was opened with the recovery code.
	recovering := open.behind(s.authenticate(true))
	signedIn := open.behind(s.authenticate(false))
	// What is asked all the time: the session is looked up in the transaction
	// that does the work.
	busy := open.behind(s.recognise)
	if s.has(RoleAuth) {
		s.authRoutes(open, recovering, signedIn)
	}
	if s.has(RoleStore) {
		s.storeRoutes(recovering, signedIn)
	}
	if s.has(RoleDelivery) {
		s.deliveryRoutes(signedIn, busy)
	}
	if s.has(RoleStore) || s.has(RoleDelivery) {
		add(busy.behind(s.gateAnswer).behind(s.gateLarge), "POST /v1/tx", keyapi.MaxTxSize, s.tx)
	}
	s.addDocs(r, api.OpenAPI())
	return r, nil
}

func (s *Server) authRoutes(open, recovering, signedIn router) {
	add(open, "GET /v1/keys", 0, s.tokenKeys)
	add(open, "POST /v1/auth/params", openBody, evenly(s.params))
	add(open, "POST /v1/auth/register", openBody, s.register)
	add(open, "POST /v1/auth/login", openBody, evenly(s.login))
	add(open, "POST /v1/auth/refresh", openBody, s.refresh)
	add(open, "POST /v1/auth/recover", openBody, evenly(s.recover))
	add(recovering, "POST /v1/auth/logout", 0, s.logout)
	add(recovering, "GET /v1/auth/session", 0, s.sessionState)
	add(recovering.behind(s.gateLarge), "POST /v1/auth/password", uploadBody, s.password)
	add(signedIn, "GET /v1/sessions", 0, s.sessions)
	add(signedIn, "DELETE /v1/sessions/{session}", 0, s.endSession)
}

func (s *Server) storeRoutes(recovering, signedIn router) {
	add(recovering.behind(s.gateAnswer), "GET /v1/objects", 0, s.objectIndex)
	add(recovering.behind(s.gateAnswer), "GET /v1/objects/{object}", 0, s.object)
	add(recovering.behind(s.gateAnswer), "POST /v1/objects", smallBody, s.objects)
	add(recovering, "GET /v1/store", 0, s.storePlace)
	add(recovering, "POST /v1/store/directions", directionsBody, s.setDirections)
	add(signedIn, "POST /v1/store", smallBody, s.moveStore)
	add(signedIn.behind(s.gateLarge), "POST /v1/store/import", keyapi.MaxTxSize, s.importObjects)
}

func (s *Server) deliveryRoutes(signedIn, busy router) {
	add(signedIn, "POST /v1/accounts/verify", smallBody, s.verify)
	add(signedIn, "POST /v1/accounts", smallBody, s.addAccount)
	add(signedIn, "GET /v1/accounts", 0, s.accounts)
	add(signedIn, "POST /v1/accounts/rotate", smallBody, s.rotate)
	add(signedIn.behind(s.gateLarge), "POST /v1/keypackages/{platform}/{id}", uploadBody, s.uploadKeyPackages)
	add(signedIn, "GET /v1/keypackages/{platform}/{id}", 0, s.countKeyPackages)
	add(busy, "POST /v1/keypackages/{platform}/{id}/claim", 0, s.claimKeyPackage)
	add(signedIn, "GET /v1/reachable/{platform}/{id}", 0, s.reachable)
	add(signedIn, "GET /v1/conversations/{conversation}", 0, s.instance)
	add(busy.behind(s.gateAnswer), "GET /v1/delivery/{platform}/{id}", 0, s.deliveries)
	add(signedIn, "POST /v1/delivery/{platform}/{id}/ack", smallBody, s.acknowledge)
}

func apiConfig() (huma.Config, error) {
	binary, err := newCBOR()
	if err != nil {
		return huma.Config{}, err
	}
	format := huma.Format{
		Marshal:   func(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) },
		Unmarshal: decodeStrict,
	}
	c := huma.DefaultConfig("CloudMLS key server", "1")
	c.Info.Description = "Bodies are JSON, with octets in standard base64 with padding, or CBOR, with octets as byte strings. docs/spec/keyserver-api.md has the rules."
	c.Formats = map[string]huma.Format{"application/json": format, "json": format, mediaCBOR: {Marshal: binary.encode, Unmarshal: binary.decode}}
	// huma calls its own errors application/problem+cbor where CBOR is asked for;
	// foldStatus calls them what they are.
	c.Formats["cbor"] = huma.Format{Marshal: format.Marshal, Unmarshal: func([]byte, any) error { return errNotCBOR }}
	c.DocsPath, c.SchemasPath, c.OpenAPIPath = "", "", "" // addDocs serves them
	c.CreateHooks = nil                                   // they would add links to answers
	c.RejectUnknownQueryParameters = true
	c.Transformers = []huma.Transformer{toProblem}
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"bearer": {Type: "http", Scheme: "bearer", BearerFormat: "JWT"},
	}
	return c, nil
}

// errNotCBOR: problems are sent, never received.
var errNotCBOR = errors.New("the media type of CBOR is application/cbor")

type router struct {
	server      *Server
	api         huma.API
	problem     *huma.Response // of each route, the same
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
		Responses: map[string]*huma.Response{"default": r.problem},
	}
	if r.middlewares == nil && body > 0 {
		op.Middlewares, op.BodyReadTimeout = huma.Middlewares{r.server.gateOpen}, openTimeout
	}
	if r.middlewares != nil {
		op.Security = []map[string][]string{{"bearer": {}}}
	}
	_, empty := any(new(O)).(*struct{})
	if _, cookies := any(new(O)).(*cookieOutput); empty || cookies {
		op.DefaultStatus = http.StatusNoContent
	}
	huma.Register(r.api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handler(ctx, in)
		if err != nil {
			return nil, r.server.holdProblem(ctx, r.server.asProblem(route, err))
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
