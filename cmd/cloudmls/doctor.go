package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/control"
	"github.com/cloudmls/gateway/internal/device"
	"github.com/cloudmls/gateway/internal/localtls"
	"github.com/cloudmls/gateway/internal/secret"
	"github.com/cloudmls/gateway/internal/vault"
)

// skewLimit is how wrong the clock may be before people are told: KeyPackages
// and certificates have ends.
const skewLimit = 5 * time.Minute

// finding is the result of one check.
type finding struct {
	Level string `json:"level"` // ok, warn, fail
	What  string `json:"what"`
	Next  string `json:"next,omitzero"` // what to do
}

// examination collects findings.
type examination struct {
	found   []finding
	say     func(finding)
	offline bool
}

func (e *examination) add(level, next, format string, args ...any) {
	f := finding{level, fmt.Sprintf(format, args...), next}
	e.found = append(e.found, f)
	e.say(f)
}

func (e *examination) ok(format string, args ...any) { e.add("ok", "", format, args...) }

func doctorCommand() *cobra.Command {
	var file string
	var out output
	var offline bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Examine the set-up from end to end and say how to mend what is wrong",
		Long: `Examines everything from end to end: the configuration, the data folder, the vault, the certificate, the listeners, the
key server, its clock and whether this device is signed in, the login at each provider. Changes nothing.

Exit code: 0 nothing is wrong, 4 something is.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			e := &examination{offline: offline, say: func(f finding) {
				if !out.json {
					writeFinding(c.OutOrStdout(), f)
				}
			}}
			e.run(c, file)
			if out.json {
				if err := out.print(c, e.found, nil); err != nil {
					return err
				}
			}
			for _, f := range e.found {
				if f.Level == "fail" {
					return errAttention
				}
			}
			return nil
		},
	}
	configFlag(c, &file, "the gateway's configuration file")
	out.flag(c)
	c.Flags().BoolVar(&offline, "offline", false, "leave out what needs the network")
	return c
}

func writeFinding(w io.Writer, f finding) {
	mark := map[string]string{"ok": "ok   ", "warn": "warn ", "fail": "FAIL "}[f.Level]
	fmt.Fprintf(w, "%s%s\n", mark, plainText(f.What))
	if f.Next != "" {
		fmt.Fprintf(w, "     -> %s\n", plainText(f.Next))
	}
}

func (e *examination) run(c *cobra.Command, file string) {
	g, err := config.LoadGateway(file)
	if err != nil {
		next := "mend the file; 'cloudmls config reference' explains every key"
		if errors.Is(err, os.ErrNotExist) {
			next = "run 'cloudmls setup'"
		}
		e.add("fail", next, "configuration: %v", err)
		return
	}
	e.ok("configuration %s: %s", file, plural(len(g.Accounts), "account", "accounts"))
	if !e.folder(g.DataDir) {
		return
	}
	ask := askedOnce(passphrase(c, g))
	v, err := device.OpenVault(g, device.Options{Passphrase: ask})
	if err != nil {
		e.add("fail", "", "vault: %v", err)
		return
	}
	e.ok("vault opens with its key from %s", g.Vault.Key)
	if unseen, err := device.CodeUnseen(v); err != nil {
		e.add("fail", "", "vault: %v", err)
	} else if unseen {
		e.add("fail", "end the gateway, then cloudmls recovery-code", "the recovery code was made and never shown: without it a forgotten password loses everything")
	}
	e.certificate(g)
	runs := e.gateway(c.Context(), g)
	if e.offline {
		e.add("warn", "", "key server and providers were left out")
	} else if e.keyServer(c.Context(), g) && !runs {
		e.session(c, g, ask)
	}
	for _, a := range g.Accounts {
		e.account(c.Context(), v, a)
	}
}

func (e *examination) folder(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil {
		e.add("fail", "run 'cloudmls setup', or restore the folder from a copy", "data folder: %v", err)
		return false
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		e.add("fail", "chmod 700 "+dir, "data folder %s can be read by others", dir)
	} else {
		e.ok("data folder %s is yours alone", dir)
	}
	if free, ok := freeSpace(dir); ok && free < 100<<20 {
		e.add("warn", "make room: mail that waits to be sent and the cache lie there", "only %s are free in %s", octets(free), dir)
	}
	if _, err := os.Stat(filepath.Join(dir, "device.db")); err != nil {
		e.add("fail", "run 'cloudmls setup'", "this device is not signed in: %v", err)
		return false
	}
	return true
}

func (e *examination) certificate(g *config.Gateway) {
	if g.Listen.TLS != "implicit" {
		e.add("warn", "set tls = \"implicit\" in [listen]", "mail clients connect without TLS: other programs on this machine could listen in their place")
		return
	}
	pair, err := localtls.Load(filepath.Join(g.DataDir, "tls"), time.Now())
	switch {
	case err != nil:
		e.add("fail", "cloudmls cert renew, then let the mail clients trust the new one", "certificate for mail clients: %v", err)
	case time.Until(pair.NotAfter) < localtls.RenewBefore:
		e.add("warn", "cloudmls cert renew, then let the mail clients trust the new one", "certificate for mail clients ends on %s", day(pair.NotAfter))
	default:
		e.ok("certificate for mail clients is good until %s (%s)", day(pair.NotAfter), pair.AuthorityFile)
	}
}

// gateway examines the running gateway, and reports whether one runs.
func (e *examination) gateway(ctx context.Context, g *config.Gateway) bool {
	s, err := control.Dial(ctx, controlSocket(g))
	if errors.Is(err, control.ErrNotRunning) {
		e.add("warn", "cloudmls run, or for good: cloudmls service install", "no gateway is running")
		for _, addr := range []string{g.Listen.IMAP, g.Listen.SMTP} {
			if ln, err := net.Listen("tcp", addr); err != nil {
				e.add("fail", "end that program, or choose another port: cloudmls setup --listen-imap ... --listen-smtp ...", "another program uses %s: %v", addr, err)
			} else if err := ln.Close(); err != nil {
				e.add("warn", "", "%s: %v", addr, err)
			}
		}
		return false
	}
	if err != nil {
		e.add("fail", "", "the running gateway does not answer: %v", err)
		return true
	}
	status, err := s.Status(ctx)
	if err := errors.Join(err, s.Close()); err != nil {
		e.add("fail", "", "the running gateway: %v", err)
		return true
	}
	e.ok("the gateway runs since %s (%s)", status.Started.Local().Format("2006-01-02 15:04"), status.Version)
	if status.Version != version() {
		e.add("warn", "restart the gateway", "it is not the version of this program (%s)", version())
	}
	for _, a := range status.Accounts {
		for _, p := range a.Problems {
			e.add("fail", "", "%s: %s", a.Address, problemText(a.Address, p))
		}
		if f := a.KeyServer.LastError; a.KeyServer.Failing && f != nil {
			e.add("fail", faultHint(a.Address, f), "%s: %s", a.Address, f.Text)
		}
	}
	return true
}

// keyServer examines the key server, and reports whether it is there.
func (e *examination) keyServer(ctx context.Context, g *config.Gateway) bool {
	remote, err := device.Remote(g)
	if err != nil {
		e.add("fail", "", "key server: %v", err)
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	info, err := remote.Server(ctx)
	if err != nil {
		next := "is the address right, and is this machine online? Reading goes on without it; nothing can be sent until it answers"
		if g.KeyServer.Local != "" {
			next = "it runs while the gateway runs: cloudmls run"
		}
		e.add("fail", next, "key server %s: %v", g.KeyServer.URL, err)
		return false
	}
	if strings.TrimSuffix(info.Origin, "/") != strings.TrimSuffix(g.KeyServer.Origin, "/") {
		e.add("fail", "do not go on: this is not the key server of this device", "key server %s calls itself %s, expected %s", g.KeyServer.URL, info.Origin, g.KeyServer.Origin)
		return false
	}
	e.ok("key server %s answers", g.KeyServer.URL)
	if skew, ok := clockSkew(ctx, g); ok && skew.Abs() > skewLimit {
		e.add("warn", "set the clock of this machine", "this machine's clock and the key server's differ by %s", skew.Round(time.Second))
	}
	return true
}

// session asks the key server as this device, where no gateway does.
func (e *examination) session(c *cobra.Command, g *config.Gateway, ask func(bool) (secret.Secret, error)) {
	d, err := device.Open(g, device.Options{Passphrase: ask, Logger: newLogger(c.ErrOrStderr(), g.Log)})
	if err != nil {
		e.add("fail", "", "the device's store: %v", err)
		return
	}
	client, err := d.Resume(c.Context())
	if err == nil {
		_, err = client.Devices(c.Context())
		err = errors.Join(err, client.Close())
	}
	switch err = errors.Join(err, d.Close()); {
	case errors.Is(err, cloudmls.ErrSignedOut), errors.Is(err, cloudmls.ErrNewDevice):
		e.add("fail", "cloudmls setup --sign-in", "this device is signed out of the key server")
	case err != nil:
		e.add("fail", "", "the key server does not answer this device: %v", err)
	default:
		e.ok("this device is signed in as %s", g.User.Name)
	}
}

// askedOnce keeps the answer to a question that is asked twice.
func askedOnce(ask func(bool) (secret.Secret, error)) func(bool) (secret.Secret, error) {
	var s secret.Secret
	var err error
	asked := false
	return func(newOne bool) (secret.Secret, error) {
		if !asked {
			s, err = ask(newOne)
			asked = true
		}
		return s, err
	}
}

// clockSkew compares the clock with the Date field of an answer.
func clockSkew(ctx context.Context, g *config.Gateway) (time.Duration, bool) {
	tlsConfig, err := device.Trust(g.KeyServer.CAFile)
	if err != nil {
		return 0, false
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, g.KeyServer.URL, nil)
	if err != nil {
		return 0, false
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: tlsConfig, Proxy: http.ProxyFromEnvironment}}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return 0, false
	}
	_ = resp.Body.Close() // nothing of it is needed
	at, err := http.ParseTime(resp.Header.Get("Date"))
	return time.Since(at), err == nil
}

func (e *examination) account(ctx context.Context, v *vault.Vault, a config.Account) {
	configured, stored, err := device.Clients(v, a)
	switch {
	case err != nil:
		e.add("fail", "", "%s: %v", a.Address, err)
	case len(configured)+len(stored) == 0:
		e.add("fail", "cloudmls client add mail --account "+a.Address, "%s: no mail program may log in", a.Address)
	default:
		e.ok("%s: %s may log in", a.Address, strings.Join(append(configured, stored...), ", "))
	}
	var passwords [2]secret.Secret
	for i, s := range []struct {
		server device.Server
		p      config.Provider
	}{{device.IMAP, a.IMAP}, {device.SMTP, a.SMTP}} {
		text, err := device.ProviderPassword(v, a.Address, s.server, s.p)(ctx)
		if err != nil {
			e.add("fail", "cloudmls account password "+a.Address, "%s: %v", a.Address, err)
			return
		}
		passwords[i] = secret.New([]byte(text))
	}
	if e.offline {
		return
	}
	if err := checkProvider(ctx, a, passwords[0], passwords[1]); err != nil {
		next := ""
		if passwordRefused(err) {
			next = "cloudmls account password " + a.Address
		}
		e.add("fail", next, "%s: %v", a.Address, err)
		return
	}
	e.ok("%s: login at %s and %s", a.Address, a.IMAP.Host, a.SMTP.Host)
}
