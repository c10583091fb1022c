package state

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cloudmls/gateway/cloudmls/internal/envelope"
	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Buckets of the LocalStore.
const (
	bucketVault   = "vault"   // this device's secrets
	bucketPins    = "pins"    // sign-in parameters per user; outlive a sign-out
	bucketFloor   = "floor"   // what has been seen of each object; outlives a sign-out
	bucketIndex   = "index"   // versions of the last verified view, as the server has them
	bucketObjects = "objects" // envelopes as the server has them
	bucketSpaces  = "spaces"  // namespaces of the cache
	keyDevice     = "device"
	keyHead       = "head"
)

// vault is what this device must keep secret.
type vault struct {
	Version     int      `json:"version"`
	Origin      string   `json:"origin"`
	Username    string   `json:"username"`
	UserID      []byte   `json:"user_id"`
	DeviceID    []byte   `json:"device_id"`
	DeviceSeed  []byte   `json:"device_seed"` // of the device's wrap key
	SignSeed    []byte   `json:"sign_seed"`   // Ed25519, signs refresh requests
	LocalKey    []byte   `json:"local_key"`   // seals the cache; gone with the vault
	Slot        uint16   `json:"slot"`
	Root        []byte   `json:"root"`
	RootVersion uint32   `json:"root_version"`
	Refresh     []byte   `json:"refresh,omitempty"` // token
	Pending     *pending `json:"pending,omitempty"`
	// Directions are the last that were seen; nil: none.
	Directions *directions `json:"directions,omitempty"`
}

// pending is a registration whose end this device has not seen.
type pending struct {
	KDF      keyapi.KDF `json:"kdf"`
	Recovery string     `json:"recovery"`
	Ring     *keyring   `json:"ring"`
	Profile  *profile   `json:"profile"`
}

// pins are what the server may not change behind the user's back.
type pins struct {
	UserID      []byte     `json:"user_id"`
	AuthVersion uint8      `json:"auth_version"`
	KDF         keyapi.KDF `json:"kdf"`
	// Key verifies the tag of other parameters (keys.KDFTag). It outlives a
	// sign-out, since the user may change the password meanwhile.
	Key []byte `json:"key,omitempty"`
}

const vaultVersion = 1

var errLocal = errors.New("local record does not open: the vault key or the origin is another one than before, or the store is damaged")

// locals seals and opens records of the LocalStore.
type locals struct {
	store  LocalStore
	key    []byte // of vault, pins, floors
	names  []byte // of the names of pins
	origin string
}

func newLocals(c *Config) (*locals, error) {
	k, err := keys.Derive(c.VaultKey, keys.PurposeVault)
	if err != nil {
		return nil, fmt.Errorf("vault key: %w", err)
	}
	n, err := keys.Derive(c.VaultKey, keys.PurposeLocal)
	if err != nil {
		return nil, fmt.Errorf("vault key: %w", err)
	}
	return &locals{store: c.Local, key: k, names: n, origin: c.Origin}, nil
}

// mac hides a name that would be readable as a key of the LocalStore.
func mac(key []byte, parts ...string) string {
	m := hmac.New(sha256.New, key)
	for _, p := range parts {
		m.Write(binary.BigEndian.AppendUint32(nil, uint32(len(p))))
		m.Write([]byte(p))
	}
	return hex.EncodeToString(m.Sum(nil))
}

func localContext(origin string, t Type, bucket, key string) envelope.Context {
	return envelope.Context{Origin: origin, Type: uint8(t), Object: sha256.Sum256([]byte(bucket + "\x00" + key))}
}

func (l *locals) seal(t Type, bucket, key string, v []byte) ([]byte, error) {
	return envelope.Seal(l.key, localContext(l.origin, t, bucket, key), envelope.Header{}, v)
}

// get opens a record; nil, nil where there is none.
func (l *locals) get(t Type, bucket, key string) ([]byte, error) {
	b, err := l.store.Get(bucket, key)
	if err != nil {
		return nil, fmt.Errorf("read local store: %w", err)
	}
	if b == nil {
		return nil, nil
	}
	_, v, err := envelope.Open(l.key, localContext(l.origin, t, bucket, key), envelope.Expect{}, b)
	if err != nil {
		return nil, errLocal
	}
	return v, nil
}

func (l *locals) loadVault() (*vault, error) {
	b, err := l.get(typeVault, bucketVault, keyDevice)
	if err != nil || b == nil {
		return nil, err
	}
	var v vault
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, errLocal
	}
	if v.Version != vaultVersion {
		return nil, fmt.Errorf("vault of version %d, this program knows %d", v.Version, vaultVersion)
	}
	if v.Origin != l.origin {
		return nil, errLocal
	}
	return &v, nil
}

func (l *locals) putVault(w Writer, v *vault) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	defer clear(b)
	sealed, err := l.seal(typeVault, bucketVault, keyDevice, b)
	if err != nil {
		return err
	}
	return w.Put(bucketVault, keyDevice, sealed)
}

func (l *locals) saveVault(v *vault) error {
	if err := l.store.Update(func(w Writer) error { return l.putVault(w, v) }); err != nil {
		return fmt.Errorf("write vault: %w", err)
	}
	return nil
}

func (l *locals) pinsKey(username string) string { return mac(l.names, "pins", l.origin, username) }

func (l *locals) loadPins(username string) (*pins, error) {
	b, err := l.get(typeVault, bucketPins, l.pinsKey(username))
	if err != nil || b == nil {
		return nil, err
	}
	var p pins
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, errLocal
	}
	return &p, nil
}

func (l *locals) putPins(w Writer, username string, p pins) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	k := l.pinsKey(username)
	sealed, err := l.seal(typeVault, bucketPins, k, b)
	if err != nil {
		return err
	}
	return w.Put(bucketPins, k, sealed)
}

// floor is the newest version of an object that this device has seen.
type floor struct {
	counter uint64
	hash    [32]byte
}

func floorKey(user []byte, object string) string { return hex.EncodeToString(user) + "/" + object }

func (l *locals) loadFloor(user []byte, object string) (floor, error) {
	b, err := l.get(typeLocalFloor, bucketFloor, floorKey(user, object))
	if err != nil || b == nil {
		return floor{}, err
	}
	if len(b) != 40 {
		return floor{}, errLocal
	}
	return floor{binary.BigEndian.Uint64(b), [32]byte(b[8:])}, nil
}

func (l *locals) putFloor(w Writer, user []byte, object string, f floor) error {
	k := floorKey(user, object)
	b := append(binary.BigEndian.AppendUint64(nil, f.counter), f.hash[:]...)
	sealed, err := l.seal(typeLocalFloor, bucketFloor, k, b)
	if err != nil {
		return err
	}
	return w.Put(bucketFloor, k, sealed)
}
