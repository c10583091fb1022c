package keyserver

import (
	"errors"
	"fmt"
	"net/url"
	"slices"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Role is a part of the API. A server may have any of them; all is usual.
type Role string

const (
	RoleAuth     Role = "auth"     // users, sessions, tokens
	RoleDelivery Role = "delivery" // accounts, KeyPackages, conversations, inboxes
	RoleStore    Role = "store"    // sealed objects
)

// AllRoles is what a server has by default.
func AllRoles() []Role { return []Role{RoleAuth, RoleDelivery, RoleStore} }

func (s *Server) has(r Role) bool { return slices.Contains(s.Roles, r) }

func (o *Options) checkRoles() error {
	if len(o.Roles) == 0 {
		o.Roles = AllRoles()
	}
	for i, r := range o.Roles {
		if !slices.Contains(AllRoles(), r) {
			return fmt.Errorf("options: Roles: %q is not one of auth, delivery and store", r)
		}
		if slices.Contains(o.Roles[:i], r) {
			return fmt.Errorf("options: Roles: %q is named twice", r)
		}
	}
	auth := slices.Contains(o.Roles, RoleAuth)
	switch {
	case auth && o.Auth != nil:
		return errors.New("options: Auth names another server, but this one has the role auth itself")
	case !auth && o.Auth == nil:
		return errors.New("options: Auth is missing: without the role auth the server must know who signs its users in")
	case !auth && o.TokenKey != nil:
		return errors.New("options: TokenKey is for servers with the role auth; others use public keys only")
	case !auth:
		return o.Auth.check()
	}
	return nil
}

// RemoteAuth names the server with the auth role, for those without it.
type RemoteAuth struct {
	// URL is where it is reached, without /v1. Plain http is for loopback only.
	URL string
	// Origin is its configured name. Keys of a server that calls itself
	// otherwise are refused, tokens of another issuer too.
	Origin string
	// Client makes the requests; nil: one of its own.
	Client HTTPClient
}

func (a *RemoteAuth) check() error {
	u, err := url.Parse(a.URL)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return errors.New("options: Auth.URL: want scheme and host")
	case a.Origin == "":
		return errors.New("options: Auth.Origin is missing")
	case u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	}
	return errors.New("options: Auth.URL must be https; plain http is for loopback addresses only")
}

// rolesOfTx refuses parts of a transaction that concern another server: half of
// a transaction is none.
func (s *Server) rolesOfTx(t *keyapi.Tx) error {
	if !s.has(RoleStore) && len(t.Expect)+len(t.Put)+len(t.Delete) > 0 {
		return invalid("this server keeps no objects: they go to the server with the role store")
	}
	if !s.has(RoleDelivery) && (t.Commit != nil || len(t.Ack) > 0) {
		return invalid("this server delivers nothing: Commits and acknowledgements go to the server with the role delivery")
	}
	return nil
}
