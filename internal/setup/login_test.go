package setup

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/device"
	"github.com/cloudmls/gateway/internal/secret"
	"github.com/cloudmls/gateway/internal/vault"
)

// person answers with one password after the other.
type person struct {
	passwords []string
	asked     int
}

func (p *person) Ask(_, preset string) (string, error) { return preset, nil }
func (p *person) Confirm(string, bool) (bool, error)   { return false, nil }
func (p *person) NewSecret(w string) (secret.Secret, error) {
	return p.Secret(w)
}
func (p *person) Secret(string) (secret.Secret, error) {
	if p.asked == len(p.passwords) {
		return secret.Secret{}, errors.New("asked too often")
	}
	p.asked++
	return secret.New([]byte(p.passwords[p.asked-1])), nil
}

var errRefused = errors.New("password refused")

// loginRun is a set-up of a known account, whose password "old" lies in the
// vault, at a provider that takes "right".
func loginRun(t *testing.T, p *person, check func(password string) error) (*run, *[]string) {
	t.Helper()
	g := &config.Gateway{DataDir: t.TempDir(), Vault: config.Vault{Key: "file"}}
	if err := os.Chmod(g.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	v, err := device.OpenVault(g, device.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	a := config.Account{Address: "alice@a.test"}
	if err := v.Update(func(tx *vault.Tx) error {
		return errors.Join(tx.Set(device.ProviderSecret(a.Address, device.IMAP), secret.New([]byte("old"))),
			tx.Set(device.ProviderSecret(a.Address, device.SMTP), secret.New([]byte("old"))))
	}); err != nil {
		t.Fatal(err)
	}
	var tried []string
	return &run{
		Options: Options{
			Asker: p, Progress: func(string, ...any) {},
			PasswordRefused: func(err error) bool { return errors.Is(err, errRefused) },
			Check: func(_ context.Context, _ config.Account, imap, _ secret.Secret) error {
				tried = append(tried, imap.RevealString())
				return check(imap.RevealString())
			},
		},
		g: g, account: a, known: true,
	}, &tried
}

// A stored password that the server refuses is not tried again: the person is
// asked, and what they say is stored.
func TestLoginAsksAfterStoredPassword(t *testing.T) {
	p := &person{passwords: []string{"typo", "right"}}
	r, tried := loginRun(t, p, func(password string) error {
		if password != "right" {
			return errRefused
		}
		return nil
	})
	if err := r.login(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"old", "typo", "right"}; !slices.Equal(*tried, want) {
		t.Errorf("tried %q, want %q", *tried, want)
	}
	if r.imap.RevealString() != "right" {
		t.Error("the new password is not stored")
	}
}

// Where no password helps nobody is asked for one, and the server is asked once.
func TestLoginDoesNotAskWhatDoesNotHelp(t *testing.T) {
	down := errors.New("connection refused")
	p := &person{passwords: []string{"right"}}
	r, tried := loginRun(t, p, func(string) error { return down })
	if err := r.login(t.Context()); !errors.Is(err, down) {
		t.Errorf("error %v", err)
	}
	if len(*tried) != 1 || p.asked != 0 {
		t.Errorf("tried %q, asked %d times", *tried, p.asked)
	}
}

// A password that the person gave counts, also where the configuration named a
// file before.
func TestNewPasswordReplacesPasswordFile(t *testing.T) {
	r, _ := loginRun(t, &person{passwords: []string{"right"}}, func(string) error { return nil })
	r.account.IMAP.PasswordFile = filepath.Join(t.TempDir(), "gone")
	before := r.account
	if err := r.login(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.noteAccount(before)
	if len(r.changes) != 2 {
		t.Errorf("%d changes: the file's password would count on", len(r.changes))
	}
}
