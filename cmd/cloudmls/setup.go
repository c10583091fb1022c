package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/control"
	"github.com/cloudmls/gateway/internal/secret"
	"github.com/cloudmls/gateway/internal/setup"
	"github.com/cloudmls/gateway/proxy"
)

// setupFlags are what the command line decides.
type setupFlags struct {
	file                       string
	v                          setup.Values
	imap, smtp                 string // host:port
	providerPassword, smtpPass secretSource
	password, passphrase, code secretSource
	invitation                 secretSource
	recoveryFile               string
	clientPasswordFile         string
	out                        output
}

func setupCommand() *cobra.Command {
	var f setupFlags
	c := &cobra.Command{
		Use:   "setup",
		Short: "Set this device up: provider, key server, user, mail client",
		Long: `Sets the gateway up, or changes what is asked of one that is set up. Whatever is not given is found or asked for.

It finds the mail provider's servers, checks the login at both, asks the key server, and only then writes anything.
Then it prints what the mail client needs: servers, a password of its own, the certificate to trust; and for a new
user the recovery code.

Secrets are never arguments. Without a terminal each comes from a file, an environment variable, or standard input
(--...-file -, one line each, in the order in which they are needed: provider, sending, recovery code, key server,
invitation, passphrase).

Again on the same device:
  cloudmls setup --address second@example.org   adds an account
  cloudmls setup --imap new.example.org:993     moves the only account to another server
  cloudmls setup --client phone                 makes a password for one more mail client
  cloudmls setup --sign-in                      signs in again, after the password was changed or the access ended
  cloudmls setup --recover                      does so with the recovery code, and sets a new password

Without a terminal, for a new user:
  cloudmls setup --address alice@example.org --provider-password-file mail.pass \
      --keyserver https://keys.example.org --user alice --password-file user.pass --register`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runSetup(c, &f) },
	}
	fs := c.Flags()
	configFlag(c, &f.file, "the gateway's configuration file")
	fs.StringVar(&f.v.Address, "address", "", "your mail address")
	for _, s := range []struct {
		name, what string
		addr       *string
		server     *setup.Server
	}{{"imap", "reading", &f.imap, &f.v.IMAP}, {"smtp", "sending", &f.smtp, &f.v.SMTP}} {
		fs.StringVar(s.addr, s.name, "", "the provider's server for "+s.what+" mail, HOST or HOST:PORT, instead of the one that is found")
		fs.StringVar(&s.server.TLS, s.name+"-tls", "", "implicit, starttls, or none (on this machine only)")
		fs.StringVar(&s.server.Username, s.name+"-user", "", "login there, if it is not the address")
		fs.StringVar(&s.server.CAFile, s.name+"-ca", "", "file with certificates to trust there instead of the system's")
	}
	f.providerPassword.flags(c, "provider-password", "your password at the mail provider")
	f.smtpPass.flags(c, "smtp-password", "your password for sending, if the provider wants another one")
	fs.StringVar(&f.v.KeyServer, "keyserver", "", "address of the key server, such as https://keys.example.org")
	fs.StringVar(&f.v.KeyServerCA, "keyserver-ca", "", "file with certificates to trust there instead of the system's")
	fs.BoolVar(&f.v.LocalKeyServer, "local-keyserver", false, "run a key server on this machine, beside the gateway")
	fs.StringVar(&f.v.User, "user", "", "your user name at the key server")
	f.password.flags(c, "password", "your password at the key server")
	f.invitation.flags(c, "invitation", "the invitation, where the key server wants one of new users")
	fs.BoolVar(&f.v.Register, "register", false, "you are new at the key server")
	fs.BoolVar(&f.v.SignIn, "sign-in", false, "you have used the key server before")
	fs.BoolVar(&f.v.Recover, "recover", false, "you have used the key server before and forgotten the password: the recovery code sets a new one")
	f.code.flags(c, "recovery-code", "the recovery code, for --recover")
	fs.StringVar(&f.v.DataDir, "data-dir", "", "folder for the sealed state of this device")
	fs.StringVar(&f.v.VaultKey, "vault", "", "where the key that seals this device's secrets lies: keyring, file, passphrase, credential (systemd); default file")
	f.passphrase.flags(c, "passphrase", "the passphrase, for --vault passphrase")
	fs.StringVar(&f.v.ListenIMAP, "listen-imap", "", "where mail clients read; default 127.0.0.1:1993 or the next free port")
	fs.StringVar(&f.v.ListenSMTP, "listen-smtp", "", "where mail clients send; default 127.0.0.1:1465 or the next free port")
	fs.StringVar(&f.v.Client, "client", "", "name of a mail client that gets a password of its own")
	fs.StringVar(&f.recoveryFile, "recovery-file", "", "write the recovery code into this new file instead of showing it")
	fs.StringVar(&f.clientPasswordFile, "client-password-file", "", "write the mail client's password into this new file instead of showing it")
	c.MarkFlagsMutuallyExclusive("register", "sign-in", "recover")
	c.MarkFlagsMutuallyExclusive("keyserver", "local-keyserver")
	f.out.flag(c)
	return c
}

func runSetup(c *cobra.Command, f *setupFlags) error {
	for _, s := range []struct {
		flag, addr string
		to         *setup.Server
	}{{"--imap", f.imap, &f.v.IMAP}, {"--smtp", f.smtp, &f.v.SMTP}} {
		if err := splitServer(s.addr, s.to); err != nil {
			return misuse{fmt.Errorf("%s: %w", s.flag, err)}
		}
	}
	for _, path := range []*string{&f.v.IMAP.CAFile, &f.v.SMTP.CAFile, &f.v.KeyServerCA, &f.v.DataDir, &f.file} {
		if *path == "" {
			continue
		}
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = absolute
	}
	if err := beforeSignIn(c, f); err != nil {
		return err
	}
	recovery, err := newSecretFile(f.recoveryFile)
	if err != nil {
		return fmt.Errorf("--recovery-file: %w", err)
	}
	defer recovery.drop()
	clientPassword, err := newSecretFile(f.clientPasswordFile)
	if err != nil {
		return fmt.Errorf("--client-password-file: %w", err)
	}
	defer clientPassword.drop()
	in := newStdinLines(c.InOrStdin())
	f.v.ProviderPassword, f.v.SMTPPassword = reader(in, f.providerPassword), reader(in, f.smtpPass)
	f.v.Password, f.v.Passphrase, f.v.RecoveryCode = reader(in, f.password), reader(in, f.passphrase), reader(in, f.code)
	f.v.Invitation = reader(in, f.invitation)
	log := newLogger(c.ErrOrStderr(), config.Log{Level: "warn", Format: "text"})
	o := setup.Options{
		ConfigFile: f.file, Values: f.v, Find: findProvider, Check: checkProvider, PasswordRefused: passwordRefused, Getenv: os.Getenv, Logger: log,
		Progress: progress(c),
		Recovery: func(code string) error { return showRecovery(c, f.out.json, recovery, code) },
		StartKeyServer: func(ctx context.Context, file string) (func(), error) {
			p, err := startKeyServer(ctx, file, log)
			if err != nil {
				return nil, err
			}
			return p.end, nil
		},
	}
	if t := newTerminal(c); t != nil {
		o.Asker = t
	}
	res, err := setup.Run(c.Context(), o)
	if err != nil {
		return err
	}
	if clientPassword != nil && !res.ClientPassword.IsZero() {
		if err := clientPassword.write(res.ClientPassword.RevealString()); err != nil {
			return fmt.Errorf("%w; 'cloudmls client add %s' makes another password", err, res.Client)
		}
	}
	if err := f.out.print(c, setupJSON(f, res), func(w io.Writer) { writeSetup(w, f, res) }); err != nil {
		return err
	}
	return reloadAfter(c, f.file, len(res.Changed) > 0 && !res.Device)
}

// beforeSignIn looks whether the gateway of a device that is set up is in the way
// of signing in again, and whether there is any need.
func beforeSignIn(c *cobra.Command, f *setupFlags) error {
	if !f.v.SignIn && !f.v.Recover {
		return nil
	}
	g, err := config.LoadGateway(f.file)
	if err != nil {
		return nil // there is none yet, or the set-up says what is wrong with it
	}
	running, err := control.Dial(c.Context(), controlSocket(g))
	if errors.Is(err, control.ErrNotRunning) {
		return nil
	}
	if err != nil {
		return err
	}
	status, err := running.Status(c.Context())
	if err := errors.Join(err, running.Close()); err != nil {
		return err
	}
	if f.v.Recover || signedOut(status) {
		return errRunning
	}
	f.v.SignIn = false // it is signed in
	return nil
}

// signedOut reports whether a gateway's session at the key server has ended.
func signedOut(s *control.Status) bool {
	return slices.ContainsFunc(s.Accounts, func(a control.AccountStatus) bool {
		k := a.KeyServer
		return k.Failing && k.LastError != nil && proxy.FaultKind(k.LastError.Kind) == proxy.FaultSignedOut
	})
}

// progress tells people what is being done.
func progress(c *cobra.Command) func(format string, args ...any) {
	return func(format string, args ...any) {
		fmt.Fprintln(c.ErrOrStderr(), plainText(fmt.Sprintf(format, args...)))
	}
}

func reader(in *stdinLines, s secretSource) setup.Read {
	if !s.given() {
		return nil
	}
	return once(func() (secret.Secret, error) { return s.read(in) })
}

// once reads a secret the first time: a line of standard input comes but once.
func once(read setup.Read) setup.Read {
	var s secret.Secret
	var err error
	done := false
	return func() (secret.Secret, error) {
		if !done {
			s, err = read()
			done = true
		}
		return s, err
	}
}

// splitServer reads HOST or HOST:PORT.
func splitServer(addr string, to *setup.Server) error {
	if addr == "" {
		return nil
	}
	to.Host = addr
	if !strings.Contains(addr, ":") {
		return nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return fmt.Errorf("%q is not a port", port)
	}
	to.Host, to.Port = host, int(n)
	return nil
}

// showRecovery writes the recovery code into its file, if there is one, else
// where people see it.
func showRecovery(c *cobra.Command, json bool, file *secretFile, code string) error {
	if file != nil {
		return file.write(code)
	}
	to := c.OutOrStdout()
	if json {
		to = c.ErrOrStderr()
	}
	_, err := fmt.Fprintf(to, "recovery code: %s\nWrite it down and keep it apart from this machine: it is the only way back when the password is forgotten, and it is\nnot shown again.\n\n", code)
	return err
}

// setupResult is the result for programs.
type setupResult struct {
	Config         string   `json:"config"`
	Address        string   `json:"address"`
	IMAP           string   `json:"imap"`
	SMTP           string   `json:"smtp"`
	Certificate    string   `json:"certificate"`
	Client         string   `json:"client,omitzero"`
	ClientPassword string   `json:"client_password,omitzero"`
	Changed        []string `json:"changed"`
}

func setupJSON(f *setupFlags, r *setup.Result) setupResult {
	out := setupResult{
		Config: r.ConfigFile, Address: r.Address, IMAP: r.IMAP, SMTP: r.SMTP, Certificate: r.Authority, Client: r.Client, Changed: r.Changed,
	}
	if f.clientPasswordFile == "" {
		out.ClientPassword = r.ClientPassword.RevealString()
	}
	if out.Changed == nil {
		out.Changed = []string{}
	}
	return out
}

func writeSetup(w io.Writer, f *setupFlags, r *setup.Result) {
	if len(r.Changed) == 0 {
		fmt.Fprintln(w, "Nothing was asked, nothing was changed.")
	}
	for _, s := range r.Changed {
		fmt.Fprintf(w, "- %s\n", s)
	}
	password := "the one it has; 'cloudmls client add' makes one for another program"
	switch {
	case !r.ClientPassword.IsZero() && f.clientPasswordFile != "":
		password = "in " + f.clientPasswordFile
	case !r.ClientPassword.IsZero():
		password = r.ClientPassword.RevealString() + "   (shown once)"
	}
	fmt.Fprintf(w, "\nThe mail client's settings for %s:\n", r.Address)
	table(w,
		[]string{"  reading (IMAP)", clientServer(r.IMAP) + ", SSL/TLS, normal password"},
		[]string{"  sending (SMTP)", clientServer(r.SMTP) + ", SSL/TLS, normal password"},
		[]string{"  user name", r.Address},
		[]string{"  password", password},
		[]string{"  certificate to trust", r.Authority},
	)
	if r.Device {
		fmt.Fprintf(w, "\nNext: cloudmls run%s   (or for good: cloudmls service install)\n", configArgument(f.file))
	}
}

// clientServer is an address as people type it into a mail client; the
// certificate is for localhost.
func clientServer(addr string) string {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return "localhost, port " + port
}

// configArgument is what a command needs to find the file.
func configArgument(file string) string {
	if usual, err := config.DefaultGatewayFile(os.Getenv); err == nil && usual == file {
		return ""
	}
	return " --config " + file
}
