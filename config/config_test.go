package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

const hash = "1f9d2c4b8a7e6f5d4c3b2a1908f7e6d5c4b3a29180f7e6d5c4b3a2918f7e6d5c"

var minimal = `data_dir = "/var/lib/x"

[keyserver]
url = "https://Keys.example.org/"

[user]
name = "alice"

[[accounts]]
address = "alice@example.org"

[accounts.imap]
host = "imap.example.org"

[accounts.smtp]
host = "127.0.0.1"
tls = "none"
port = 2525
username = "al"

[[accounts.clients]]
name = "thunderbird"
password_sha256 = "` + hash + `"

[[accounts.clients]]
name = "mutt"
password_sha256 = "` + "A" + hash[1:] + `"
`

func TestDefaults(t *testing.T) {
	g, err := ParseGateway("g.toml", []byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	want := &Gateway{
		DataDir:   "/var/lib/x",
		Listen:    Listen{IMAP: "127.0.0.1:1993", SMTP: "127.0.0.1:1465", TLS: "implicit"},
		KeyServer: KeyServer{URL: "https://Keys.example.org/", Origin: "https://keys.example.org"},
		User:      User{Name: "alice"},
		Vault:     Vault{Key: "file", Credential: "cloudmls-vault-key"},
		Log:       Log{Level: "info", Format: "text"},
		Accounts: []Account{{
			Address: "alice@example.org", Policy: "prefer", Omitted: "leave-out",
			IMAP:    Provider{Host: "imap.example.org", Port: 993, TLS: "implicit", Username: "alice@example.org"},
			SMTP:    Provider{Host: "127.0.0.1", Port: 2525, TLS: "none", Username: "al"},
			Clients: []Client{{"thunderbird", hash}, {"mutt", "a" + hash[1:]}},
		}},
	}
	if !reflect.DeepEqual(g, want) {
		t.Errorf("got  %+v\nwant %+v", g, want)
	}
}

// wantProblems compares the lines of an error with the wanted beginnings.
func wantProblems(t *testing.T, err error, want ...string) {
	t.Helper()
	var ps Problems
	if !errors.As(err, &ps) {
		t.Fatalf("err = %v, want Problems", err)
	}
	got := strings.Split(ps.Error(), "\n")
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(want):
			t.Errorf("unexpected: %s", got[i])
		case i >= len(got):
			t.Errorf("missing: %s", want[i])
		case !strings.HasPrefix(got[i], want[i]):
			t.Errorf("got  %s\nwant %s", got[i], want[i])
		}
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	const bad = `data_dirs = "/x"
listen.imap = "0.0.0.0:1993"
listen.smtp = "127.0.0.1:0"
listen.tls = "ssl"

[keyserver]
url = "http://keys.example.org"
origin = "https://keys.example.org/path?x"

[user]
password = "CANARY"
password_file = "relative"
password_env = "A B"

[vault]
key = "keyring"
passphrase_file = "p"
passphrase_env = "A-B"
credential = "../x"

[log]
level = "verbose"

[[accounts]]
address = "not an address"
policy = "always"
known_lists = ["a"]
recipients = { "bob" = "require", "carol@example.net" = "sometimes" }

[accounts.domains]
"a@b" = "require"

[accounts.imap]
hots = "imap.example.org"
port = 70000

[accounts.smtp]
host = "smtp.example.org"
tls = "none"

[[accounts.clients]]
name = "x"
password_sha256 = "CANARY"

[[accounts.clients]]
name = "x"
password_sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

[[accounts]]
address = "NOT an address"
imap = { host = "h", tls = "starttls" }
smtp = { host = "h", prot = 25 }

[colours]
red = 1
`
	_, err := ParseGateway("g.toml", []byte(bad))
	wantProblems(t, err,
		"g.toml: data_dir: is required",
		"g.toml:1: data_dirs: unknown key; did you mean data_dir?",
		"g.toml:2: listen.imap: 0.0.0.0 is not a loopback address",
		"g.toml:3: listen.smtp: the port of",
		`g.toml:4: listen.tls: "ssl" is not one of implicit, none`,
		"g.toml:7: keyserver.url: without https",
		"g.toml:8: keyserver.origin: only scheme, host and port",
		"g.toml:10: user.name: is required",
		"g.toml:11: user.password: secrets do not stand in this file",
		`g.toml:12: user.password_file: "relative" is not an absolute path`,
		"g.toml:13: user.password_env: password_file is set as well",
		"g.toml:13: user.password_env: is not the name",
		`g.toml:17: vault.passphrase_file: "p" is not an absolute path`,
		`g.toml:17: vault.passphrase_file: has no effect without key = "passphrase"`,
		"g.toml:18: vault.passphrase_env: passphrase_file is set as well",
		"g.toml:18: vault.passphrase_env: is not the name",
		`g.toml:18: vault.passphrase_env: has no effect`,
		`g.toml:19: vault.credential: "../x" is not the name of a credential`,
		"g.toml:19: vault.credential: has no effect without key = \"credential\"",
		`g.toml:22: log.level: "verbose" is not one of`,
		`g.toml:25: accounts[0].address: "not an address" is not a mail address`,
		`g.toml:26: accounts[0].policy: "always" is not one of`,
		"g.toml:28: accounts[0].recipients.",
		"g.toml:28: accounts[0].recipients.",
		`g.toml:31: accounts[0].domains.a@b: "a@b" is not a domain`,
		"g.toml:33: accounts[0].imap.host: is required",
		"g.toml:34: accounts[0].imap.hots: unknown key; did you mean host?",
		"g.toml:35: accounts[0].imap.port: 70000",
		"g.toml:39: accounts[0].smtp.tls: without TLS",
		"g.toml:43: accounts[0].clients[0].password_sha256: must have 64",
		"g.toml:46: accounts[0].clients[1].name: two programs",
		"g.toml:47: accounts[0].clients[1].password_sha256: is that of the empty password",
		`g.toml:50: accounts[1].address: "NOT an address"`,
		"g.toml:50: accounts[1].address: this account is there twice",
		"g.toml:52: accounts[1].smtp.prot: unknown key; did you mean port?",
		"g.toml:54: colours: unknown key; possible are",
	)
	if strings.Contains(err.Error(), "CANARY") {
		t.Errorf("the error repeats what may be a secret:\n%v", err)
	}
}

func TestSyntaxAndTypes(t *testing.T) {
	for in, want := range map[string]string{
		"data_dir = ":   "g.toml:1: ",
		"\n\nx = [1, 2": "g.toml:3: ",
		"[[accounts]]\n[accounts.imap]\nport=\"x\"": "g.toml:3: accounts.imap.port",
		"accounts = 3":               "g.toml:1: ",
		"data_dir = 1\n":             "g.toml:1: data_dir",
		"data_dir='a'\ndata_dir='b'": "g.toml",
	} {
		_, err := ParseGateway("g.toml", []byte(in))
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "config.") {
			t.Errorf("%q: %v, want %s…", in, err, want)
		}
	}
	if _, err := ParseGateway("g.toml", make([]byte, MaxFile+1)); err == nil {
		t.Error("a huge file was accepted")
	}
}

func TestKeyServer(t *testing.T) {
	k, err := ParseKeyServer("k.toml", []byte("origin = \"https://keys.example.org\"\ndata_file = \"/d/x.db\"\nrequire_proof = [\"email\"]\n[limits]\nobjects = 7\n[mail_proof]\nrelay = \"localhost:25\"\nfrom = \"k@example.org\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := &KeyServerFile{
		Listen: "127.0.0.1:8443", Origin: "https://keys.example.org", DataFile: "/d/x.db", KeyFile: "/d/x.db.keys",
		RequireProof: []string{"email"}, Limits: Limits{Objects: 7}, Log: Log{"info", "text"},
		Store: Store{Kind: "file", Schema: "cloudmls_keyserver", MaxConnections: 16}, Registration: "open",
		MailProof: Mail{Relay: "localhost:25", TLS: "starttls", From: "k@example.org"},
	}
	if !reflect.DeepEqual(k, want) {
		t.Errorf("got  %+v\nwant %+v", k, want)
	}
	_, err = ParseKeyServer("k.toml", []byte(`listen = "0.0.0.0:443"
origin = "http://keys.example.org"
data_file = "x.db"
key_file = "x.db"
tls_key = "/k"
trusted_proxies = [
  "10.0.0.0/8",
  "10.0.0.1",
]
require_proof = ["E-Mail"]
[limits]
inbox = -1
`))
	wantProblems(t, err,
		"k.toml: tls_cert: is required together with tls_key",
		"k.toml:2: origin: without https",
		`k.toml:3: data_file: "x.db" is not an absolute path`,
		"k.toml:4: key_file: \"x.db\" is not",
		"k.toml:4: key_file: is the same file",
		"k.toml:8: trusted_proxies[1]",
		"k.toml:10: require_proof[0]",
		"k.toml:12: limits.inbox: must not be negative",
	)
	_, err = ParseKeyServer("k.toml", []byte("listen = \"0.0.0.0:443\"\norigin = \"https://x\"\ndata_file = \"/x\""))
	wantProblems(t, err, "k.toml:1: listen: without tls_cert, acme or behind_proxy it must be a loopback address")
	_, err = ParseKeyServer("k.toml", []byte("listen = \"0.0.0.0:443\"\nbehind_proxy = true\norigin = \"https://x\"\ndata_file = \"/x\""))
	wantProblems(t, err, "k.toml:2: behind_proxy: trusted_proxies must name")
	if b, err := os.ReadFile("../examples/keyserver/keyserver.toml"); err != nil {
		t.Error(err)
	} else if _, err := ParseKeyServer("keyserver.toml", b); err != nil {
		t.Errorf("examples/keyserver: %v", err)
	}
	_, err = ParseKeyServer("k.toml", []byte(`listen = "0.0.0.0:443"
origin = "https://keys.example.org"
trusted_proxies = ["0.0.0.0/0"] # everybody
registration = "some"
roles = ["store", "post"]
tls_cert = "/c"
tls_key = "/k"
[store]
kind = "postgresql"
max_connections = -1
[acme]
enabled = true
directory = "acme.example.org"
[metrics]
listen = "9464"
[mail_proof]
dkim_domain = "example.org"
relay = "localhost:25"
`))
	wantProblems(t, err,
		"k.toml: key_file",
		"k.toml: auth.url: is required",
		"k.toml:3: trusted_proxies[0]: 0.0.0.0/0 is everybody",
		"k.toml:4: registration",
		"k.toml:5: roles[1]",
		"k.toml:8: store.dsn_file: is required",
		"k.toml:10: store.max_connections",
		"k.toml:12: acme.enabled: tls_cert is set as well",
		"k.toml:13: acme.directory",
		"k.toml:15: metrics.listen",
		"k.toml:16: mail_proof.from: is required",
		"k.toml:16: mail_proof.dkim_selector: is required",
		"k.toml:16: mail_proof.dkim_key_file: is required",
	)
	k, err = ParseKeyServer("k.toml", []byte("listen = \"0.0.0.0:443\"\norigin = \"https://x.org\"\nkey_file = \"/e/k\"\n[acme]\nenabled = true\n[store]\nkind = \"postgresql\"\ndsn_env = \"DSN\""))
	if err != nil || k.ACME.CacheDir != "/e/acme" || k.DataFile != "" {
		t.Errorf("PostgreSQL and ACME: %+v, %v", k, err)
	}
}

func TestReference(t *testing.T) {
	g, err := ParseGateway("reference", []byte(GatewayReference()))
	if err != nil {
		t.Fatalf("the gateway's reference does not parse:\n%v", err)
	}
	if len(g.Accounts) != 1 || len(g.Accounts[0].Clients) != 1 || g.Accounts[0].SMTP.Port != 465 {
		t.Errorf("reference = %+v", g)
	}
	if _, err := ParseKeyServer("reference", []byte(KeyServerReference())); err != nil {
		t.Errorf("the key server's reference does not parse:\n%v", err)
	}
	for name, text := range map[string]string{"gateway.toml": GatewayReference(), "keyserver.toml": KeyServerReference()} {
		file := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		golden, err := os.ReadFile(file)
		if err != nil || string(golden) != text {
			t.Errorf("%s is not the reference (%v); run go test -update ./config", file, err)
		}
		// Uncommented, every line still parses.
		all := ""
		for line := range strings.Lines(text) {
			rest := strings.TrimPrefix(line, "# ")
			key, _, isKey := strings.Cut(rest, " = ")
			if isKey && !strings.Contains(key, " ") {
				line = rest
			}
			all += line
		}
		switch name {
		case "gateway.toml":
			_, err = ParseGateway(name, []byte(all))
		default:
			_, err = ParseKeyServer(name, []byte(all))
		}
		if err != nil {
			t.Errorf("%s with every line in force: %v", name, err)
		}
	}
}

// Every field is documented, and its default is one that its type can hold.
func TestFieldsAreDocumented(t *testing.T) {
	var walk func(rt reflect.Type)
	walk = func(rt reflect.Type) {
		for rt.Kind() == reflect.Slice {
			rt = rt.Elem()
		}
		if rt.Kind() != reflect.Struct {
			return
		}
		for i := range rt.NumField() {
			f := rt.Field(i)
			doc := f.Tag.Get("doc")
			if f.Tag.Get("toml") == "" || !strings.HasSuffix(doc, ".") {
				t.Errorf("%s.%s: toml %q, doc %q", rt.Name(), f.Name, f.Tag.Get("toml"), doc)
			}
			if text, ok := f.Tag.Lookup("default"); ok && text != "false" {
				v := reflect.New(f.Type).Elem()
				setText(v, text)
				if v.IsZero() {
					t.Errorf("%s.%s: default %q has no effect", rt.Name(), f.Name, text)
				}
			}
			if name := strings.ToLower(f.Name); strings.Contains(name, "password") &&
				!strings.HasSuffix(name, "file") && !strings.HasSuffix(name, "env") && !strings.HasSuffix(name, "sha256") {
				t.Errorf("%s.%s would hold a secret", rt.Name(), f.Name)
			}
			walk(f.Type)
		}
	}
	walk(reflect.TypeFor[Gateway]())
	walk(reflect.TypeFor[KeyServerFile]())
}

func TestLoad(t *testing.T) {
	name := filepath.Join(t.TempDir(), "g.toml")
	if err := os.WriteFile(name, []byte("\ufeff"+minimal), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadGateway(name); err != nil {
		t.Error(err)
	}
	if _, err := LoadGateway(name + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("err = %v, want os.ErrNotExist", err)
	}
	if _, err := LoadKeyServer(name); err == nil || !strings.Contains(err.Error(), name+":1: data_dir: unknown key; possible are listen, origin") {
		t.Errorf("err = %v", err)
	}
}

func TestDeepNestingIsCheap(t *testing.T) {
	for _, in := range []string{
		"x = " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000),
		strings.Repeat("a.", 40_000) + "a = 1",
		"[" + strings.Repeat("a.", 40_000) + "a]",
		"x = " + strings.Repeat("{a=", 9000) + "1" + strings.Repeat("}", 9000),
	} {
		if _, err := ParseGateway("g.toml", []byte(in)); err == nil || len(err.Error()) > 10_000 {
			t.Errorf("%.20q: %d octets of error", in, len(err.Error()))
		}
	}
}

func TestClosest(t *testing.T) {
	names := []string{"host", "port", "tls", "username", "password_file", "password_env", "ca_file"}
	for in, want := range map[string]string{
		"hots": "host", "prot": "port", "TLS": "tls", "user_name": "username", "passwordfile": "password_file", "cafile": "ca_file",
		"colour": "", "": "", strings.Repeat("x", 200): "",
	} {
		if got := closest(in, names); got != want {
			t.Errorf("closest(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzGateway(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add([]byte(GatewayReference()))
	f.Add([]byte("[[accounts]]\nrecipients={a={b=1}}\nclients=[{name='x'},{}]\n[[accounts.clients]]"))
	f.Add([]byte("a.b.c=1\n[a.b]\n[[x]]\n[x.y]\n[[x.z]]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		check(t, b, func() error { _, err := ParseGateway("f", b); return err })
	})
}

func FuzzKeyServer(f *testing.F) {
	f.Add([]byte(KeyServerReference()))
	f.Add([]byte("trusted_proxies=[[],{}]\nlimits={objects=1}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		check(t, b, func() error { _, err := ParseKeyServer("f", b); return err })
	})
}

func check(t *testing.T, b []byte, parse func() error) {
	err := parse()
	if err == nil {
		return
	}
	var ps Problems
	if !errors.As(err, &ps) || len(ps) == 0 {
		t.Fatalf("err = %v, want Problems", err)
	}
	for _, p := range ps {
		if p.Line < 0 || p.Line > strings.Count(string(b), "\n")+1 || p.Text == "" {
			t.Fatalf("problem %+v", p)
		}
	}
}

// TestMissingQuotesAreSaid: what people leave out most often.
func TestMissingQuotesAreSaid(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"[listen]\nimap = 127.0.0.1:1993\n":       true,
		"data_dir = /home/alice\n":                true,
		"data_dir = \"/home/alice\n":              false,
		"[listen]\nimap = \"127.0.0.1:1993\" x\n": false,
		"[listen\n": false,
	} {
		_, err := ParseGateway("gateway.toml", []byte(text))
		if err == nil || strings.Contains(err.Error(), `a text stands in quotes`) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}
