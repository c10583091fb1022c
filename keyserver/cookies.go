package keyserver

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Web pages sign in with the header CloudMLS-Tokens: cookie, where the operator
// allows it. Their tokens are in cookies that no script can read, and nowhere in
// the answer. Programs use bearer tokens; a request with an Authorization header
// is theirs, and its cookies are not looked at.
const (
	accessCookie  = "__Host-cloudmls-access"
	refreshCookie = "__Host-cloudmls-refresh"
	tokensHeader  = "CloudMLS-Tokens"
	tokensCookie  = "cookie"
)

type loginInput struct {
	RawBody []byte
	Body    keyapi.LoginRequest
	Key     string `header:"Idempotency-Key" doc:"16 to 128 printable ASCII characters, random. The same request again gives the same answer for 24 hours."`
	Tokens  string `header:"CloudMLS-Tokens" doc:"\"cookie\": the tokens are wanted as cookies."`
}

type registerInput struct {
	RawBody []byte
	Body    keyapi.RegisterRequest
	Key     string `header:"Idempotency-Key" doc:"As for login."`
	Tokens  string `header:"CloudMLS-Tokens" doc:"As for login."`
}

type recoverInput struct {
	RawBody []byte
	Body    keyapi.RecoverRequest
	Key     string `header:"Idempotency-Key" doc:"As for login."`
	Tokens  string `header:"CloudMLS-Tokens" doc:"As for login."`
}

type refreshInput struct {
	Body          keyapi.RefreshRequest
	Authorization string `header:"Authorization" hidden:"true"`
	Cookie        string `cookie:"__Host-cloudmls-refresh" doc:"The refresh token of web pages."`
}

type sessionOutput struct {
	SetCookie []http.Cookie `header:"Set-Cookie"`
	Body      keyapi.Session
}

type cookieOutput struct {
	SetCookie []http.Cookie `header:"Set-Cookie"`
}

// signedIn gives the answer in the way that the client wants its tokens.
func (s *Server) signedIn(mode string, answer keyapi.Session) (*sessionOutput, error) {
	out := &sessionOutput{Body: answer}
	if mode == "" {
		return out, nil
	}
	if err := s.checkMode(mode); err != nil {
		return nil, err
	}
	hash := sha256.Sum256(answer.RefreshToken)
	refresh := base64.RawURLEncoding.EncodeToString(answer.RefreshToken)
	out.SetCookie = []http.Cookie{
		hostCookie(accessCookie, answer.AccessToken, s.TokenLifetime), hostCookie(refreshCookie, refresh, s.Limits.RefreshLifetime),
	}
	out.Body.AccessToken, out.Body.RefreshToken, out.Body.RefreshHash = "", nil, hash[:]
	return out, nil
}

// checkMode is asked before anything is done, or a refusal would come too late.
func (s *Server) checkMode(mode string) error {
	switch {
	case mode == "":
		return nil
	case mode != tokensCookie:
		return invalid(`CloudMLS-Tokens must be "cookie" or absent`)
	case !s.Browsers:
		return invalid("this server gives no tokens in cookies")
	}
	return nil
}

func (s *Server) signedOut() *cookieOutput {
	if !s.Browsers {
		return &cookieOutput{}
	}
	return &cookieOutput{SetCookie: []http.Cookie{hostCookie(accessCookie, "", -1), hostCookie(refreshCookie, "", -1)}}
}

// hostCookie: the prefix __Host- makes browsers insist on Secure, Path=/ and no
// Domain, so no other host can set or read it.
func hostCookie(name, value string, life time.Duration) http.Cookie {
	age := int(life / time.Second)
	if life < 0 {
		age = -1
	}
	return http.Cookie{Name: name, Value: value, Path: "/", MaxAge: age, Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode}
}

// refreshRequest gives the request with its token, and what the device must
// have signed.
func (s *Server) refreshRequest(in *refreshInput) (*keyapi.RefreshRequest, []byte, error) {
	r := in.Body
	if len(r.RefreshToken) > 0 || !s.Browsers || in.Cookie == "" || in.Authorization != "" {
		return &r, keyapi.RefreshSigningInput(s.Origin, r), nil
	}
	token, err := base64.RawURLEncoding.Strict().DecodeString(in.Cookie)
	if err != nil || len(token) != refreshSize {
		return nil, nil, unauthorized("refresh token is not valid")
	}
	r.RefreshToken = token
	hash := sha256.Sum256(token)
	return &r, keyapi.CookieRefreshSigningInput(s.Origin, r.Time, hash[:]), nil
}

// byCookie tells whether a request brings its tokens in cookies, or asks for
// such.
func byCookie(r *http.Request) bool {
	if r.Header.Get(tokensHeader) != "" {
		return true
	}
	if r.Header.Get("Authorization") != "" {
		return false
	}
	return slices.ContainsFunc(r.Cookies(), func(c *http.Cookie) bool { return c.Name == accessCookie || c.Name == refreshCookie })
}

func (o *Options) checkOrigins() error {
	for _, x := range o.Origins {
		u, err := url.Parse(x)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.Scheme+"://"+u.Host != x || strings.ToLower(x) != x {
			return fmt.Errorf("options: Origins: %q is not an origin such as https://mail.example.org", x)
		}
	}
	return nil
}

// crossOrigin refuses what other pages make a browser send with our cookies,
// and answers the questions of CORS for the configured origins only.
func (s *Server) crossOrigin() (func(http.Handler) http.Handler, error) {
	protection := http.NewCrossOriginProtection()
	for _, x := range s.Origins {
		if err := protection.AddTrustedOrigin(x); err != nil {
			return nil, errors.Join(errors.New("options: Origins"), err)
		}
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if s.Browsers && byCookie(r) {
				if err := protection.Check(r); err != nil {
					writeProblem(w, forbidden("a page of another origin must not do this").(*problem))
					return
				}
			}
			if len(s.Origins) > 0 {
				w.Header().Add("Vary", "Origin")
				if slices.Contains(s.Origins, r.Header.Get("Origin")) && s.allow(w, r) {
					return
				}
			}
			next.ServeHTTP(w, r)
		})
	}, nil
}

// allow writes the headers of CORS; answered tells that it was a question only.
func (s *Server) allow(w http.ResponseWriter, r *http.Request) (answered bool) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
	if s.Browsers {
		h.Set("Access-Control-Allow-Credentials", "true")
	}
	h.Set("Access-Control-Expose-Headers", "Retry-After")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, POST, DELETE")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key, CloudMLS-Tokens")
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}
