package config

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const handWritten = `# my gateway
data_dir = '/var/lib/x' # keep

listen = { imap = "127.0.0.1:1", smtp = "127.0.0.1:2" }  # odd ports

keyserver.url = "https://keys.example.org"

  [ user ]   # me
  name = """
alice"""

# the first
[[accounts]]
address = "Alice@example.org"
imap.host = "imap.example.org"   # by IPv6
"smtp" = {host="smtp.example.org",tls="starttls"}
known_lists = [
  "a", # comment with ] and "
  "b",
]
# policy = "never"

[accounts.recipients]
"bob@example.net" = 'require' # Bob

# the second
[[accounts]]
	address = "carol@example.net"
	clients = [ { name = "x", password_sha256 = "` + hash + `" } , ]
	[accounts.imap]
	host = "h"
	# the third line of it
	[accounts.smtp]
	host = "h"

# the end`

func edit(t *testing.T, old string, changes ...Change) string {
	t.Helper()
	b, err := EditGateway([]byte(old), changes...)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestEditKeepsTheRest gives each change together with the one place of the
// text that it may touch.
func TestEditKeepsTheRest(t *testing.T) {
	const other = "0f9d2c4b8a7e6f5d4c3b2a1908f7e6d5c4b3a29180f7e6d5c4b3a2918f7e6d5c"
	for name, c := range map[string]struct {
		change   Change
		old, new string
	}{
		"a key in place":          {Set("/srv/x", "data_dir"), `'/var/lib/x' # keep`, `"/srv/x" # keep`},
		"inline":                  {Set("127.0.0.1:3", "listen", "smtp"), `"127.0.0.1:2"`, `"127.0.0.1:3"`},
		"a new key inline":        {Set("none", "listen", "tls"), `"127.0.0.1:2" }`, `"127.0.0.1:2", tls = "none" }`},
		"dotted":                  {Set("/ca.pem", "keyserver", "ca_file"), "org\"\n\n  [ user", "org\"\nkeyserver.ca_file = \"/ca.pem\"\n\n  [ user"},
		"several lines":           {Set("bob", "user", "name"), "\"\"\"\nalice\"\"\"", `"bob"`},
		"a new key in a table":    {Set("PW", "user", "password_env"), "alice\"\"\"\n", "alice\"\"\"\n  password_env = \"PW\"\n"},
		"a new table":             {Set("keyring", "vault", "key"), "# the first\n", "[vault]\nkey = \"keyring\"\n\n# the first\n"},
		"account, dotted":         {SetAccount("alice@example.org", 144, "imap", "port"), "# by IPv6\n", "# by IPv6\nimap.port = 144\n"},
		"account, inline":         {SetAccount("alice@example.org", "implicit", "smtp", "tls"), `tls="starttls"`, `tls="implicit"`},
		"account, new key inline": {SetAccount("alice@example.org", 77, "smtp", "port"), `"starttls"}`, `"starttls", port = 77}`},
		"a list":                  {SetAccount("alice@example.org", []string{"c"}, "known_lists"), "[\n  \"a\", # comment with ] and \"\n  \"b\",\n]", `["c"]`},
		"map, in place":           {SetAccount("alice@example.org", "never", "recipients", "bob@example.net"), `'require'`, `"never"`},
		"map, new":                {SetAccount("alice@example.org", "never", "recipients", "x@y.z"), "# Bob\n", "# Bob\n\"x@y.z\" = \"never\"\n"},
		"map, new table":          {SetAccount("alice@example.org", "never", "domains", "y.z"), "# Bob\n", "# Bob\n\n[accounts.domains]\n\"y.z\" = \"never\"\n"},
		"second account": {SetAccount("carol@example.net", "u", "smtp", "username"), "[accounts.smtp]\n\thost = \"h\"\n",
			"[accounts.smtp]\n\thost = \"h\"\n\tusername = \"u\"\n"},
		"unset":               {Unset("listen", "smtp"), `, smtp = "127.0.0.1:2"`, ``},
		"unset, first":        {Unset("listen", "imap"), `imap = "127.0.0.1:1", `, ``},
		"unset a line":        {UnsetAccount("alice@example.org", "recipients", "bob@example.net"), "\"bob@example.net\" = 'require' # Bob\n", ""},
		"unset what is not":   {UnsetAccount("alice@example.org", "imap", "ca_file"), "", ""},
		"remove an account":   {RemoveAccount("alice@example.ORG"), handWritten[strings.Index(handWritten, "# the first"):strings.Index(handWritten, "# the second")], ""},
		"remove the last":     {RemoveAccount("carol@example.net"), handWritten[strings.Index(handWritten, "# the second"):strings.Index(handWritten, "# the end")], ""},
		"a client, inline":    {AddClient("carol@example.net", Client{"y", other}), `hash" }`, ``},
		"remove a client":     {RemoveClient("carol@example.net", "x"), ` { name = "x", password_sha256 = "` + hash + `" } , `, `   `},
		"a client, new":       {AddClient("alice@example.org", Client{"y", other}), "# Bob\n", "# Bob\n\n[[accounts.clients]]\nname = \"y\"\npassword_sha256 = \"" + other + "\"\n"},
		"an account":          {AddAccount(Account{Address: "d@e", IMAP: Provider{Host: "i"}, SMTP: Provider{Host: "s", Port: 5}}), "# the end", "# the end\n\n[[accounts]]\naddress = \"d@e\"\n\n[accounts.imap]\nhost = \"i\"\n\n[accounts.smtp]\nhost = \"s\"\nport = 5\n"},
		"a text that escapes": {Set("a\"b\\c\nd\x01\u00e9", "user", "name"), "\"\"\"\nalice\"\"\"", `"a\"b\\c\nd\u0001é"`},
	} {
		if name == "a client, inline" {
			c.old = `"` + hash + `" }`
			c.new = c.old + `, { name = "y", password_sha256 = "` + other + `" }`
		}
		for _, crlf := range []bool{false, true} {
			old := handWritten
			if crlf {
				old = strings.ReplaceAll(handWritten, "\n", "\r\n")
				c.old, c.new = strings.ReplaceAll(c.old, "\n", "\r\n"), strings.ReplaceAll(c.new, "\n", "\r\n")
			}
			if strings.Count(old, c.old) == 0 {
				t.Fatalf("%s: %q is not there", name, c.old)
			}
			want := strings.Replace(old, c.old, c.new, 1)
			b, err := EditGateway([]byte(old), c.change)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			} else if string(b) != want {
				t.Errorf("%s (CRLF %v): got\n%q\nwant\n%q", name, crlf, b, want)
			}
		}
	}
}

// What stands directly above the next header belongs to that.
func TestRemoveKeepsTheNextComment(t *testing.T) {
	second := "# second\n[[accounts]]\naddress = \"b@c\"\nimap.host = \"h\"\nsmtp.host = \"h\"\n"
	if got, want := edit(t, minimal+"# port = 1\n\n# alone\n\n"+second, RemoveAccount("alice@example.org")), minimal[:strings.Index(minimal, "[[accounts]]")]+"# alone\n\n"+second; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got, want := edit(t, minimal+second, RemoveAccount("alice@example.org")), minimal[:strings.Index(minimal, "[[accounts]]")]+second; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got, want := edit(t, minimal+second, AddClient("alice@example.org", Client{"n", digest(1)})), minimal+"\n[[accounts.clients]]\nname = \"n\"\npassword_sha256 = \""+digest(1)+"\"\n"+second; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestEditRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		old    string
		change Change
		want   string
	}{
		"syntax":           {"data_dir = ", Set("/x", "data_dir"), "changed configuration:1:"},
		"no such key":      {handWritten, Set("x", "listen", "imaps"), `there is no key "imaps"`},
		"no such account":  {handWritten, SetAccount("x@y", "x", "policy"), "there is no account x@y"},
		"a table":          {handWritten, Set("x", "listen"), "does not name a single value"},
		"accounts":         {handWritten, Set("x", "accounts", "address"), "does not name a single value"},
		"type":             {handWritten, SetAccount("carol@example.net", "993", "imap", "port"), "the value is a string, not a int"},
		"not a value":      {handWritten, Set(nil, "data_dir"), "a value is missing"},
		"value":            {handWritten, Set("0.0.0.0:5", "listen", "imap"), "listen.imap: 0.0.0.0 is not a loopback"},
		"UTF-8":            {handWritten, Set("/\xff", "data_dir"), "not valid UTF-8"},
		"required":         {handWritten, Unset("data_dir"), "data_dir: is required"},
		"twice":            {handWritten, AddAccount(Account{Address: "carol@example.net"}), "this account is there twice"},
		"last account":     {minimal, RemoveAccount("alice@example.org"), "at least one account is required"},
		"no such client":   {handWritten, RemoveClient("carol@example.net", "z"), `no mail program "z"`},
		"other spelling":   {strings.Replace(minimal, "[[accounts]]", "Data_Dir = 1\n[[accounts]]", 1), Set("/x", "data_dir"), ""},
		"key there twice":  {"DATA_DIR = '/a'\n" + minimal, Set("/x", "data_dir"), "the key is there twice"},
		"accounts spelled": {strings.Replace(minimal, "[[accounts]]", "[[Accounts]]", 1), AddAccount(Account{Address: "b@c", IMAP: Provider{Host: "h"}, SMTP: Provider{Host: "h"}}), "by hand"},
	} {
		old := []byte(c.old)
		b, err := EditGateway(old, c.change)
		if err == nil || b != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want …%s…", name, err, c.want)
		}
		if string(old) != c.old {
			t.Errorf("%s: the input was changed", name)
		}
	}
}

func TestEditInTurn(t *testing.T) {
	fresh := Account{Address: "new@example.com", IMAP: Provider{Host: "i"}, SMTP: Provider{Host: "s"}, Clients: []Client{{"a", strings.ToUpper(hash)}}}
	got := edit(t, minimal, AddAccount(fresh), SetAccount("new@example.com", "require", "policy"),
		SetAccount("new@example.com", "never", "recipients", "a@b"), RemoveAccount("alice@example.org"),
		RemoveClient("new@example.com", "a"), Set("passphrase", "vault", "key"), Set("/p", "vault", "passphrase_file"))
	g, err := ParseGateway("g", []byte(got))
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Accounts) != 1 || g.Accounts[0].Policy != "require" || len(g.Accounts[0].Clients) != 0 || g.Vault.PassphraseFile != "/p" {
		t.Errorf("%s", got)
	}
	if fresh.Recipients != nil || fresh.Policy != "" || fresh.Clients[0].PasswordSHA256 != strings.ToUpper(hash) {
		t.Error("the caller's account was changed")
	}
	// Two changes that cure one another.
	if _, err := EditGateway([]byte(got), Set("file", "vault", "key")); err == nil {
		t.Error("a passphrase file without effect was accepted")
	}
	edit(t, got, Set("file", "vault", "key"), Unset("vault", "passphrase_file"))
}

// author writes valid files in ever different layouts.
type author struct {
	r       *rand.Rand
	newline string
	b       strings.Builder
}

func (a *author) one(of ...string) string { return of[a.r.IntN(len(of))] }

func (a *author) line(s string) {
	if a.r.IntN(4) == 0 {
		a.b.WriteString(a.one("", "# a comment = [[x]]", "  # '\"'") + a.newline)
	}
	a.b.WriteString(a.one("", "", " ", "\t") + s + a.one("", "", " # \"behind", "\t") + a.newline)
}

func (a *author) quote(s string) string {
	return a.one(tomlString(s), "'"+s+"'", `"""`+s+`"""`, "'''"+s+"'''")
}

func (a *author) key(s string) string { return a.one(s, s, `"`+s+`"`, "'"+s+"'") }

func (a *author) pair(key, value string) string { return key + a.one("=", " = ", "  =\t") + value }

// table writes a table of plain values in one of three layouts; the header
// comes later than the pairs of the table around it.
func (a *author) table(name, path string, items [][2]string) (later func()) {
	switch a.r.IntN(3) {
	case 0:
		var all []string
		for _, it := range items {
			all = append(all, a.pair(tomlKeyed(a, it[0]), it[1]))
		}
		a.line(a.pair(a.key(name), "{"+a.one("", " ")+strings.Join(all, a.one(",", ", ", " , "))+a.one("", " ")+"}"))
	case 1:
		dotted := a.key(name)
		for _, it := range items {
			a.line(a.pair(dotted+a.one(".", " . ")+tomlKeyed(a, it[0]), it[1]))
		}
	default:
		return func() {
			a.line("[" + path + name + "]")
			for _, it := range items {
				a.line(a.pair(tomlKeyed(a, it[0]), it[1]))
			}
			if a.r.IntN(2) == 0 {
				a.b.WriteString(a.newline)
			}
		}
	}
	return func() {}
}

func tomlKeyed(a *author, s string) string {
	if bareKey.MatchString(s) {
		return a.key(s)
	}
	return tomlKey(s)
}

func (a *author) provider() [][2]string {
	items := [][2]string{{"host", a.quote("h.example")}}
	for _, it := range [][2]string{{"port", "1_000"}, {"tls", a.quote("starttls")}, {"username", a.quote("u")}, {"ca_file", a.quote("/ca")}} {
		if a.r.IntN(2) == 0 {
			items = append(items, it)
		}
	}
	return items
}

func digest(n int) string { return fmt.Sprintf("%064x", n+1) }

func (a *author) file(accounts int) string {
	a.newline = a.one("\n", "\r\n")
	a.b.WriteString(a.one("", byteOrderMark))
	a.line(a.pair("data_dir", a.quote("/d")))
	var later []func()
	later = append(later, a.table("keyserver", "", [][2]string{{"url", a.quote("https://k.example")}}),
		a.table("user", "", [][2]string{{"name", a.quote("al # ice")}}))
	if a.r.IntN(2) == 0 {
		later = append(later, a.table("log", "", [][2]string{{"level", a.quote("warn")}}))
	}
	if a.r.IntN(5) == 0 {
		a.line("accounts = [" + a.one("", a.newline, "# x ] }"+a.newline))
		for i := range accounts {
			a.b.WriteString(fmt.Sprintf(`{ address = "a%d@example.org", imap = {host = 'h'}, smtp.host = "s", clients = [{name="c",password_sha256="%s"}%s] }`,
				i, digest(i), a.one("", ",", ", "+a.newline)) + a.one(",", " , ", ", # c ,"+a.newline))
		}
		a.line("]")
		for _, f := range later {
			f()
		}
		return a.b.String()
	}
	for _, f := range later {
		f()
	}
	for i := range accounts {
		a.line("[[accounts]]")
		a.line(a.pair("address", a.quote(fmt.Sprintf("a%d@example.org", i))))
		later := []func(){a.table("imap", "accounts.", a.provider()), a.table("smtp", "accounts.", a.provider())}
		if a.r.IntN(2) == 0 {
			a.line("known_lists = [" + a.one("", a.newline+"# ]"+a.newline) + a.quote("l") + a.one("", ",") + "]")
		}
		if a.r.IntN(2) == 0 {
			later = append(later, a.table("recipients", "accounts.", [][2]string{{"b.c@d.e", a.quote("never")}}))
		}
		switch a.r.IntN(3) {
		case 0:
			a.line(fmt.Sprintf(`clients = [{name="c",password_sha256="%s"}]`, digest(i)))
		case 1:
			later = append(later, func() {
				a.line("[[accounts.clients]]")
				a.line(`name = "c"`)
				a.line(fmt.Sprintf(`password_sha256 = "%s"`, digest(i)))
			})
		}
		for _, f := range later {
			f()
		}
	}
	return strings.TrimSuffix(a.b.String(), a.one("", a.newline))
}

// mirror is a change with what it does to a configuration.
type mirror struct {
	change Change
	apply  func(*Gateway)
}

func (a *author) change(g *Gateway, n int) mirror {
	i := a.r.IntN(len(g.Accounts))
	address := strings.ToUpper(g.Accounts[i].Address)
	word := a.one("x", "a b", `q"u\o`, "é\t", "#[=]", "/x")
	switch a.r.IntN(12) {
	case 0:
		return mirror{Set(word, "user", "name"), func(g *Gateway) { g.User.Name = word }}
	case 1:
		return mirror{Set("/new", "data_dir"), func(g *Gateway) { g.DataDir = "/new" }}
	case 2:
		return mirror{Set("keyring", "vault", "key"), func(g *Gateway) { g.Vault.Key = "keyring" }}
	case 3:
		return mirror{Set("none", "listen", "tls"), func(g *Gateway) { g.Listen.TLS = "none" }}
	case 4:
		return mirror{Unset("log", "level"), func(g *Gateway) { g.Log.Level = "info" }}
	case 5:
		return mirror{SetAccount(address, 77, "imap", "port"), func(g *Gateway) { g.Accounts[i].IMAP.Port = 77 }}
	case 6:
		return mirror{SetAccount(address, word, "smtp", "username"), func(g *Gateway) { g.Accounts[i].SMTP.Username = word }}
	case 7:
		return mirror{SetAccount(address, "require", "recipients", "x.y@z"), func(g *Gateway) {
			m := maps.Clone(g.Accounts[i].Recipients)
			if m == nil {
				m = map[string]string{}
			}
			m["x.y@z"] = "require"
			g.Accounts[i].Recipients = m
		}}
	case 8:
		c := Client{fmt.Sprint("new", n), digest(1000 + n)}
		return mirror{AddClient(address, c), func(g *Gateway) { g.Accounts[i].Clients = append(slices.Clip(g.Accounts[i].Clients), c) }}
	case 9:
		if len(g.Accounts[i].Clients) > 0 {
			name := g.Accounts[i].Clients[0].Name
			return mirror{RemoveClient(address, name), func(g *Gateway) { g.Accounts[i].Clients = slices.Clone(g.Accounts[i].Clients)[1:] }}
		}
	case 10:
		if len(g.Accounts) > 1 {
			return mirror{RemoveAccount(address), func(g *Gateway) { g.Accounts = slices.Delete(slices.Clone(g.Accounts), i, i+1) }}
		}
	}
	fresh := Account{Address: fmt.Sprintf("fresh%d@example.org", n), Policy: "require", KnownLists: []string{word},
		IMAP: Provider{Host: "i"}, SMTP: Provider{Host: "s"}, Domains: map[string]string{"x.y": "never"}, Clients: []Client{{"q", digest(2000 + n)}}}
	return mirror{AddAccount(fresh), func(g *Gateway) {
		f := fresh
		f.Omitted = "leave-out"
		f.IMAP = Provider{Host: "i", Port: 993, TLS: "implicit", Username: f.Address}
		f.SMTP = Provider{Host: "s", Port: 465, TLS: "implicit", Username: f.Address}
		g.Accounts = append(slices.Clip(g.Accounts), f)
	}}
}

func checkEdit(t *testing.T, seed uint64) {
	a := &author{r: rand.New(rand.NewPCG(seed, 1))}
	text := a.file(1 + a.r.IntN(3))
	g, err := ParseGateway("g", []byte(text))
	if err != nil {
		t.Fatalf("the generator wrote\n%s\n%v", text, err)
	}
	for n := range 1 + a.r.IntN(6) {
		m := a.change(g, n)
		b, err := EditGateway([]byte(text), m.change)
		if err != nil {
			t.Fatalf("seed %d, %s: %v\n%s", seed, m.change.what, err, text)
		}
		m.apply(g)
		got, err := ParseGateway("g", b)
		if err != nil || !same(reflect.ValueOf(got).Elem(), reflect.ValueOf(g).Elem()) {
			t.Fatalf("seed %d, %s: %v\n%s\nbecame\n%s\ngot  %+v\nwant %+v", seed, m.change.what, err, text, b, got, g)
		}
		if strings.Contains(a.newline, "\r") && strings.Count(string(b), "\r\n") != strings.Count(string(b), "\n") {
			t.Fatalf("seed %d, %s: line ends are mixed\n%q", seed, m.change.what, b)
		}
		// Adding is one insertion: what was there is what is left without it.
		if strings.HasPrefix(m.change.what, "add") {
			front, back := 0, 0
			for front < len(text) && text[front] == b[front] {
				front++
			}
			for back < len(text) && text[len(text)-1-back] == b[len(b)-1-back] {
				back++
			}
			if front+back < len(text) {
				t.Fatalf("seed %d, %s: more than an insertion\n%s\nbecame\n%s", seed, m.change.what, text, b)
			}
		}
		text, g = string(b), got
	}
}

func TestEditRandomFiles(t *testing.T) {
	for seed := range uint64(1500) {
		checkEdit(t, seed)
	}
}

func FuzzEditGateway(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed, "")
	}
	f.Add(uint64(0), handWritten)
	f.Add(uint64(3), "a.b=1\n[[accounts]]\nimap.host='x'\n[accounts]\n")
	f.Fuzz(func(t *testing.T, seed uint64, text string) {
		if text == "" {
			checkEdit(t, seed)
			return
		}
		// Any file at all: an error, or exactly the change.
		r := &author{r: rand.New(rand.NewPCG(seed, 2))}
		g, err := ParseGateway("g", []byte(text))
		if err != nil {
			g = &Gateway{Accounts: []Account{{Address: "a@b"}}}
		}
		if b, err := EditGateway([]byte(text), r.change(g, 0).change); err == nil {
			if _, err := ParseGateway("g", b); err != nil {
				t.Fatalf("an invalid result: %v", err)
			}
		} else if b != nil {
			t.Fatal("an error and a result")
		} else if errors.Is(err, errLayout) && strings.TrimSpace(text) == "" {
			t.Fatal(err)
		}
	})
}
