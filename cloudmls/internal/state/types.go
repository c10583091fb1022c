package state

import (
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Type says what an object holds. It enters the object's id and the context
// its ciphertext is bound to, so an object of one type never opens as another.
type Type uint8

// The types of objects. Wrap, head, keyring and profile belong to this
// package; callers read and write the others.
const (
	TypeWrap         Type = 1
	TypeHead         Type = 2
	TypeKeyring      Type = 3
	TypeProfile      Type = 4
	TypeIdentity     Type = 5
	TypeKeyPackages  Type = 6
	TypeInbox        Type = 7
	TypeConversation Type = 8
	TypeGroup        Type = 9
	TypeSender       Type = 10
	TypeEpoch        Type = 11
	TypeContacts     Type = 12
	TypeApp          Type = 13
	TypeHistory      Type = 14
)

// Key names an object. Name is any text; Account is set where the object
// belongs to one account of the user, since two accounts of one user may share
// a conversation. Neither is visible to the server, which sees HMAC(K_index,
// type, account, name).
type Key struct {
	Type    Type
	Name    string
	Account keyapi.Account
}

// Types of envelopes that are not objects on the key server
// (values 0x80 and above).
const (
	typePersonal   Type = 0x80 // own uploads, see Store.SealPersonal
	typeVault      Type = 0x81 // this device's record in the LocalStore
	typeLocalFloor Type = 0x82 // floors in the LocalStore
	typeCache      Type = 0x83 // callers' cache entries in the LocalStore
	typeDirections Type = 0x84 // where the state is, at the home store
)
