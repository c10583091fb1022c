package control

import (
	"context"
	"time"
)

// Limits of both sides.
const (
	maxRequest = 1 << 20  // octets
	maxAnswer  = 64 << 20 // octets; a list of tens of thousands of contacts
	// callTimeout bounds one call, which may have to wait for the key server.
	callTimeout = 3 * time.Minute
)

// Requests. A request without fields is nothing{}.
type (
	nothing        struct{}
	accountRequest struct {
		Account string `json:"account"`
	}
	conversationRequest struct {
		Account string `json:"account"`
		ID      string `json:"id"`
	}
	membersRequest struct {
		Account string   `json:"account"`
		ID      string   `json:"id"`
		Members []string `json:"members"`
	}
	contactRequest struct {
		Account string `json:"account"`
		Address string `json:"address"`
	}
	verifyRequest struct {
		Account string `json:"account"`
		Address string `json:"address"`
		Code    string `json:"code,omitzero"`
		Key     []byte `json:"key,omitzero"`
	}
	acceptRequest struct {
		Account string `json:"account"`
		Address string `json:"address"`
		Key     []byte `json:"key"`
	}
	deviceRequest struct {
		ID string `json:"id"`
	}
	// passwordRequest has plain strings, which Secret would redact.
	passwordRequest struct {
		Old string `json:"old"`
		New string `json:"new"`
	}
)

// list is the answer of operations that give several.
type list[T any] struct {
	Items []T `json:"items"`
}

func listOf[T any](items []T, err error) (*list[T], error) { return &list[T]{Items: items}, err }

func done(err error) (*nothing, error) { return &nothing{}, err }

// Names of the operations.
const (
	opStatus            = "status"
	opReload            = "reload"
	opSync              = "sync"
	opConversations     = "conversations"
	opConversation      = "conversation"
	opRemoveMembers     = "conversation/remove-members"
	opLeave             = "conversation/leave"
	opRenew             = "conversation/renew"
	opContacts          = "contacts"
	opContact           = "contact"
	opContactCode       = "contact/code"
	opVerifyContact     = "contact/verify"
	opUnverifyContact   = "contact/unverify"
	opAcceptContact     = "contact/accept"
	opDevices           = "devices"
	opRevokeDevice      = "devices/revoke"
	opStore             = "store"
	opChangePassword    = "password"
	pathPrefix          = "/v1/"
	contentType         = "application/json"
	unknownOperation    = "the running gateway does not know this operation"
	unknownOperationFix = "it is of another version than this command: restart it"
)

// operation decodes a request, calls the service, and gives the answer.
type operation func(ctx context.Context, s Service, body []byte) (any, error)

// on makes an operation of a call with request Q.
func on[Q any, A any](call func(ctx context.Context, s Service, q Q) (*A, error)) operation {
	return func(ctx context.Context, s Service, body []byte) (any, error) {
		var q Q
		if err := decode(body, &q); err != nil {
			return nil, &Error{Code: CodeInvalid, Message: "malformed request: " + err.Error()}
		}
		return call(ctx, s, q)
	}
}

func operations() map[string]operation {
	return map[string]operation{
		opStatus: on(func(ctx context.Context, s Service, _ nothing) (*Status, error) { return s.Status(ctx) }),
		opReload: on(func(ctx context.Context, s Service, _ nothing) (*Reloaded, error) { return s.Reload(ctx) }),
		opSync: on(func(ctx context.Context, s Service, q accountRequest) (*Synced, error) {
			return s.Sync(ctx, q.Account)
		}),
		opConversations: on(func(ctx context.Context, s Service, q accountRequest) (*list[Conversation], error) {
			return listOf(s.Conversations(ctx, q.Account))
		}),
		opConversation: on(func(ctx context.Context, s Service, q conversationRequest) (*Conversation, error) {
			return s.Conversation(ctx, q.Account, q.ID)
		}),
		opRemoveMembers: on(func(ctx context.Context, s Service, q membersRequest) (*Conversation, error) {
			return s.RemoveMembers(ctx, q.Account, q.ID, q.Members)
		}),
		opLeave: on(func(ctx context.Context, s Service, q conversationRequest) (*nothing, error) {
			return done(s.LeaveConversation(ctx, q.Account, q.ID))
		}),
		opRenew: on(func(ctx context.Context, s Service, q conversationRequest) (*Conversation, error) {
			return s.RenewConversation(ctx, q.Account, q.ID)
		}),
		opContacts: on(func(ctx context.Context, s Service, q accountRequest) (*list[Contact], error) {
			return listOf(s.Contacts(ctx, q.Account))
		}),
		opContact: on(func(ctx context.Context, s Service, q contactRequest) (*Contact, error) {
			return s.Contact(ctx, q.Account, q.Address)
		}),
		opContactCode: on(func(ctx context.Context, s Service, q contactRequest) (*ContactCode, error) {
			return s.ContactCode(ctx, q.Account, q.Address)
		}),
		opVerifyContact: on(func(ctx context.Context, s Service, q verifyRequest) (*Contact, error) {
			return s.VerifyContact(ctx, q.Account, q.Address, q.Code, q.Key)
		}),
		opUnverifyContact: on(func(ctx context.Context, s Service, q contactRequest) (*Contact, error) {
			return s.UnverifyContact(ctx, q.Account, q.Address)
		}),
		opAcceptContact: on(func(ctx context.Context, s Service, q acceptRequest) (*Contact, error) {
			return s.AcceptContact(ctx, q.Account, q.Address, q.Key)
		}),
		opDevices: on(func(ctx context.Context, s Service, _ nothing) (*list[Device], error) {
			return listOf(s.Devices(ctx))
		}),
		opStore: on(func(ctx context.Context, s Service, _ nothing) (*StoreStatus, error) { return s.Store(ctx) }),
		opRevokeDevice: on(func(ctx context.Context, s Service, q deviceRequest) (*nothing, error) {
			return done(s.RevokeDevice(ctx, q.ID))
		}),
		opChangePassword: on(func(ctx context.Context, s Service, q passwordRequest) (*nothing, error) {
			return done(s.ChangePassword(ctx, Secret(q.Old), Secret(q.New)))
		}),
	}
}
