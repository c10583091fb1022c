package keyserver

import (
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
)

// tokens issues and checks access tokens. It has no state besides its keys.
type tokens struct {
	origin   string
	lifetime time.Duration
	key      ed25519.PrivateKey
	keyID    string
	known    map[string]ed25519.PublicKey // by key id; retired keys included
	parser   *jwt.Parser
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
}

func newTokens(o *Options) *tokens {
	t := &tokens{origin: o.Origin, lifetime: o.TokenLifetime, key: o.TokenKey, known: map[string]ed25519.PublicKey{}}
	public := o.TokenKey.Public().(ed25519.PublicKey)
	t.keyID = keyID(public)
	t.known[t.keyID] = public
	for _, k := range o.RetiredTokenKeys {
		t.known[keyID(k)] = k
	}
	t.parser = jwt.NewParser(
		jwt.WithValidMethods([]string{"EdDSA"}), jwt.WithIssuer(o.Origin), jwt.WithAudience(o.Origin+tokenAudience),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithStrictDecoding(), jwt.WithTimeFunc(o.Now),
	)
	return t
}

func keyID(k ed25519.PublicKey) string {
	h := sha256.Sum256(k)
	return base64.RawURLEncoding.EncodeToString(h[:12])
}

func (t *tokens) issue(id identity, now time.Time) (string, time.Time, error) {
	expires := now.Add(t.lifetime).Truncate(time.Second)
	jti := make([]byte, 16)
	rand.Read(jti)
	tok := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: t.origin, Audience: jwt.ClaimStrings{t.origin + tokenAudience}, Subject: id.user.String(),
			IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(expires), ID: hex.EncodeToString(jti),
		},
		Session: id.session.String(),
	})
	tok.Header["typ"], tok.Header["kid"] = tokenType, t.keyID
	s, err := tok.SignedString(t.key)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("sign access token: %w", err)
	}
	return s, expires, nil
}

// check verifies a token by itself; whether its session still exists is for
// the store to say.
func (t *tokens) check(token string) (identity, error) {
	var id identity
	if len(token) > maxTokenSize {
		return id, errors.New("access token is too long")
	}
	var c claims
	_, err := t.parser.ParseWithClaims(token, &c, func(tok *jwt.Token) (any, error) {
		if typ, ok := tok.Header["typ"].(string); !ok || typ != tokenType {
			return nil, errors.New("not an access token")
		}
		kid, ok := tok.Header["kid"].(string)
		if !ok || t.known[kid] == nil {
			return nil, errors.New("key id is not known")
		}
		return t.known[kid], nil
	})
	if err != nil {
		return id, err
	}
	if err := id.user.UnmarshalText([]byte(c.Subject)); err != nil {
		return id, err
	}
	return id, id.session.UnmarshalText([]byte(c.Session))
}
