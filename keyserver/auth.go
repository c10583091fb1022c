package keyserver

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"reflect"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// AuthVersion 1 is the split derivation: the client derives AUTH from the
// password and keeps everything else to itself.
const AuthVersion = 1

// Bounds of what a client may register. Its own floors are stricter; these keep
// nonsense out.
const (
	maxNameSize   = 128
	maxDeviceName = 128
	maxKDFTime    = 16
	maxKDFMemory  = 1 << 20 // KiB
	kdfAlgorithm  = "argon2id"
	saltSize      = 16
	authSize      = 32
)

// defaultKDF is what unknown users pretend to have, apart from the salt.
var defaultKDF = keyapi.KDF{Algorithm: kdfAlgorithm, Time: 3, MemoryKiB: 64 << 10, Threads: 4}

var typeOfProblem = reflect.TypeFor[keyapi.Problem]()

type output[T any] struct{ Body T }

type input[T any] struct{ Body T }

func (s *Server) serverInfo(context.Context, *struct{}) (*output[keyapi.ServerInfo], error) {
	info := keyapi.ServerInfo{
		Origin: s.Origin, Versions: []string{"v1"}, AuthVersion: AuthVersion, ProofNeeded: []string{}, Registration: string(s.Registration),
	}
	for _, r := range s.Roles {
		info.Roles = append(info.Roles, string(r))
	}
	for _, cs := range s.CipherSuites {
		info.CipherSuites = append(info.CipherSuites, uint16(cs))
	}
	info.ProofNeeded = append(info.ProofNeeded, s.RequireProof...)
	return &output[keyapi.ServerInfo]{info}, nil
}

// canonicalName folds ASCII case. Other scripts are refused, so that two names
// never look the same.
func canonicalName(name string) (string, error) {
	if len(name) == 0 || len(name) > maxNameSize {
		return "", invalid("user name must have 1 to 128 characters")
	}
	b := []byte(name)
	for i, c := range b {
		switch {
		case c <= ' ' || c >= 0x7f:
			return "", invalid("user name must be of printable ASCII without spaces")
		case c >= 'A' && c <= 'Z':
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b), nil
}

// mayOpen is asked before a session is opened.
func (s *Server) mayOpen(ctx context.Context, mode string) error {
	if err := s.checkMode(mode); err != nil {
		return err
	}
	return s.signInAllowed(ctx)
}

func (s *Server) signInAllowed(ctx context.Context) error {
	if wait, ok := s.limits.signIn.take(network(ctx), s.Now()); !ok {
		return rateLimited(wait)
	}
	return nil
}

// params answers for unknown users as for known ones: with values that are
// always the same for the same name.
func (s *Server) params(ctx context.Context, in *input[keyapi.ParamsRequest]) (*output[keyapi.AuthParams], error) {
	if err := s.signInAllowed(ctx); err != nil {
		return nil, err
	}
	name, err := canonicalName(in.Body.Username)
	if err != nil {
		return nil, err
	}
	answer := s.pretend(name)
	err = s.Store.View(ctx, func(r Reader) error {
		u, err := r.UserByName(name)
		if err == nil && u != nil {
			answer.AuthVersion, answer.UserID, answer.KDF = u.AuthVersion, u.ID[:], u.KDF
			if len(u.KDFTag) > 0 {
				answer.KDFTag = u.KDFTag
			}
		}
		return err
	})
	return &output[keyapi.AuthParams]{answer}, err
}

func (s *Server) pretend(name string) keyapi.AuthParams {
	derive := func(what string) []byte {
		m := hmac.New(sha256.New, s.fakeKey)
		m.Write([]byte(what + "\x00" + name))
		return m.Sum(nil)
	}
	kdf := defaultKDF
	kdf.Salt = derive("salt")[:saltSize]
	return keyapi.AuthParams{AuthVersion: AuthVersion, UserID: derive("user id")[:len(UserID{})], KDF: kdf, KDFTag: derive("tag")}
}

// verifier is what is stored of an AUTH value. AUTH comes out of Argon2id, so
// one HMAC is enough here; the pepper is not in the store.
func (s *Server) verifier(u UserID, auth []byte) []byte {
	m := hmac.New(sha256.New, s.authKey)
	m.Write(u[:])
	m.Write(auth)
	return m.Sum(nil)
}

// recoveryVerifier is what is stored of what a recovery code derives.
func (s *Server) recoveryVerifier(u UserID, auth []byte) []byte {
	m := hmac.New(sha256.New, s.authKey)
	m.Write([]byte("recovery"))
	m.Write(u[:])
	m.Write(auth)
	return m.Sum(nil)
}

func checkRegistration(r *keyapi.RegisterRequest) error {
	if len(r.UserID) != len(UserID{}) {
		return invalid("user_id must have 16 octets")
	}
	if UserID(r.UserID) == (UserID{}) {
		return invalid("user_id must be random octets") // the zero id is nobody's
	}
	if err := checkSecrets(r.AuthVersion, r.KDF, r.KDFTag, r.Auth, r.RecoveryAuth); err != nil {
		return err
	}
	return checkDevice(&r.Device)
}

// checkSecrets checks the form of what a user signs in with from now on.
func checkSecrets(version uint8, k keyapi.KDF, tag, auth, recovery []byte) error {
	switch {
	case version != AuthVersion:
		return invalid("auth_version is not known")
	case len(auth) != authSize:
		return invalid("auth must have 32 octets")
	case len(tag) != 0 && len(tag) != sha256.Size:
		return invalid("kdf_tag must have 32 octets")
	case len(recovery) != 0 && len(recovery) != authSize:
		return invalid("recovery_auth must have 32 octets")
	case k.Algorithm != kdfAlgorithm || len(k.Salt) != saltSize:
		return invalid("kdf must be argon2id with a salt of 16 octets")
	case k.Time < 1 || k.Time > maxKDFTime || k.MemoryKiB < 8 || k.MemoryKiB > maxKDFMemory || k.Threads < 1:
		return invalid("kdf is out of bounds")
	}
	return nil
}

func checkDevice(d *keyapi.Device) error {
	if len(d.Key) != ed25519.PublicKeySize {
		return invalid("device key must have 32 octets")
	}
	if len(d.Name) > maxDeviceName {
		return invalid("device name is too long")
	}
	return nil
}

func (s *Server) register(ctx context.Context, in *registerInput) (*sessionOutput, error) {
	if err := s.mayOpen(ctx, in.Tokens); err != nil {
		return nil, err
	}
	if wait, ok := s.limits.registrations.take(network(ctx), s.Now()); !ok {
		return nil, rateLimited(wait)
	}
	r := &in.Body
	name, err := canonicalName(r.Username)
	if err != nil {
		return nil, err
	}
	if err := checkRegistration(r); err != nil {
		return nil, err
	}
	id := UserID(r.UserID)
	u := &User{ID: id, Name: name, Created: s.Now()}
	s.setSecrets(u, r.AuthVersion, r.KDF, r.KDFTag, r.Auth)
	if len(r.RecoveryAuth) > 0 {
		u.Recovery = s.recoveryVerifier(id, r.RecoveryAuth)
	}
	g, once, err := s.signingIn(ctx, in.Key, "register", name, in.RawBody)
	if err != nil {
		return nil, err
	}
	var answer keyapi.Session
	err = s.Store.Update(ctx, func(w Writer) error {
		if found, err := once.replay(w, &answer); err != nil || found {
			return err
		}
		if err := s.mayRegister(w, r.Invitation); err != nil { // first: strangers learn nothing about names
			return err
		}
		if have, err := w.UserByName(name); err != nil || have != nil {
			return orErr(err, conflict(keyapi.CodeTaken, "user name is taken"))
		}
		if taken, err := idTaken(w, id, s.Now()); err != nil || taken {
			return orErr(err, conflict(keyapi.CodeTaken, "user id is taken"))
		}
		if err := orErr(w.PutUser(u), s.keepMark(w)); err != nil {
			return err
		}
		session, token := newSession(id, r.Device, s.Now())
		if err := w.PutSession(session); err != nil {
			return err
		}
		if answer, err = s.sessionAnswer(g, session, token); err != nil {
			return err
		}
		return once.keep(w, answer)
	})
	if err != nil {
		return nil, err
	}
	return s.signedIn(in.Tokens, answer)
}

// signingIn gives what the transaction that opens a session must not ask for.
func (s *Server) signingIn(ctx context.Context, key, route, name string, body []byte) (*signer, *once, error) {
	o, err := s.once(ctx, key, route, []byte(name), body)
	if err != nil {
		return nil, nil, err
	}
	g, err := s.signer(ctx)
	return g, o, err
}

func (s *Server) setSecrets(u *User, version uint8, k keyapi.KDF, tag, auth []byte) {
	u.AuthVersion, u.KDF, u.KDFTag, u.Verifier = version, k, tag, s.verifier(u.ID, auth)
}

// orErr prefers an error of the store to what was about to be said.
func orErr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// claimed is what signing in by password and by recovery code have in common:
// it counts the attempt for the network, checks the form, and finds the user as
// findUser does; name is the canonical one. The secret is not compared yet.
func (s *Server) claimed(ctx context.Context, mode, username string, d *keyapi.Device, auth []byte, version uint8) (name string, u *User, knownDevice bool, err error) {
	if err := s.mayOpen(ctx, mode); err != nil {
		return "", nil, false, err
	}
	if name, err = canonicalName(username); err != nil {
		return "", nil, false, err
	}
	if len(auth) != authSize || version != AuthVersion {
		return "", nil, false, invalid("the secret must have 32 octets and auth_version must be known")
	}
	if err := checkDevice(d); err != nil {
		return "", nil, false, err
	}
	u, knownDevice, err = s.findUser(ctx, name, d.Key)
	return name, u, knownDevice, err
}

func (s *Server) login(ctx context.Context, in *loginInput) (*sessionOutput, error) {
	r := &in.Body
	name, user, known, err := s.claimed(ctx, in.Tokens, r.Username, &r.Device, r.Auth, r.AuthVersion)
	if err != nil {
		return nil, err
	}
	guesser := "name " + name
	if known {
		guesser += " device " + string(r.Device.Key)
	}
	if wait, ok := s.guesses.begin(guesser, s.Now()); !ok {
		return nil, rateLimited(wait)
	}
	if !hmac.Equal(s.verifier(user.ID, r.Auth), user.Verifier) {
		return nil, unauthorized("wrong user name or password")
	}
	s.guesses.succeed(guesser)
	g, once, err := s.signingIn(ctx, in.Key, "login", name, in.RawBody)
	if err != nil {
		return nil, err
	}
	answer, err := s.openSession(ctx, g, once, user, r.Device, false)
	if err != nil {
		return nil, err
	}
	return s.signedIn(in.Tokens, answer)
}

// openSession signs a device in, unless the secret that it has just proven was
// replaced meanwhile.
func (s *Server) openSession(ctx context.Context, g *signer, o *once, proven *User, d keyapi.Device, recovering bool) (answer keyapi.Session, err error) {
	err = s.Store.Update(ctx, func(w Writer) error {
		now, err := w.User(proven.ID)
		if err != nil {
			return err
		}
		if now == nil || !hmac.Equal(now.Verifier, proven.Verifier) || !hmac.Equal(now.Recovery, proven.Recovery) {
			return unauthorized("password or recovery code was changed at this moment")
		}
		if found, err := o.replay(w, &answer); err != nil || found {
			return err
		}
		if err := s.makeRoom(w, proven.ID, d.Key); err != nil {
			return err
		}
		session, token := newSession(proven.ID, d, s.Now())
		session.Recovering = recovering
		if err := w.PutSession(session); err != nil {
			return err
		}
		if answer, err = s.sessionAnswer(g, session, token); err != nil {
			return err
		}
		if answer.Notices, err = noticesOf(w, proven.ID, s.Now()); err != nil {
			return err
		}
		return o.keep(w, answer)
	})
	return answer, err
}

// findUser gives a user whom no AUTH value fits when there is none, so that
// both cases do the same work. knownDevice: the user is signed in there.
func (s *Server) findUser(ctx context.Context, name string, device []byte) (u *User, knownDevice bool, err error) {
	u = &User{ID: UserID(s.pretend(name).UserID), Verifier: make([]byte, sha256.Size), Recovery: make([]byte, sha256.Size)}
	rand.Read(u.Verifier)
	rand.Read(u.Recovery)
	err = s.Store.View(ctx, func(r Reader) error {
		have, err := r.UserByName(name)
		if err != nil {
			return err
		}
		if have != nil {
			u = have
		}
		sessions, err := r.Sessions(u.ID) // of nobody, where there is no such user: the same work
		for i := range sessions {
			knownDevice = knownDevice || hmac.Equal(sessions[i].Device.Key, device)
		}
		return err
	})
	return u, knownDevice, err
}

// makeRoom ends the sessions that the same device had before, and the one
// unused for longest when there are too many.
func (s *Server) makeRoom(w Writer, u UserID, device []byte) error {
	sessions, err := w.Sessions(u)
	if err != nil {
		return err
	}
	var others []Session
	for _, old := range sessions {
		if !hmac.Equal(old.Device.Key, device) {
			others = append(others, old)
		} else if err := w.DeleteSession(old.ID); err != nil {
			return err
		}
	}
	for len(others) >= s.Limits.Sessions {
		oldest := 0
		for i := range others {
			if others[i].Used.Before(others[oldest].Used) {
				oldest = i
			}
		}
		if err := w.DeleteSession(others[oldest].ID); err != nil {
			return err
		}
		others = append(others[:oldest], others[oldest+1:]...)
	}
	return nil
}
