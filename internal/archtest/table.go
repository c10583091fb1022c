// Package archtest holds the import rules of the project as data and, in its
// test, the check that the tree keeps them. A new row is a design decision:
// it belongs in an ADR (docs/adr/).
package archtest

// Module is the import path of the project.
const Module = "github.com/cloudmls/gateway"

// Rule says what one package, named by its path below the module, may import
// outside its tests. Ours lists packages of this module; a name ending in
// "/..." covers the packages below it. Others lists modules or import path
// prefixes of third parties. Never lists standard library packages that the
// package must not use; everything else of the standard library is free.
type Rule struct {
	Package string
	Ours    []string
	Others  []string
	Never   []string
}

// pure is what a package without I/O, clock or goroutines of its own never imports.
var pure = []string{"net", "net/http", "os", "os/exec", "context", "log", "log/slog", "syscall"}

// Rules is the table of docs/architecture.md. Every package of the module has
// a row; a package without one fails the test.
var Rules = []Rule{
	{Package: "mls", Ours: []string{"mls/internal/..."}, Others: []string{"golang.org/x/crypto/cryptobyte"},
		Never: []string{"net", "net/http", "os", "os/exec", "context", "log", "syscall", "math/rand", "math/rand/v2"}},
	{Package: "mls/internal/codec", Others: []string{"golang.org/x/crypto/cryptobyte"}, Never: pure},
	{Package: "mls/internal/treemath", Never: pure},
	{Package: "mls/internal/labeled", Ours: []string{"mls/internal/codec"},
		Others: []string{"filippo.io/edwards25519", "github.com/cloudflare/circl", "golang.org/x/crypto"}, Never: pure},

	{Package: "groupid", Others: []string{"golang.org/x/net/idna", "golang.org/x/text"}, Never: pure},

	{Package: "keyserver/keyapi", Never: []string{"net", "net/http", "os", "os/exec", "context", "log", "syscall"}},
	{Package: "keyserver/keyclient", Ours: []string{"keyserver/keyapi"}, Others: []string{"github.com/fxamacker/cbor/v2"}},
	{Package: "keyserver", Ours: []string{"internal/crashpoint", "keyserver/keyapi", "mls", "groupid"},
		Others: []string{"github.com/danielgtaylor/huma/v2", "github.com/fxamacker/cbor/v2", "github.com/go-chi/chi/v5", "github.com/golang-jwt/jwt/v5"}},
	{Package: "keyserver/boltstore", Ours: []string{"keyserver", "keyserver/keyapi", "mls"}, Others: []string{"go.etcd.io/bbolt"}},
	{Package: "keyserver/certs", Others: []string{"golang.org/x/crypto"}, Never: []string{"os/exec"}},
	{Package: "internal/acmetest", Never: []string{"os", "os/exec"}},
	{Package: "keyserver/mailproof", Ours: []string{"keyserver", "internal/mailproof"},
		Others: []string{"github.com/emersion/go-msgauth", "github.com/emersion/go-sasl", "github.com/emersion/go-smtp"}, Never: []string{"os", "os/exec"}},
	{Package: "internal/mailproof", Others: []string{"github.com/emersion/go-imap/v2", "github.com/emersion/go-msgauth", "golang.org/x/net/publicsuffix"},
		Never: []string{"net/http", "os", "os/exec"}},
	{Package: "keyserver/admin", Ours: []string{"keyserver"}, Never: []string{"os", "os/exec"}},
	{Package: "keyserver/monitor", Ours: []string{"keyserver"}, Others: []string{"github.com/go-chi/chi/v5", "github.com/prometheus/client_golang"}},
	{Package: "keyserver/pgstore", Ours: []string{"keyserver", "keyserver/keyapi"}, Others: []string{"github.com/jackc/pgx/v5"}},
	{Package: "keyserver/storetest", Ours: []string{"keyserver", "keyserver/keyapi"}},
	{Package: "keyserver/keyservertest", Ours: []string{"keyserver", "keyserver/keyapi", "keyserver/keyclient", "keyserver/boltstore"}},

	{Package: "cloudmls", Ours: []string{"internal/crashpoint", "mls", "groupid", "keyserver/keyapi", "cloudmls/internal/..."},
		Others: []string{"golang.org/x/crypto", "golang.org/x/text"}},
	{Package: "cloudmls/internal/keys", Ours: []string{"keyserver/keyapi", "cloudmls/internal/..."},
		Others: []string{"golang.org/x/crypto", "golang.org/x/text"}, Never: pure},
	{Package: "cloudmls/internal/envelope", Others: []string{"golang.org/x/crypto"}, Never: pure},
	{Package: "cloudmls/internal/stream", Others: []string{"golang.org/x/crypto"}, Never: pure},
	{Package: "cloudmls/internal/state", Ours: []string{"internal/crashpoint", "keyserver/keyapi", "cloudmls/internal/..."}, Others: []string{"golang.org/x/crypto"}},
	{Package: "cloudmls/boltstore", Ours: []string{"cloudmls"}, Others: []string{"go.etcd.io/bbolt"}},

	{Package: "imapd", Ours: []string{"imapd/...", "internal/mime"}, Others: []string{"github.com/emersion/go-sasl"}},
	{Package: "imapd/wire", Never: []string{"os", "os/exec", "net/http"}},
	{Package: "imapd/policy", Ours: []string{"imapd/wire"}, Never: pure},
	{Package: "imapd/overlay", Ours: []string{"imapd/wire", "imapd/policy", "internal/mime"}, Never: []string{"net/http", "os/exec"}},
	{Package: "imapd/session", Ours: []string{"imapd/wire", "imapd/policy", "imapd/overlay", "internal/mime", "internal/spool"}, Never: []string{"net/http", "os/exec"}},

	{Package: "smtpd", Ours: []string{"internal/crashpoint", "internal/spool", "smtpd/..."}, Others: []string{"github.com/emersion/go-smtp", "github.com/emersion/go-sasl"}},
	{Package: "smtpd/outbox", Ours: []string{"internal/crashpoint"}, Never: []string{"net/http", "os/exec"}},

	{Package: "config", Others: []string{"github.com/pelletier/go-toml/v2"}, Never: []string{"net/http", "os/exec"}},

	{Package: "proxy", Ours: []string{"internal/crashpoint", "imapd", "smtpd", "smtpd/outbox", "cloudmls", "groupid", "mls", "internal/mailseal", "internal/mime"},
		Others: []string{"github.com/emersion/go-message"}},

	{Package: "internal/mime", Never: pure},
	{Package: "internal/spool", Never: []string{"net", "net/http", "os/exec"}},
	{Package: "internal/mailseal", Ours: []string{"internal/mime"}, Others: []string{"filippo.io/age", "github.com/emersion/go-message"},
		Never: []string{"net", "net/http", "os", "os/exec", "log", "syscall"}},
	{Package: "internal/secret", Others: []string{"github.com/zalando/go-keyring", "golang.org/x/crypto", "golang.org/x/sys", "golang.org/x/text"},
		Never: []string{"net", "net/http"}},
	{Package: "internal/vault", Ours: []string{"internal/secret"}, Others: []string{"golang.org/x/crypto", "golang.org/x/sys"},
		Never: []string{"net", "net/http", "os/exec"}},
	{Package: "internal/provider", Ours: []string{"imapd", "internal/secret"},
		Others: []string{"github.com/emersion/go-smtp", "github.com/emersion/go-sasl", "github.com/pelletier/go-toml/v2", "golang.org/x/net/idna", "golang.org/x/net/publicsuffix"}},
	{Package: "internal/localtls", Never: []string{"os/exec"}},
	{Package: "internal/localtls/truststore", Never: []string{"net", "net/http"}},
	{Package: "internal/systemd", Others: []string{"golang.org/x/sys"}, Never: []string{"net/http", "os/exec"}},
	{Package: "internal/archtest"},
	// A key server that lies, for tests.
	{Package: "internal/evil", Ours: []string{"keyserver", "keyserver/keyapi", "keyserver/keyclient", "keyserver/boltstore", "keyserver/keyservertest"}},
	{Package: "internal/control", Never: []string{"os/exec"}},
	{Package: "internal/control/service", Ours: []string{"internal/control", "proxy", "cloudmls", "groupid"}, Never: []string{"net/http", "os", "os/exec"}},
	{Package: "internal/crashpoint", Never: []string{"net", "net/http", "os/exec", "log"}},

	// What lies around a running gateway; the program puts it together.
	{Package: "internal/device", Ours: []string{"config", "cloudmls", "cloudmls/boltstore", "keyserver/keyapi", "keyserver/keyclient", "internal/mailproof", "internal/secret", "internal/vault"}},
	{Package: "internal/setup", Ours: []string{"config", "cloudmls", "groupid", "internal/device", "internal/secret", "internal/vault", "internal/localtls"}},

	// The one program wires everything; the fakes below are for tests and the demo.
	{Package: "cmd/cloudmls", Ours: []string{"..."}, Others: []string{"*"}},
	{Package: "internal/world", Ours: []string{"..."}, Others: []string{"*"}},
	{Package: "internal/demo", Ours: []string{"..."}, Others: []string{"*"}},
	{Package: "internal/mailtest", Others: []string{"github.com/emersion/go-imap/v2", "github.com/emersion/go-smtp", "github.com/emersion/go-sasl", "github.com/emersion/go-message"}},
	{Package: "test/bench"},
	{Package: "test/ports", Never: []string{"net/http", "os/exec"}},
	{Package: "test/postgres", Never: []string{"net/http"}},
	// A key server as a process of its own, for measurements and attacks.
	{Package: "test/benchkeyserver"},
	{Package: "test/benchkeyserver/process", Ours: []string{"keyserver", "keyserver/boltstore", "keyserver/pgstore", "keyserver/keyservertest"}},
	{Package: "test/hostile"},
	{Package: "test/report", Never: []string{"net", "net/http", "os/exec"}},
	{Package: "test/corpus", Never: []string{"net", "net/http", "os", "os/exec"}},
	{Package: "test/stack", Never: []string{"net/http"}},
	{Package: "internal/gatewaytest", Ours: []string{"..."}, Others: []string{"*"}},
}
