package cloudmls

import (
	"context"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Server is what the SDK needs of a key server; *keyclient.Client is one. A failed call returns *keyapi.Problem where, and only
// where, the key server itself answered with one. Implementations are safe for
// concurrent use and bound their answers.
type Server interface {
	state.Server
	Verify(ctx context.Context, token string, r keyapi.VerifyRequest) (keyapi.VerifyChallenge, error)
	RotateIdentity(ctx context.Context, token string, r keyapi.RotationRequest) (keyapi.AccountInfo, error)
	AddAccount(ctx context.Context, token string, r keyapi.AccountRequest) (keyapi.AccountInfo, error)
	UploadKeyPackages(ctx context.Context, token string, of keyapi.Account, r keyapi.KeyPackageUpload) (keyapi.KeyPackageCount, error)
	KeyPackageCount(ctx context.Context, token string, of keyapi.Account) (keyapi.KeyPackageCount, error)
	ClaimKeyPackageOf(ctx context.Context, token string, of keyapi.Account, suite uint16) (keyapi.ClaimedKeyPackage, error)
	Reachable(ctx context.Context, token string, of keyapi.Account) (keyapi.Reachability, error)
	Sessions(ctx context.Context, token string) (keyapi.SessionList, error)
	EndSession(ctx context.Context, token string, id []byte) error
	Deliveries(ctx context.Context, token string, q DeliveryQuery) (keyapi.Deliveries, error)
}

// DeliveryQuery asks for the handshake messages of an own account.
type DeliveryQuery = keyapi.DeliveryQuery

// LocalStore keeps this device's records; package cloudmls/boltstore has one.
// It sees sealed values and opaque keys only. Implementations are safe for
// concurrent use and make each Update durable and atomic. One store belongs to one
// device of one user, and to one process at a time.
//
//	type LocalStore interface {
//		// Get gives the value under key, or nil, nil where there is none; an empty
//		// value is one. The caller owns the result.
//		Get(bucket, key string) ([]byte, error)
//		// Update runs fn once and then makes all its changes durable (fsync) in one
//		// atomic step. When fn or the step fails, nothing has changed, and the error
//		// is given. fn does not call the store.
//		Update(fn func(w Writer) error) error
//		// ForEach calls fn for each key of bucket, in any order, until fn fails, and
//		// gives its error. v is valid during the call only. fn does not call the store.
//		ForEach(bucket string, fn func(key string, v []byte) error) error
//		// Close is for whoever made the store; a Client does not call it.
//		Close() error
//	}
//
// Names of buckets and keys are any octets. See Scrubber for what is deleted.
type LocalStore = state.LocalStore

// Writer collects the changes of one LocalStore.Update.
//
//	type Writer interface {
//		Put(bucket, key string, v []byte) error // does not keep v after the call
//		Delete(bucket, key string) error        // of an absent key is no error
//	}
type Writer = state.Writer

// NewMemoryStore gives a LocalStore that lives in memory, for tests and for
// programs that keep nothing. What is lost with it: the sign-in (the program needs
// the password again, and counts as a new device), the rest of reserved
// generations, what was seen of messages and of the state, by which replays, late
// messages and a roll-back are noticed, and all caches. No message is.
//
// A device that nobody signed out stays one of the user's, and a user has 1,000
// at most: such a program signs out (Client.SignOut) before it ends.
func NewMemoryStore() LocalStore { return state.NewMemory() }
