package keyserver

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// The life of a key of access tokens: it is in the store and published a day
// before it signs, signs for 30 days, is accepted for one more, and is gone
// from the store then. Tokens live for minutes, so nobody notices.
const (
	keySigns     = 30 * 24 * time.Hour
	keyOverlap   = 24 * time.Hour
	keyReload    = time.Minute // keys of other processes are noticed within it
	unknownAgain = time.Second // between two looks for ids that are not known
	maxTokenKeys = 64
)

// tokenKey is one key; its seed lies in the store sealed under a key that the
// pepper derives, for all processes on it.
type tokenKey struct {
	Seed  []byte    `json:"seed"`
	Begin time.Time `json:"begin"` // signs from here for keySigns
	id    string
	key   ed25519.PrivateKey
}

func (k *tokenKey) signsAt(now time.Time) bool {
	return !now.Before(k.Begin) && now.Before(k.Begin.Add(keySigns))
}

// keyRing keeps the keys of a store's processes in memory, and makes new ones
// in time. It is safe for concurrent use.
type keyRing struct {
	store Store
	seal  []byte // 32 octets
	now   func() time.Time

	mu     sync.Mutex
	keys   map[string]*tokenKey
	loaded time.Time
}

// public finds a key; an id that is not in memory is looked for in the store.
func (r *keyRing) public(ctx context.Context, id string) (ed25519.PublicKey, error) {
	k, age := r.find(id)
	if k == nil && age >= unknownAgain || age >= keyReload {
		if err := r.load(ctx); err != nil {
			return nil, err
		}
		k, _ = r.find(id)
	}
	if k == nil {
		return nil, nil
	}
	return k.key.Public().(ed25519.PublicKey), nil
}

func (r *keyRing) find(id string) (*tokenKey, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	k := r.keys[id]
	if k != nil && now.After(k.Begin.Add(keySigns+keyOverlap)) {
		k = nil
	}
	age := now.Sub(r.loaded)
	if r.loaded.IsZero() || age < 0 {
		age = keyReload
	}
	return k, age
}

func (r *keyRing) load(ctx context.Context) error {
	return r.store.View(ctx, func(v Reader) error {
		keys, err := r.read(v)
		if err == nil {
			r.remember(keys)
		}
		return err
	})
}

func (r *keyRing) remember(keys map[string]*tokenKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys, r.loaded = keys, r.now()
}

func (r *keyRing) read(v Reader) (map[string]*tokenKey, error) {
	notes, err := v.NotesOf(NoteTokenKey, nil, r.now(), maxTokenKeys)
	if err != nil {
		return nil, err
	}
	a, err := r.cipher()
	if err != nil {
		return nil, err
	}
	keys := map[string]*tokenKey{}
	for _, n := range notes {
		b, err := a.Open(nil, nil, n.Value, n.Key)
		if err != nil {
			return nil, fmt.Errorf("open token key: %w", err)
		}
		k := &tokenKey{id: string(n.Key)}
		if err := json.Unmarshal(b, k); err != nil || len(k.Seed) != ed25519.SeedSize {
			return nil, fmt.Errorf("store is damaged: token key %s", n.Key)
		}
		k.key = ed25519.NewKeyFromSeed(k.Seed)
		keys[k.id] = k
	}
	return keys, nil
}

func (r *keyRing) cipher() (cipher.AEAD, error) {
	b, err := aes.NewCipher(r.seal)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(b)
}

// signing gives the key that signs now, and makes the next one when its time
// comes.
func (r *keyRing) signing(ctx context.Context) (*tokenKey, error) {
	if _, age := r.find(""); age >= keyReload {
		if err := r.load(ctx); err != nil {
			return nil, err
		}
	}
	k, next := r.choose()
	if k != nil && next {
		return k, nil
	}
	err := r.store.Update(ctx, func(w Writer) error {
		keys, err := r.read(w) // another process may have been faster
		if err != nil {
			return err
		}
		now := r.now()
		k, last := newest(keys, now)
		switch {
		case k == nil:
			err = r.add(w, keys, now)
		case last.Begin.Add(keySigns).Sub(now) <= keyOverlap:
			err = r.add(w, keys, last.Begin.Add(keySigns))
		}
		if err == nil {
			r.remember(keys)
		}
		return err
	})
	if err != nil {
		// What was remembered may not be in the store: look again.
		r.mu.Lock()
		r.loaded = time.Time{}
		r.mu.Unlock()
		return nil, fmt.Errorf("make token key: %w", err)
	}
	if k, _ = r.choose(); k == nil {
		return nil, fmt.Errorf("no token key signs now")
	}
	return k, nil
}

// choose gives the key that signs now; next tells that none has to be made.
func (r *keyRing) choose() (k *tokenKey, next bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	k, last := newest(r.keys, now)
	return k, k != nil && last.Begin.Add(keySigns).Sub(now) > keyOverlap
}

// newest gives the key that signs now and the one that signs last of all.
func newest(keys map[string]*tokenKey, now time.Time) (signs, last *tokenKey) {
	for _, k := range keys {
		if k.signsAt(now) && (signs == nil || k.Begin.After(signs.Begin)) {
			signs = k
		}
		if last == nil || k.Begin.After(last.Begin) {
			last = k
		}
	}
	return signs, last
}

func (r *keyRing) add(w Writer, keys map[string]*tokenKey, begin time.Time) error {
	if len(keys) >= maxTokenKeys {
		return fmt.Errorf("there are %d token keys", len(keys))
	}
	k := &tokenKey{Seed: make([]byte, ed25519.SeedSize), Begin: begin}
	rand.Read(k.Seed)
	k.key = ed25519.NewKeyFromSeed(k.Seed)
	k.id = keyID(k.key.Public().(ed25519.PublicKey))
	b, err := json.Marshal(k)
	if err != nil {
		return err
	}
	a, err := r.cipher()
	if err != nil {
		return err
	}
	keys[k.id] = k
	if err := w.Expire(r.now(), expireAtOnce); err != nil {
		return err
	}
	return w.PutNote(&Note{
		Kind: NoteTokenKey, Key: []byte(k.id), Value: a.Seal(nil, nil, b, []byte(k.id)), Expires: begin.Add(keySigns + keyOverlap),
	})
}

// fixedKeys are those that the operator names in Options.
type fixedKeys struct {
	signer *tokenKey
	known  map[string]ed25519.PublicKey
}

func newFixedKeys(o *Options) *fixedKeys {
	public := o.TokenKey.Public().(ed25519.PublicKey)
	f := &fixedKeys{signer: &tokenKey{id: keyID(public), key: o.TokenKey}, known: map[string]ed25519.PublicKey{keyID(public): public}}
	for _, k := range o.RetiredTokenKeys {
		f.known[keyID(k)] = k
	}
	return f
}

func (f *fixedKeys) public(_ context.Context, id string) (ed25519.PublicKey, error) {
	return f.known[id], nil
}

// signer gives what issues tokens now. It is asked for outside transactions,
// for it may need one.
func (s *Server) signer(ctx context.Context) (*signer, error) {
	var k *tokenKey
	var err error
	switch keys := s.tokens.keys.(type) {
	case *fixedKeys:
		k = keys.signer
	case *keyRing:
		k, err = keys.signing(ctx)
	default:
		err = fmt.Errorf("this server issues no tokens")
	}
	if err != nil {
		return nil, err
	}
	return &signer{t: s.tokens, id: k.id, key: k.key}, nil
}

// tokenKeys publishes the keys that tokens are or will be signed with.
func (s *Server) tokenKeys(ctx context.Context, _ *struct{}) (*output[keyapi.TokenKeys], error) {
	list := keyapi.TokenKeys{Issuer: s.Origin, Keys: []keyapi.TokenKey{}}
	add := func(id string, k ed25519.PublicKey) {
		list.Keys = append(list.Keys, keyapi.NewTokenKey(id, k))
	}
	switch keys := s.tokens.keys.(type) {
	case *fixedKeys:
		for id, k := range keys.known {
			add(id, k)
		}
	case *keyRing:
		if _, err := keys.signing(ctx); err != nil {
			return nil, err
		}
		keys.mu.Lock()
		for id, k := range keys.keys {
			if s.Now().Before(k.Begin.Add(keySigns + keyOverlap)) {
				add(id, k.key.Public().(ed25519.PublicKey))
			}
		}
		keys.mu.Unlock()
	}
	slices.SortFunc(list.Keys, func(a, b keyapi.TokenKey) int {
		if a.KeyID < b.KeyID {
			return -1
		}
		return 1
	})
	return &output[keyapi.TokenKeys]{list}, nil
}
