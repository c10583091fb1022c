// Package setup brings a gateway into being: it finds the provider's servers,
// checks every login, and only then writes the configuration, the vault and the
// device's state. Run again on a device that is set up, it changes what is asked
// and nothing else.
package setup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/secret"
)

// Asker is the person who is set up.
type Asker interface {
	// Ask returns a line; an empty answer is the preset.
	Ask(question, preset string) (string, error)
	Confirm(question string, preset bool) (bool, error)
	// Secret asks without an echo, NewSecret twice.
	Secret(what string) (secret.Secret, error)
	NewSecret(what string) (secret.Secret, error)
}

// Server is what is decided about one server of the provider. Zero fields are
// found or stay as they are.
type Server struct {
	Host     string
	Port     int
	TLS      string // implicit, starttls, none
	Username string
	CAFile   string
}

// Read returns a secret that is named by the command line; nil means ask.
type Read func() (secret.Secret, error)

// Values is what is decided beforehand.
type Values struct {
	Address          string // mail address
	IMAP, SMTP       Server
	ProviderPassword Read
	SMTPPassword     Read // where the provider has another one for sending; nil: the same

	KeyServer      string // URL
	KeyServerCA    string // file with certificates to trust
	LocalKeyServer bool   // one beside the gateway
	User           string // at the key server
	Password       Read
	Invitation     Read // for a new user, where the key server wants one
	Register       bool // the user is new
	SignIn         bool // the user exists
	Recover        bool // the user exists and has forgotten the password
	RecoveryCode   Read

	DataDir    string
	VaultKey   string // file, keyring, passphrase, credential
	Passphrase Read
	ListenIMAP string
	ListenSMTP string
	Client     string // name of a mail client that gets a password
}

// Options of a set-up. All but Asker are required.
type Options struct {
	ConfigFile string
	Values     Values
	Asker      Asker // nil: nobody can be asked; what is missing is an error
	// Progress tells what is being done.
	Progress func(format string, args ...any)
	// Recovery shows the recovery code, as soon as there is one.
	Recovery func(code string) error
	// Find looks for the servers of an address's provider.
	Find func(ctx context.Context, address string) (*Found, error)
	// Check logs in at both servers of an account.
	Check func(ctx context.Context, a config.Account, imap, smtp secret.Secret) error
	// PasswordRefused tells of an error of Check whether another password may
	// help.
	PasswordRefused func(error) bool
	// StartKeyServer runs a local key server during the set-up.
	StartKeyServer func(ctx context.Context, file string) (stop func(), err error)
	Getenv         func(string) string
	Logger         *slog.Logger
}

// Found is what is known of a provider.
type Found struct {
	IMAP, SMTP Server
	Source     string   // where this comes from, for people
	Notes      []string // what to know before the login
	Doubt      string   // why a person has to confirm it; empty: they need not
	Refused    string   // why this provider cannot be used; empty: it can
}

// Result is what the person needs to know.
type Result struct {
	ConfigFile     string
	Address        string // whose mail client settings these are
	IMAP, SMTP     string // host:port
	Authority      string // certificate that mail clients should trust (PEM)
	Client         string // name of the mail client
	ClientPassword secret.Secret
	Changed        []string // what this run did, for people
	Device         bool     // this run signed the device in
}

// run is one set-up at work.
type run struct {
	Options
	old []byte          // the configuration file as it was; nil: there was none
	g   *config.Gateway // what it says; never nil

	account    config.Account // as it will be
	known      bool           // it was configured before
	imap, smtp secret.Secret  // passwords for the vault; empty: nothing new
	changes    []config.Change
	did        []string // for people

	localFile string // configuration of the local key server to start
	localText []byte // to be written there; nil: it is there
	device    bool   // the device is to be signed in
	again     bool   // it was before
	register  bool
	recover   bool
	password  secret.Secret // a new one where register or recover is set
	code      secret.Secret // for recover

	registration string // who may register at the key server, as it says
	invitation   secret.Secret
}

// Run sets up a device, or changes what is asked of one.
func Run(ctx context.Context, o Options) (*Result, error) {
	r := &run{Options: o, g: &config.Gateway{}}
	if err := r.load(); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{r.decideAccount, r.decideProvider, r.decideKeyServer, r.decideDevice} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return r.write(ctx)
}

// load reads the configuration that is there.
func (r *run) load() error {
	b, err := os.ReadFile(r.ConfigFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	r.old = b
	r.g, err = config.ParseGateway(r.ConfigFile, b)
	return err
}

// ask is for values without which the set-up cannot go on.
func (r *run) ask(question, preset, flag string) (string, error) {
	if r.Asker == nil {
		if preset != "" {
			return preset, nil
		}
		return "", fmt.Errorf("%s is missing, and there is no terminal to ask at: pass --%s", question, flag)
	}
	for {
		answer, err := r.Asker.Ask(question, preset)
		if err != nil || answer != "" {
			return answer, err
		}
	}
}

// secret reads a secret from where the command line says, else asks.
func (r *run) secret(what, flag string, from Read, twice bool) (secret.Secret, error) {
	switch {
	case from != nil:
		s, err := from()
		if err != nil {
			return s, fmt.Errorf("%s: %w", what, err)
		}
		return s, nil
	case r.Asker == nil:
		return secret.Secret{}, fmt.Errorf("the %s is missing, and there is no terminal to ask at: pass --%s-file or --%s-env", what, flag, flag)
	case twice:
		return r.Asker.NewSecret(what)
	}
	return r.Asker.Secret(what)
}

// change notes a change of the file and what it means.
func (r *run) change(said string, changes ...config.Change) {
	r.changes = append(r.changes, changes...)
	if said != "" {
		r.did = append(r.did, said)
	}
}
