package keyserver

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Access tokens are JWTs of RFC 9068: EdDSA and nothing else, typ at+jwt.
const (
	tokenType     = "at+jwt"
	tokenAudience = "/v1" // behind the origin; tokens for other purposes will have others
	maxTokenSize  = 4 << 10
	// clockSkew is how far the clocks of a server's processes may be apart: a
	// token of one serves at the others at once. Its end is exact everywhere.
	clockSkew = 30 * time.Second
)

// keySource knows the public keys that access tokens may be signed with.
type keySource interface {
	// public gives the key of this id, nil if there is none. An error means
	// that it is not known whether there is one.
	public(ctx context.Context, id string) (ed25519.PublicKey, error)
}

// tokens checks access tokens; where the server has the auth role it issues
// them too.
type tokens struct {
	origin   string
	lifetime time.Duration
	keys     keySource
	now      func() time.Time
	parser   *jwt.Parser
	checked  *checkedTokens
}

type claims struct {
	jwt.RegisteredClaims
	Session string `json:"sid"`
}

// identity is who makes a request, as its access token says.
type identity struct {
	user    UserID
	session SessionID
	// recovering: the session may do nothing before it has set a password. Its
	// token does not say so, the session does.
	recovering bool
	confirmed  bool   // the session was looked up, and exists
	token      string // as it came; nodes without sessions of their own ask with it
}

// newTokens: origin is that of the server with the auth role.
func newTokens(origin string, lifetime time.Duration, keys keySource, now func() time.Time) *tokens {
	return &tokens{origin: origin, lifetime: lifetime, keys: keys, now: now, checked: newCheckedTokens(), parser: jwt.NewParser(
		jwt.WithValidMethods([]string{"EdDSA"}), jwt.WithIssuer(origin), jwt.WithAudience(origin+tokenAudience),
		jwt.WithExpirationRequired(), jwt.WithStrictDecoding(), jwt.WithTimeFunc(now),
	)}
}

func keyID(k ed25519.PublicKey) string {
	h := sha256.Sum256(k)
	return base64.RawURLEncoding.EncodeToString(h[:12])
}

// signer issues tokens with one key.
type signer struct {
	t   *tokens
	id  string
	key ed25519.PrivateKey
}

func (g *signer) issue(id identity, now time.Time) (string, time.Time, error) {
	expires := now.Add(g.t.lifetime).Truncate(time.Second)
	jti := make([]byte, 16)
	rand.Read(jti)
	tok := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: g.t.origin, Audience: jwt.ClaimStrings{g.t.origin + tokenAudience}, Subject: id.user.String(),
			IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(expires), ID: hex.EncodeToString(jti),
		},
		Session: id.session.String(),
	})
	tok.Header["typ"], tok.Header["kid"] = tokenType, g.id
	s, err := tok.SignedString(g.key)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("sign access token: %w", err)
	}
	return s, expires, nil
}

// errKeysUnknown: the keys could not be looked up, so nothing can be said of a
// token.
var errKeysUnknown = errors.New("token keys are not available")

func (t *tokens) publicKey(ctx context.Context, id string) (ed25519.PublicKey, error) {
	k, err := t.keys.public(ctx, id)
	if err != nil {
		return nil, errors.Join(errKeysUnknown, err)
	}
	if k == nil {
		return nil, errors.New("key id is not known")
	}
	return k, nil
}

// check verifies a token by itself; whether its session still exists is for
// the store to say. Its error is errKeysUnknown, or says why the token is bad.
func (t *tokens) check(ctx context.Context, token string) (identity, error) {
	id := identity{token: token}
	if len(token) > maxTokenSize {
		return id, errors.New("access token is too long")
	}
	now := t.now()
	if known, key, ok := t.checked.find(token, now); ok {
		_, err := t.publicKey(ctx, key)
		return known, err
	}
	var kid string
	var c claims
	_, err := t.parser.ParseWithClaims(token, &c, func(tok *jwt.Token) (any, error) {
		if typ, ok := tok.Header["typ"].(string); !ok || typ != tokenType {
			return nil, errors.New("not an access token")
		}
		var ok bool
		if kid, ok = tok.Header["kid"].(string); !ok || len(kid) > 64 {
			return nil, errors.New("key id is not known")
		}
		return t.publicKey(ctx, kid)
	})
	if err != nil {
		return id, err
	}
	if c.IssuedAt != nil && c.IssuedAt.After(now.Add(clockSkew)) {
		return id, errors.New("access token is of the future")
	}
	if err := id.user.UnmarshalText([]byte(c.Subject)); err != nil {
		return id, err
	}
	if err := id.session.UnmarshalText([]byte(c.Session)); err != nil {
		return id, err
	}
	t.checked.remember(id, kid, now, c.ExpiresAt.Time)
	return id, nil
}
