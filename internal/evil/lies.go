package evil

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Edit changes a successful answer, whose type is T. Other answers pass.
func Edit[T any](change func(*T)) Act {
	return func(e *Exchange, serve func()) {
		serve()
		if e.Status != http.StatusOK {
			return
		}
		var v T
		if err := json.Unmarshal(e.Answered, &v); err != nil {
			panic(fmt.Sprintf("evil: %s %s was not answered with %T: %v", e.Method, e.Path, v, err))
		}
		change(&v)
		e.Answered = encode(v)
	}
}

// EditRequest changes a request, whose body is a T, before it is let through.
func EditRequest[T any](change func(*T)) Act {
	return func(e *Exchange, serve func()) {
		var v T
		if err := json.Unmarshal(e.Sent, &v); err != nil {
			panic(fmt.Sprintf("evil: %s %s was not sent with %T: %v", e.Method, e.Path, v, err))
		}
		change(&v)
		e.Sent = encode(v)
		serve()
	}
}

// AddMembers adds members to a successful JSON answer that no version of the API
// has, such as a key to wrap everything to.
func AddMembers(members map[string]any) Act {
	return func(e *Exchange, serve func()) {
		serve()
		var v map[string]json.RawMessage
		if e.Status != http.StatusOK || json.Unmarshal(e.Answered, &v) != nil {
			return
		}
		for name, m := range members {
			v[name] = encode(m)
		}
		e.Answered = encode(v)
	}
}

// SignInParams lies about how a password is derived.
func (m *Middle) SignInParams(change func(*keyapi.AuthParams)) *Running {
	return m.Always(To("POST", "/v1/auth/params"), Edit(change))
}

// ToObjects chooses requests for the octets of objects, of many or of one alone.
func ToObjects(e *Exchange) bool {
	return e.Method == "POST" && e.Path == "/v1/objects" || e.Method == "GET" && strings.HasPrefix(e.Path, "/v1/objects/")
}

// ToIndex chooses requests for the list of objects, or for a part of it.
func ToIndex(e *Exchange) bool { return e.Method == "GET" && e.Path == "/v1/objects" }

// Objects lies about the octets of objects that are asked for.
func (m *Middle) Objects(on Match, change func(*keyapi.ObjectList)) *Running {
	return m.Always(and(ToObjects, on), Edit(change))
}

// Index lies about which objects there are.
func (m *Middle) Index(on Match, change func(*keyapi.ObjectIndex)) *Running {
	return m.Always(and(ToIndex, on), Edit(change))
}

// SubstituteKeyPackage hands out other octets for an account.
func (m *Middle) SubstituteKeyPackage(a keyapi.Account, keyPackage []byte) *Running {
	return m.Always(ToAccount("POST", "/v1/keypackages", a, "/claim"), func(e *Exchange, _ func()) {
		e.answer(http.StatusOK, "application/json", encode(keyapi.ClaimedKeyPackage{KeyPackage: keyPackage}))
	})
}

// SubstituteIdentity names another identity key for an account.
func (m *Middle) SubstituteIdentity(a keyapi.Account, key []byte) *Running {
	return m.Always(ToAccount("GET", "/v1/reachable", a, ""), Edit(func(r *keyapi.Reachability) {
		r.HasAccount, r.IdentityKey = true, bytes.Clone(key)
	}))
}

// DenyAccount says that nobody has the account.
func (m *Middle) DenyAccount(a keyapi.Account) *Running {
	return m.Always(ToAccount("GET", "/v1/reachable", a, ""), Edit(func(r *keyapi.Reachability) {
		r.HasAccount, r.IdentityKey = false, nil
	}))
}

func and(m, n Match) Match {
	if n == nil {
		return m
	}
	return func(e *Exchange) bool { return m(e) && n(e) }
}
