package keyapi

import "time"

// Account is a pair (platform, account id), e.g. ("email", "alice@example.org").
// Ids arrive canonical; the server compares octets.
type Account struct {
	Platform string `json:"platform"`
	ID       string `json:"id"`
}

// String is for people; it is not parsed back.
func (a Account) String() string { return a.Platform + ":" + a.ID }

// AccountRequest claims an account for the signed-in user. Proof is needed on
// platforms named in ServerInfo.ProofNeeded.
type AccountRequest struct {
	Account     Account `json:"account"`
	IdentityKey []byte  `json:"identity_key"` // Ed25519, 32 octets
	Proof       *Proof  `json:"proof,omitempty"`
}

// VerifyRequest starts a proof of ownership: the server sends token1 over the
// account's own platform and returns token2.
type VerifyRequest struct {
	Account     Account `json:"account"`
	IdentityKey []byte  `json:"identity_key"`
}

// VerifyChallenge is the half of a challenge that comes back over the API. It
// serves one proof, within 15 minutes and five tries.
type VerifyChallenge struct {
	ID      []byte    `json:"id"`     // 16 octets
	Token2  []byte    `json:"token2"` // 16 octets
	Expires time.Time `json:"expires"`
}

// Proof answers a challenge: Ed25519 by the identity key over ProofSigningInput.
type Proof struct {
	ID        []byte `json:"id"`
	Signature []byte `json:"signature"`
}

// ProofSigningInput binds both tokens, the account, the key and the server.
func ProofSigningInput(origin string, a Account, identityKey, token1, token2 []byte) []byte {
	b := []byte("cloudmls/1 proof")
	for _, f := range [][]byte{[]byte(origin), []byte(a.Platform), []byte(a.ID), identityKey, token1, token2} {
		b = append(b, byte(len(f)>>8), byte(len(f)))
		b = append(b, f...)
	}
	return b
}

// Levels of proof that an account is the user's.
const (
	ProofNone      = 0 // whoever asked first
	ProofChallenge = 1 // a challenge that went to the account was answered
	ProofOutbound  = 2 // and a message signed by the account's platform came from it, e.g. mail with DKIM
	ProofDomain    = 3 // the owner of the mail domain says so
)

// AccountInfo is an account as the key server holds it.
type AccountInfo struct {
	Account     Account `json:"account"`
	IdentityKey []byte  `json:"identity_key"`
	ProofLevel  int     `json:"proof_level"` // ProofNone to ProofDomain
}

// AccountList holds the accounts of the signed-in user.
type AccountList struct {
	Accounts []AccountInfo `json:"accounts"`
}

// KeyPackageUpload adds single-use KeyPackages to the pool and may replace the
// last-resort one. Each entry is an MLSMessage with a KeyPackage (RFC 9420
// section 10).
type KeyPackageUpload struct {
	KeyPackages [][]byte `json:"key_packages,omitempty"`
	LastResort  []byte   `json:"last_resort,omitempty"`
}

// KeyPackageCount tells the owner how many KeyPackages are left to hand out.
//
// Available and LastResort are about suite 1 of RFC 9420. Suites has an entry
// for each cipher suite that the server accepts.
type KeyPackageCount struct {
	Available  int          `json:"available"`
	LastResort bool         `json:"last_resort"`
	Suites     []SuiteCount `json:"suites,omitempty"`
}

// SuiteCount is the pool of one cipher suite.
type SuiteCount struct {
	Suite      uint16 `json:"suite"`
	Available  int    `json:"available"`
	LastResort bool   `json:"last_resort"`
}

// ClaimedKeyPackage is handed out once, unless LastResort.
type ClaimedKeyPackage struct {
	KeyPackage []byte `json:"key_package"`
	LastResort bool   `json:"last_resort"`
}

// Reachability is an explicit answer: 200 with HasAccount false is the only
// statement that an address has no account. Any error says nothing.
type Reachability struct {
	Account     Account `json:"account"`
	HasAccount  bool    `json:"has_account"`
	IdentityKey []byte  `json:"identity_key,omitempty"`
	// Rotations are the account's last ones, oldest first; they end at
	// IdentityKey. At most MaxRotations.
	Rotations []Rotation `json:"rotations,omitempty"`
	// Suites are those of which the account has KeyPackages to claim.
	Suites []uint16 `json:"suites,omitempty"`
}
