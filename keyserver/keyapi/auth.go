package keyapi

import "time"

// KDF names the password derivation of an account, version 1 being Argon2id.
// Clients enforce floors and ceilings of their own and pin what they saw.
type KDF struct {
	Algorithm string `json:"algorithm"` // "argon2id"
	Salt      []byte `json:"salt"`      // 16 octets
	Time      uint32 `json:"time"`      // passes
	MemoryKiB uint32 `json:"memory_kib"`
	Threads   uint8  `json:"threads"`
}

// ServerInfo is what a client learns before it signs in.
type ServerInfo struct {
	Origin       string   `json:"origin"`        // configured name, e.g. "https://keys.example.org"
	Versions     []string `json:"versions"`      // "v1"
	AuthVersion  uint8    `json:"auth_version"`  // 1: split derivation
	CipherSuites []uint16 `json:"cipher_suites"` // accepted in KeyPackages
	ProofNeeded  []string `json:"proof_needed"`  // platforms whose account ids must be proven
	Roles        []string `json:"roles"`         // of "auth", "delivery", "store"
	Registration string   `json:"registration"`  // "open", "invitation" or "closed"
}

// ParamsRequest asks for what a user name needs to derive its AUTH value.
type ParamsRequest struct {
	Username string `json:"username"`
}

// AuthParams answers for unknown users too, with a stable pretended salt.
type AuthParams struct {
	AuthVersion uint8  `json:"auth_version"`
	UserID      []byte `json:"user_id"` // 16 octets; enters the derivation
	KDF         KDF    `json:"kdf"`
	KDFTag      []byte `json:"kdf_tag"` // 32 octets; tells devices that have signed in before that KDF is the user's
}

// RegisterRequest creates a user. UserID is chosen by the client (16 random
// octets) because it enters the key derivation before the server knows the user.
type RegisterRequest struct {
	Username     string `json:"username"`
	AuthVersion  uint8  `json:"auth_version"`
	UserID       []byte `json:"user_id"`
	KDF          KDF    `json:"kdf"`
	KDFTag       []byte `json:"kdf_tag,omitempty"`       // 32 octets; see AuthParams
	Auth         []byte `json:"auth"`                    // 32 octets, derived; never the password
	RecoveryAuth []byte `json:"recovery_auth,omitempty"` // 32 octets, derived from the recovery code; none: no recovery
	Device       Device `json:"device"`
	Invitation   string `json:"invitation,omitempty"` // where the server wants one
}

// LoginRequest opens a session. Any wrong part of it gives the same answer.
type LoginRequest struct {
	Username    string `json:"username"`
	AuthVersion uint8  `json:"auth_version"`
	Auth        []byte `json:"auth"`
	Device      Device `json:"device"`
}

// RecoverRequest opens a session with the recovery code. It serves to read the
// sealed objects and to set a new password, and nothing else until then. Any
// wrong part of it gives the same answer.
type RecoverRequest struct {
	Username     string `json:"username"`
	AuthVersion  uint8  `json:"auth_version"`
	RecoveryAuth []byte `json:"recovery_auth"`
	Device       Device `json:"device"`
}

// PasswordRequest sets a new password, a new recovery code, or both, and ends
// all other sessions of the user, in one atomic step with Tx: the objects that
// are sealed to the password change with it, or nothing does. Tx has at least
// one put, and neither Commit nor acknowledgements.
type PasswordRequest struct {
	// OldAuth proves the password that was valid until now. A session opened by
	// RecoverRequest has none, and must bring a RecoveryAuth instead: a recovery
	// code serves once.
	OldAuth      []byte `json:"old_auth,omitempty"`
	AuthVersion  uint8  `json:"auth_version"`
	KDF          KDF    `json:"kdf"`
	KDFTag       []byte `json:"kdf_tag,omitempty"`
	Auth         []byte `json:"auth"`
	RecoveryAuth []byte `json:"recovery_auth,omitempty"` // none: the recovery code stays
	Tx           Tx     `json:"tx"`
}

// SessionInfo is one device signed in, as the key server sees it.
type SessionInfo struct {
	SessionID []byte    `json:"session_id"` // 16 octets
	Device    Device    `json:"device"`
	Created   time.Time `json:"created"`
	Used      time.Time `json:"used"`    // when it last refreshed its tokens
	Current   bool      `json:"current"` // the one that asks
}

// SessionList holds the sessions of the signed-in user, the latest first.
type SessionList struct {
	Sessions []SessionInfo `json:"sessions"`
}

// Device names one installation. Key is its Ed25519 public key; refresh
// requests are signed with it.
type Device struct {
	Name string `json:"name"`
	Key  []byte `json:"key"` // 32 octets
}

// Session is the answer to register, login and refresh.
type Session struct {
	UserID       []byte    `json:"user_id"`
	SessionID    []byte    `json:"session_id"` // 16 octets
	AccessToken  string    `json:"access_token,omitempty"`
	ExpiresAt    time.Time `json:"expires_at"` // of the access token
	RefreshToken []byte    `json:"refresh_token,omitempty"`
	// RefreshHash, SHA-256 of the refresh token, stands in for the tokens where
	// those are in cookies, which no script can read.
	RefreshHash []byte `json:"refresh_hash,omitempty"`
	// Notices are what happened to sessions of the user within the last 30 days and
	// people should hear of on every device, oldest first. Each answer has all of
	// them. They are the server's word, and no more.
	Notices []SessionNotice `json:"notices,omitempty"`
}

// SessionNotice tells what happened to a session.
type SessionNotice struct {
	Kind      string    `json:"kind"` // of values that are not known yet, people are told that something happened
	At        time.Time `json:"at"`
	SessionID []byte    `json:"session_id"` // 16 octets; names the notice too: there is one of a kind for each
	Device    Device    `json:"device"`     // that the session was of
}

// NoticeTokenReused: a refresh token that had been used was presented again, too
// late or without the device's key. Somebody has copied it or its successor, or the
// device was set back to an older state; the session has ended.
const NoticeTokenReused = "token_reused"

// RefreshRequest rotates the refresh token. Signature is Ed25519 by the device
// key over RefreshSigningInput.
type RefreshRequest struct {
	RefreshToken []byte    `json:"refresh_token,omitempty"` // none: it comes in a cookie
	Time         time.Time `json:"time"`
	Signature    []byte    `json:"signature"`
}

// RefreshSigningInput is the octets a device signs when it refreshes.
func RefreshSigningInput(origin string, r RefreshRequest) []byte {
	b := []byte("cloudmls/1 refresh\x00" + origin + "\x00" + r.Time.UTC().Format(time.RFC3339Nano) + "\x00")
	return append(b, r.RefreshToken...)
}

// CookieRefreshSigningInput is what a device signs that has its refresh token
// in a cookie: hash is Session.RefreshHash.
func CookieRefreshSigningInput(origin string, at time.Time, hash []byte) []byte {
	b := []byte("cloudmls/1 refresh by cookie\x00" + origin + "\x00" + at.UTC().Format(time.RFC3339Nano) + "\x00")
	return append(b, hash...)
}
