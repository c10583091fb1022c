package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestNewGatewayFile(t *testing.T) {
	g := &Gateway{
		DataDir: "/home/al ice/\"x\"", KeyServer: KeyServer{URL: "https://keys.example.org"}, User: User{Name: "alice"},
		Vault: Vault{Key: "keyring"}, Log: Log{Level: "info", Format: "json"},
		Accounts: []Account{{
			Address: "alice@example.org", Recipients: map[string]string{"b@c.d": "never", "a@b": "require"},
			IMAP: Provider{Host: "imap.example.org", Port: 993, TLS: "implicit"}, SMTP: Provider{Host: "smtp.example.org", TLS: "starttls"},
			Clients: []Client{{"thunderbird", hash}},
		}},
	}
	before := *g
	b, err := NewGatewayFile(g)
	if err != nil {
		t.Fatal(err)
	}
	const want = `# The CloudMLS gateway. All keys: cloudmls config reference gateway

data_dir = "/home/al ice/\"x\""

# Where mail programs connect.
[listen]
imap = "127.0.0.1:1993"
smtp = "127.0.0.1:1465"

# The key server that holds the sealed state.
[keyserver]
url = "https://keys.example.org"

# The login at the key server.
[user]
name = "alice"

# Where the key lies that seals everything in data_dir.
[vault]
key = "keyring"

# What is logged.
[log]
format = "json"

# A mail account. Without password_file and password_env its passwords lie
# in the vault.
[[accounts]]
address = "alice@example.org"

[accounts.recipients]
"a@b" = "require"
"b@c.d" = "never"

[accounts.imap]
host = "imap.example.org"
port = 993

[accounts.smtp]
host = "smtp.example.org"
tls = "starttls"

[[accounts.clients]]
name = "thunderbird"
password_sha256 = "` + hash + `"
`
	if string(b) != want {
		t.Errorf("got\n%s\nwant\n%s", b, want)
	}
	if !reflect.DeepEqual(*g, before) {
		t.Error("the argument was changed")
	}
	// A parsed configuration, with its defaults, makes the same file but for
	// what was completed.
	parsed, err := ParseGateway("g", b)
	if err != nil {
		t.Fatal(err)
	}
	again, err := NewGatewayFile(parsed)
	if err != nil || !strings.Contains(string(again), "port = 587") {
		t.Errorf("%s, %v", again, err)
	}
	g.Accounts[0].SMTP.Host = ""
	if b, err := NewGatewayFile(g); err == nil || b != nil || !strings.Contains(err.Error(), "accounts[0].smtp.host: is required") {
		t.Errorf("err = %v", err)
	}
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "new", "g.toml")
	if err := WriteFile(name, nil, []byte("one")); err != nil {
		t.Fatal(err)
	}
	says := func(name, want string, mode os.FileMode) {
		t.Helper()
		b, err := os.ReadFile(name)
		if err != nil || string(b) != want {
			t.Errorf("%s = %q, %v; want %q", name, b, err, want)
		}
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s has mode %v, %v; want %v", name, info.Mode(), err, mode)
		}
	}
	says(name, "one", 0o600)
	if info, err := os.Stat(filepath.Dir(name)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", info, err)
	}
	for label, old := range map[string][]byte{"new": nil, "other": []byte("on"), "same length": []byte("two"), "empty": {}} {
		if err := WriteFile(name, old, []byte("x")); !errors.Is(err, ErrChanged) {
			t.Errorf("%s: %v, want ErrChanged", label, err)
		}
	}
	says(name, "one", 0o600)
	if err := WriteFile(filepath.Join(dir, "gone"), []byte("x"), []byte("y")); !errors.Is(err, ErrChanged) {
		t.Errorf("a file that is gone: %v", err)
	}
	// Behind a symlink, relative and to a file that a group may read.
	if err := os.Chmod(name, 0o644); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join("new", "g.toml"), link); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(link, []byte("one"), []byte("three")); err != nil {
		t.Fatal(err)
	}
	says(name, "three", 0o640)
	if target, err := os.Readlink(link); err != nil || target != filepath.Join("new", "g.toml") {
		t.Errorf("the symlink: %q, %v", target, err)
	}
	dangling := filepath.Join(dir, "dangling")
	if err := os.Symlink("target", dangling); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(dangling, nil, []byte("four")); err != nil {
		t.Fatal(err)
	}
	says(filepath.Join(dir, "target"), "four", 0o600)
	loop := filepath.Join(dir, "loop")
	if err := os.Symlink("loop", loop); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(loop, nil, nil); err == nil {
		t.Error("a loop of symlinks was written")
	}
	if err := WriteFile(dir, nil, []byte("x")); err == nil || !strings.Contains(err.Error(), "regular") {
		t.Errorf("a folder: %v", err)
	}
	for _, d := range []string{dir, filepath.Dir(name)} {
		if left, err := filepath.Glob(filepath.Join(d, ".cloudmls-*")); err != nil || len(left) > 0 {
			t.Errorf("temporary files are left: %v, %v", left, err)
		}
	}
}

func TestDiff(t *testing.T) {
	old, err := ParseGateway("g", []byte(handWritten))
	if err != nil {
		t.Fatal(err)
	}
	if d := Diff(old, old); !d.IsEmpty() {
		t.Errorf("no difference = %+v", d)
	}
	text := edit(t, handWritten, Set("debug", "log", "level"), Set("/y", "data_dir"), Set("127.0.0.1:9", "listen", "imap"),
		Set("keyring", "vault", "key"), SetAccount("alice@example.org", "ALICE@example.org", "address"),
		SetAccount("alice@example.org", "i2", "imap", "host"), SetAccount("alice@example.org", "never", "recipients", "bob@example.net"),
		AddClient("alice@example.org", Client{"n", digest(5)}), RemoveAccount("carol@example.net"),
		AddAccount(Account{Address: "New@example.org", IMAP: Provider{Host: "h"}, SMTP: Provider{Host: "h"}}))
	now, err := ParseGateway("g", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := &Delta{
		Added: []string{"New@example.org"}, Removed: []string{"carol@example.net"},
		Changed: []AccountDelta{{"ALICE@example.org", []string{"address", "recipients", "imap.host", "imap.username", "smtp.username", "clients"}}},
		Reload:  []string{"log.level"}, Restart: []string{"data_dir", "listen.imap", "vault.key"},
	}
	if d := Diff(old, now); !reflect.DeepEqual(d, want) {
		t.Errorf("got  %+v\nwant %+v", d, want)
	}
	// Every key outside the accounts is one or the other.
	var walk func(v reflect.Value)
	changed := *old
	walk = func(v reflect.Value) {
		for i := range v.NumField() {
			switch f := v.Field(i); f.Kind() {
			case reflect.Struct:
				walk(f)
			case reflect.String:
				was := f.String()
				f.SetString(was + "x")
				if d := Diff(old, &changed); len(d.Reload)+len(d.Restart) != 1 {
					t.Errorf("%s.%s: %+v", v.Type().Name(), v.Type().Field(i).Name, d)
				}
				f.SetString(was)
			}
		}
	}
	walk(reflect.ValueOf(&changed).Elem())
}

func TestDefaultPaths(t *testing.T) {
	for _, c := range []struct {
		goos string
		env  map[string]string
		want string
	}{
		{"linux", map[string]string{"HOME": "/h"}, "/h/.config/cloudmls"},
		{"linux", map[string]string{"HOME": "/h", "XDG_CONFIG_HOME": "/c"}, "/c/cloudmls"},
		{"linux", map[string]string{"HOME": "/h", "XDG_CONFIG_HOME": "c"}, "/h/.config/cloudmls"},
		{"linux", nil, ""},
		{"darwin", map[string]string{"HOME": "/h", "XDG_CONFIG_HOME": "/c"}, "/h/Library/Application Support/cloudmls"},
		{"darwin", nil, ""},
		{"windows", map[string]string{"AppData": "/a", "HOME": "/h"}, "/a/cloudmls"},
		{"windows", map[string]string{"HOME": "/h"}, ""},
	} {
		got, err := userDir(c.goos, func(k string) string { return c.env[k] }, folders{"XDG_CONFIG_HOME", ".config", "AppData"})
		if got != filepath.FromSlash(c.want) || (err == nil) != (c.want != "") {
			t.Errorf("%s %v = %q, %v; want %q", c.goos, c.env, got, err, c.want)
		}
	}
	env := func(string) string { return t.TempDir() }
	file, err1 := DefaultGatewayFile(env)
	dir, err2 := DefaultDataDir(env)
	if errors.Join(err1, err2) != nil || filepath.Base(file) != "gateway.toml" || filepath.Base(dir) != "cloudmls" {
		t.Errorf("%q %v, %q %v", file, err1, dir, err2)
	}
}
