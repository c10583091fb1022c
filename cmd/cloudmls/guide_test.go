package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/device"
	"github.com/cloudmls/gateway/internal/mailtest"
)

const guides = "../../docs/guide"

// TestGuides runs every command of the guides, in order: each line of each
// block marked "sh". What stands in comments is run as it is:
//
//	<!-- test          lines of a script, before the next block
//	<!-- test-instead  the same, in place of the next block; the first line says why
//
// The people of the guides have their mail at example.org; a script in front of
// the program puts the addresses of the test's servers in.
func TestGuides(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(guides, "*.md"))
	if err != nil || len(files) < 5 {
		t.Fatalf("guides: %v, %v", files, err)
	}
	dir := t.TempDir()
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		script, commands, err := guideScript(string(text))
		if err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		if commands == 0 && filepath.Base(f) != "README.md" {
			t.Errorf("%s: no command was found", f)
		}
		name := strings.TrimSuffix(filepath.Base(f), ".md") + ".txt"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	testscript.Run(t, testscript.Params{
		Dir: dir,
		Setup: func(e *testscript.Env) error {
			people := []mailtest.User{
				{Address: "alice@example.org", Password: "secret-alice"}, {Address: "alice.work@example.org", Password: "secret-work"},
				{Address: "bob@example.org", Password: "secret-bob"},
			}
			return guideEnvironment(e, people)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"ready": ready, "serving": serving, "submit": submit},
	})
}

var guidePart = regexp.MustCompile("(?ms)^<!-- (test-instead|test)\\b([^\n]*)\n(.*?)^-->$|^```(\\w*)\n(.*?)^```$")

// guideBegin starts the key server before anything else.
const guideBegin = `exec sh -c 'chmod 600 *.mail *.user *.new *.third *.secrets *.pass'
exec $PROGRAM keyserver --config keyserver.toml &keys&
serving $KEYS
`

// guideScript makes a script of a guide.
func guideScript(text string) (script string, commands int, err error) {
	var b strings.Builder
	b.WriteString(guideBegin)
	instead := false
	for _, m := range guidePart.FindAllStringSubmatch(text, -1) {
		comment, lines, kind, block := m[1], m[3], m[4], m[5]
		switch {
		case comment != "":
			instead = comment == "test-instead"
			b.WriteString(lines)
		case kind == "sh" && instead:
			instead = false
			commands++
		case kind == "sh":
			for _, l := range strings.Split(strings.TrimSpace(strings.ReplaceAll(block, "\\\n", " ")), "\n") {
				if strings.Contains(l, "'") {
					return "", 0, fmt.Errorf("a quote in %q: the test cannot pass it on", l)
				}
				fmt.Fprintf(&b, "exec sh -c '%s'\n", l)
				commands++
			}
		case instead:
			return "", 0, fmt.Errorf("test-instead before a block of kind %q", kind)
		}
	}
	return b.String(), commands, nil
}

// guideEnvironment is scriptEnvironment with files that the guides speak of.
func guideEnvironment(e *testscript.Env, people []mailtest.User) error {
	if err := scriptEnvironment(e, people); err != nil {
		return err
	}
	yes := "y\n"
	for name, text := range map[string]string{
		"alice.mail": "secret-alice\n", "work.mail": "secret-work\n", "bob.mail": "secret-bob\n",
		"alice.user": "correct horse battery staple\n", "bob.user": "bobs long password\n", "alice.new": "another fine long password\n",
		"alice.third": "a third long password\n", "vault.pass": "open sesame, but longer\n",
		"both.secrets":  "secret-alice\ncorrect horse battery staple\n",
		"yes.answers":   yes,
		"register.tmpl": registerTemplate,
		// address, provider's password, key server, user, not known there, new password twice
		"quickstart.answers": "alice@example.org\nsecret-alice\n" + e.Getenv("KEYSERVER") + "\nalice\nn\ncorrect horse battery staple\ncorrect horse battery staple\n",
	} {
		if err := os.WriteFile(filepath.Join(e.WorkDir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	bin := filepath.Join(e.WorkDir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		return err
	}
	program, err := findProgram(e)
	if err != nil {
		return err
	}
	e.Setenv("PROGRAM", program)
	if err := os.WriteFile(filepath.Join(bin, "cloudmls"), []byte(wrapper), 0o700); err != nil {
		return err
	}
	e.Setenv("PATH", bin+string(os.PathListSeparator)+e.Getenv("PATH"))
	return nil
}

// registerTemplate is a gateway's configuration that was written by hand.
const registerTemplate = `data_dir = "WORK/alice"
[keyserver]
url = "KEYSERVER"
[user]
name = "alice"
password_file = "WORK/alice.user"
[[accounts]]
address = "alice@example.org"
[accounts.imap]
host = "mail.example.org"
[accounts.smtp]
host = "mail.example.org"
`

// wrapper stands in for finding the provider and for the key server's name.
const wrapper = `#!/bin/sh
n=$#
setup=$1
while [ $n -gt 0 ]; do
    a=$1; shift
    [ "$a" = https://keys.example.org ] && a=$KEYSERVER
    set -- "$@" "$a"
    n=$((n - 1))
done
if [ "$setup" = setup ]; then
    set -- "$@" --imap "$PROVIDER_IMAP" --smtp "$PROVIDER_SMTP" --smtp-tls implicit --imap-ca "$PROVIDER_CA" --smtp-ca "$PROVIDER_CA"
fi
exec "$PROGRAM" "$@"
`

// findProgram finds the program that testscript has put into PATH.
func findProgram(e *testscript.Env) (string, error) {
	for _, dir := range filepath.SplitList(e.Getenv("PATH")) {
		name := filepath.Join(dir, "cloudmls")
		if _, err := os.Stat(name); err == nil {
			return name, nil
		}
	}
	return "", fmt.Errorf("the program is not in %s", e.Getenv("PATH"))
}

// submit sends a message as a mail client does:
// submit CONFIG FROM PASSWORD-FILE TO
func submit(ts *testscript.TestScript, _ bool, args []string) {
	g, err := config.LoadGateway(ts.MkAbs(args[0]))
	ts.Check(err)
	tlsConfig, err := device.Trust(filepath.Join(g.DataDir, "tls", "ca.pem"))
	ts.Check(err)
	tlsConfig.ServerName = "localhost"
	conn, err := tls.Dial("tcp", g.Listen.SMTP, tlsConfig)
	ts.Check(err)
	c := smtp.NewClient(conn)
	password := strings.TrimSpace(ts.ReadFile(args[2]))
	ts.Check(c.Auth(sasl.NewPlainClient("", args[1], password)))
	letter := fmt.Sprintf("From: %s\r\nTo: %s\r\nDate: Mon, 23 Nov 2026 10:00:00 +0100\r\nMessage-ID: <guide@example.org>\r\nSubject: hello\r\n\r\nHello.\r\n", args[1], args[3])
	ts.Check(c.SendMail(args[1], []string{args[3]}, bytes.NewReader([]byte(letter))))
	ts.Check(c.Quit())
}
