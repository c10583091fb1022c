package proxy

import (
	"fmt"
	"strings"

	"github.com/cloudmls/gateway/groupid"
)

// Mode says how mail to a person is to leave.
type Mode string

// Modes.
const (
	// ModePrefer encrypts wherever the person can read it, and sends in clear
	// only to people whom the key server explicitly calls unknown.
	ModePrefer Mode = "prefer"
	// ModeRequire never sends in clear.
	ModeRequire Mode = "require"
	// ModeNever sends in clear. As the account's default it still does not
	// reach people who were written to encrypted before; a rule for a person
	// or a domain does. Answers to encrypted messages never follow it.
	ModeNever Mode = "never"
)

// Omitted says what becomes of members of a thread's group whom a message no
// longer addresses.
type Omitted string

// What becomes of members left out.
const (
	// OmittedLeaveOut sends to the conversation of exactly the people
	// addressed; nobody is removed from anything.
	OmittedLeaveOut Omitted = "leave-out"
	// OmittedRemove removes them from the group; its id stays. A message to
	// one person alone is a dialog and removes nobody.
	OmittedRemove Omitted = "remove"
)

// Policy is how one account sends.
type Policy struct {
	// Default is used where no rule names the person; empty means ModePrefer.
	Default Mode
	// Omitted; empty means OmittedLeaveOut.
	Omitted Omitted
	// Recipients are rules for addresses; they win over Domains.
	Recipients map[string]Mode
	// Domains are rules for the part behind the "@", subdomains not included.
	Domains map[string]Mode
	// KnownLists are the List-Id values of mailing lists that may rewrite the
	// outer From field without a warning.
	KnownLists []string
	// HideThreading leaves In-Reply-To and References out of the outer header
	// and gives each message its own subject token.
	HideThreading bool
}

// rules is a checked Policy with canonical keys.
type rules struct {
	Policy
	recipients map[string]Mode
	domains    map[string]Mode
}

func newRules(p Policy) (*rules, error) {
	if p.Default == "" {
		p.Default = ModePrefer
	}
	if p.Omitted == "" {
		p.Omitted = OmittedLeaveOut
	}
	if !p.Default.valid() {
		return nil, fmt.Errorf("policy: unknown default %q", p.Default)
	}
	if p.Omitted != OmittedLeaveOut && p.Omitted != OmittedRemove {
		return nil, fmt.Errorf("policy: unknown value %q of omitted", p.Omitted)
	}
	r := &rules{Policy: p, recipients: make(map[string]Mode), domains: make(map[string]Mode)}
	for addr, m := range p.Recipients {
		c, err := groupid.Canonical(addr)
		if err != nil || !m.valid() {
			return nil, fmt.Errorf("policy: rule %q = %q for a recipient is invalid", addr, m)
		}
		if _, twice := r.recipients[c]; twice {
			return nil, fmt.Errorf("policy: there are two rules for %q", c)
		}
		r.recipients[c] = m
	}
	for domain, m := range p.Domains {
		c, err := groupid.Canonical("x@" + domain)
		if err != nil || !m.valid() {
			return nil, fmt.Errorf("policy: rule %q = %q for a domain is invalid", domain, m)
		}
		if _, twice := r.domains[domainOf(c)]; twice {
			return nil, fmt.Errorf("policy: there are two rules for %q", domainOf(c))
		}
		r.domains[domainOf(c)] = m
	}
	return r, nil
}

func (m Mode) valid() bool { return m == ModePrefer || m == ModeRequire || m == ModeNever }

// mode returns the mode for a canonical address, and whether a rule names it.
func (r *rules) mode(addr string) (m Mode, byRule bool) {
	if m, ok := r.recipients[addr]; ok {
		return m, true
	}
	if m, ok := r.domains[domainOf(addr)]; ok {
		return m, true
	}
	return r.Default, false
}

// knownList reports whether a List-Id field names a list of the policy.
func (r *rules) knownList(listID string) bool {
	if i := strings.LastIndexByte(listID, '<'); i >= 0 {
		listID = strings.TrimRight(listID[i+1:], "> \t")
	}
	for _, l := range r.KnownLists {
		if listID != "" && strings.EqualFold(strings.Trim(l, "<> "), listID) {
			return true
		}
	}
	return false
}

func domainOf(addr string) string {
	return addr[strings.LastIndexByte(addr, '@')+1:]
}
