package proxy

import "testing"

func TestMustSealFollowsThePolicy(t *testing.T) {
	r, err := newRules(Policy{
		Default: ModePrefer, Recipients: map[string]Mode{"bob@b.test": ModeRequire, "carol@c.test": ModeNever},
		Domains: map[string]Mode{"c.test": ModeRequire},
	})
	if err != nil {
		t.Fatal(err)
	}
	p := &place{}
	p.now.Store(&account{rules: r})
	a := smtpAccount{p}
	for rcpt, want := range map[string]bool{
		"bob@b.test": true, "BOB@B.test": true, "dave@b.test": false, "carol@c.test": false, "erin@c.test": true, "no address": false,
	} {
		if got := a.MustSeal(rcpt); got != want {
			t.Errorf("%s: %v", rcpt, got)
		}
	}
}
