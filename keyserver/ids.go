package keyserver

import (
	"encoding/hex"
	"fmt"
)

// Identifiers of 16 octets, random but for the conversation ids of dialogs.
// Their text form is lower-case hexadecimal.
type (
	UserID         [16]byte
	SessionID      [16]byte
	ChallengeID    [16]byte
	ConversationID [16]byte
)

// Hash is a SHA-256 value.
type Hash [32]byte

func unhex(dst, text []byte) error {
	if len(text) != 2*len(dst) {
		return fmt.Errorf("identifier of %d hexadecimal digits, want %d", len(text), 2*len(dst))
	}
	_, err := hex.Decode(dst, text)
	return err
}

func (v UserID) String() string         { return hex.EncodeToString(v[:]) }
func (v SessionID) String() string      { return hex.EncodeToString(v[:]) }
func (v ChallengeID) String() string    { return hex.EncodeToString(v[:]) }
func (v ConversationID) String() string { return hex.EncodeToString(v[:]) }

// MarshalText gives lower-case hexadecimal.
func (v UserID) MarshalText() ([]byte, error)         { return []byte(v.String()), nil }
func (v SessionID) MarshalText() ([]byte, error)      { return []byte(v.String()), nil }
func (v ChallengeID) MarshalText() ([]byte, error)    { return []byte(v.String()), nil }
func (v ConversationID) MarshalText() ([]byte, error) { return []byte(v.String()), nil }
func (v Hash) MarshalText() ([]byte, error)           { return []byte(hex.EncodeToString(v[:])), nil }

// UnmarshalText reads what MarshalText wrote.
func (v *UserID) UnmarshalText(b []byte) error         { return unhex(v[:], b) }
func (v *SessionID) UnmarshalText(b []byte) error      { return unhex(v[:], b) }
func (v *ChallengeID) UnmarshalText(b []byte) error    { return unhex(v[:], b) }
func (v *ConversationID) UnmarshalText(b []byte) error { return unhex(v[:], b) }
func (v *Hash) UnmarshalText(b []byte) error           { return unhex(v[:], b) }
