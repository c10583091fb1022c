package keyserver_test

import (
	"bytes"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

func (w *world) tryRegister(name, invitation string) error {
	_, err := w.c.Register(w.t.Context(), keyapi.RegisterRequest{
		Username: name, AuthVersion: 1, UserID: random(16), Auth: random(32), Device: keyapi.Device{Key: public(newKey())}, Invitation: invitation,
		KDF: keyapi.KDF{Algorithm: "argon2id", Salt: random(16), Time: 3, MemoryKiB: 64 << 10, Threads: 4},
	})
	return err
}

func TestInvitationsServeOnce(t *testing.T) {
	w := newWorld(t, keyserver.Options{Registration: keyserver.RegistrationInvitation})
	invite := func(life time.Duration) string {
		code, _, err := w.Handler.CreateInvitation(t.Context(), life, "for a test")
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	code := invite(time.Hour)
	for _, bad := range []string{"", "ABC", strings.Repeat("A", 26), code[1:] + "A", code + "A"} {
		wantCode(t, w.tryRegister("alice", bad), keyapi.CodeForbidden)
	}
	typed := strings.ToLower(code[:5] + "-" + code[5:10] + " " + code[10:])
	if err := w.tryRegister("alice", typed); err != nil {
		t.Fatalf("as a person types it: %v", err)
	}
	wantCode(t, w.tryRegister("bob", code), keyapi.CodeForbidden)

	// Strangers learn no names: who has no invitation gets one answer.
	wantCode(t, w.tryRegister("alice", ""), keyapi.CodeForbidden)
	// A name that is taken does not use the invitation up.
	code = invite(time.Hour)
	wantCode(t, w.tryRegister("alice", code), keyapi.CodeTaken)
	if err := w.tryRegister("bob", code); err != nil {
		t.Errorf("after a taken name: %v", err)
	}
	code = invite(time.Hour)
	w.clock.advance(time.Hour + 2*time.Second)
	wantCode(t, w.tryRegister("carol", code), keyapi.CodeForbidden)

	code, keep := invite(time.Hour), invite(time.Hour)
	list, err := w.Handler.Invitations(t.Context())
	if err != nil || len(list) != 2 || list[0].Comment != "for a test" {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, i := range list {
		if strings.Contains(i.ID, code) || strings.Contains(i.ID, keep) {
			t.Error("the list shows a code")
		}
		if err := w.Handler.RevokeInvitation(t.Context(), i.ID); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, w.tryRegister("carol", code), keyapi.CodeForbidden)
	code = invite(time.Hour)
	w.Close()
	file, err := os.ReadFile(w.Path)
	if err != nil || bytes.Contains(file, []byte(code)) {
		t.Errorf("the store holds an invitation code in clear, %v", err)
	}
}

// Many who come at once with one code: one of them registers.
func TestInvitationsServeOnceAtTheSameTime(t *testing.T) {
	w := newWorld(t, keyserver.Options{Registration: keyserver.RegistrationInvitation})
	code, _, err := w.Handler.CreateInvitation(t.Context(), time.Hour, "")
	if err != nil {
		t.Fatal(err)
	}
	var in atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if w.tryRegister(string(rune('a'+i)), code) == nil {
				in.Add(1)
			}
		})
	}
	wg.Wait()
	if in.Load() != 1 {
		t.Errorf("%d registered with one invitation", in.Load())
	}
}

func TestRegistrationCanBeClosed(t *testing.T) {
	w := newWorld(t, keyserver.Options{Registration: keyserver.RegistrationClosed})
	code, _, err := w.Handler.CreateInvitation(t.Context(), time.Hour, "")
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, w.tryRegister("alice", code), keyapi.CodeForbidden)
	info, err := w.c.Server(t.Context())
	if err != nil || info.Registration != "closed" || len(info.Roles) != 3 {
		t.Errorf("%+v, %v", info, err)
	}
	if _, err := keyserver.New(keyserver.Options{Store: w.store(), Origin: "x", Pepper: random(32), Registration: "maybe"}); err == nil {
		t.Error("an unknown way to register is accepted")
	}
}

// Asking which names are taken by registering them is slow, wherever the rest
// of sign-in is not limited.
func TestFlaw21_RegistrationsAreThrottledPerNetwork(t *testing.T) {
	l := keyservertest.Unlimited()
	l.Registrations = keyserver.Rate{Burst: 2, Every: time.Minute}
	w := newWorld(t, keyserver.Options{Limits: l})
	p := w.register("alice")
	wantCode(t, w.tryRegister("alice", ""), keyapi.CodeTaken)
	wantCode(t, w.tryRegister("bob", ""), keyapi.CodeRateLimited)
	if _, err := p.login(newKey(), p.auth); err != nil {
		t.Errorf("signing in is not registering: %v", err)
	}
}

// A quota of a user's own is more than everybody's, and no other user's.
func TestUsersMayHaveMoreThanOthers(t *testing.T) {
	l := keyservertest.Unlimited()
	l.Objects = 2
	w := newWorld(t, keyserver.Options{Limits: l})
	alice, bob := w.register("alice"), w.register("bob")
	three := keyapi.Tx{Put: []keyapi.Object{put("a", 1, "1"), put("b", 1, "2"), put("c", 1, "3")}}
	_, err := alice.tx(three)
	wantCode(t, err, keyapi.CodeQuota)
	id := keyserver.UserID(alice.session.UserID)
	if err := w.Handler.SetQuota(t.Context(), id, keyserver.Quota{Objects: 3}); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.tx(three); err != nil {
		t.Errorf("with a quota of three: %v", err)
	}
	_, err = alice.tx(keyapi.Tx{Put: []keyapi.Object{put("d", 1, "4")}})
	wantCode(t, err, keyapi.CodeQuota)
	_, err = bob.tx(three)
	wantCode(t, err, keyapi.CodeQuota)
	q, use, err := w.Handler.QuotaOf(t.Context(), id)
	if err != nil || q.Objects != 3 || q.Bytes != keyserver.DefaultLimits().ObjectBytes || use.Objects != 3 {
		t.Errorf("%+v %+v %v", q, use, err)
	}
}

// The zero id is nobody's: stores are asked about nobody with it, and lock nothing
// for it.
func TestNobodyIsNoUser(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	_, err := w.c.Register(t.Context(), keyapi.RegisterRequest{
		Username: "nobody", AuthVersion: 1, UserID: make([]byte, 16), Auth: random(32), Device: keyapi.Device{Key: public(newKey())},
		KDF: keyapi.KDF{Algorithm: "argon2id", Salt: random(16), Time: 3, MemoryKiB: 64 << 10, Threads: 4},
	})
	wantCode(t, err, keyapi.CodeInvalid)
}
