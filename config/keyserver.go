package config

// KeyServerFile is the configuration of a key server.
type KeyServerFile struct {
	Listen         string   `toml:"listen" default:"127.0.0.1:8443" doc:"Address to serve on."`
	Origin         string   `toml:"origin" example:"https://keys.example.org" doc:"Name of the server as clients reach it; they bind keys and signatures to it, so it must never change. http is allowed for a loopback address only."`
	DataFile       string   `toml:"data_file" example:"/var/lib/cloudmls/keyserver.db" doc:"The database, unless store.kind says that it is elsewhere. An absolute path; it is created with mode 0600."`
	KeyFile        string   `toml:"key_file" doc:"The server's own keys; made at the first start. Nothing means data_file with .keys behind it. Keep a copy apart from the database. All processes on one database have the same."`
	TLSCert        string   `toml:"tls_cert" example:"/etc/cloudmls/cert.pem" doc:"Certificate chain (PEM), read again when it changes. Without it and without acme, listen must be a loopback address, for a proxy in front that speaks TLS."`
	TLSKey         string   `toml:"tls_key" example:"/etc/cloudmls/key.pem" doc:"Key of the certificate (PEM)."`
	BehindProxy    bool     `toml:"behind_proxy" default:"false" doc:"Serve without TLS on an address that others reach, because a proxy in front of a network of your own speaks it. trusted_proxies is required then."`
	TrustedProxies []string `toml:"trusted_proxies" example:"[\"127.0.0.0/8\"]" doc:"Networks whose X-Forwarded-For is believed."`
	Registration   string   `toml:"registration" default:"open" doc:"Who may become a user: open, invitation (with a code that 'cloudmls keyserver admin invite' makes), or closed."`
	RequireProof   []string `toml:"require_proof" example:"[\"email\"]" doc:"Platforms whose account ids must be proven before they can be claimed. email needs mail_proof."`
	Browsers       bool     `toml:"browsers" default:"false" doc:"Let web pages sign in, with cookies that scripts cannot read."`
	Origins        []string `toml:"origins" example:"[\"https://mail.example.org\"]" doc:"Web pages of other origins that may call the API."`
	Roles          []string `toml:"roles" example:"[\"auth\", \"delivery\", \"store\"]" doc:"What this server does: auth (users and sessions), delivery (KeyPackages and conversations), store (sealed state). Nothing means all."`
	Store          Store    `toml:"store" doc:"Where the data lies."`
	Auth           Auth     `toml:"auth" doc:"The server that signs this one's users in, if this one does not have that role."`
	MailProof      Mail     `toml:"mail_proof" doc:"How mail addresses are proven: a message with a secret is sent to them."`
	ACME           ACME     `toml:"acme" doc:"A certificate that the server obtains and renews by itself, in place of tls_cert."`
	Metrics        Metrics  `toml:"metrics" doc:"Figures for Prometheus."`
	Limits         Limits   `toml:"limits" doc:"What one user may store, and how many may be connected. 0 or nothing means the server's default."`
	Log            Log      `toml:"log" doc:"What is logged."`
}

// Store says where a key server's data lies.
type Store struct {
	Kind           string `toml:"kind" default:"file" doc:"file: in data_file, for one process. postgresql: in a database that speaks its protocol, for any number of processes; key_file is required then."`
	DSNFile        string `toml:"dsn_file" example:"/etc/cloudmls/postgresql.dsn" doc:"File that holds the database's connection string (postgres://...); only its owner may read it."`
	DSNEnv         string `toml:"dsn_env" doc:"Environment variable that holds the connection string, instead of dsn_file."`
	Schema         string `toml:"schema" default:"cloudmls_keyserver" doc:"Where the tables are, in the database."`
	MaxConnections int    `toml:"max_connections" default:"16" doc:"Connections to the database at most, of this process; one more is used to listen."`
	PollSeconds    int    `toml:"poll_seconds" example:"1" doc:"Ask the database every so many seconds what other processes did, instead of LISTEN: for CockroachDB, YugabyteDB, or PgBouncer. Nothing means LISTEN."`
	Serializable   bool   `toml:"serializable" default:"false" doc:"Run transactions at that isolation level: for CockroachDB and YugabyteDB."`
	NoMigrate      bool   `toml:"no_migrate" default:"false" doc:"Refuse to start on tables of another version instead of migrating them."`
	AllowCleartext bool   `toml:"allow_cleartext" default:"false" doc:"Let the connection to the database go over a network without TLS."`
}

// Auth names the server that has the role auth.
type Auth struct {
	URL    string `toml:"url" example:"https://auth.example.org" doc:"Where that server is reached. http is allowed for a loopback address only."`
	Origin string `toml:"origin" doc:"Its configured name, if it differs from url."`
}

// Mail says how challenges are sent.
type Mail struct {
	Relay        string `toml:"relay" example:"localhost:25" doc:"The mail server that takes the messages over, host:port. Nothing means that no address can be proven."`
	TLS          string `toml:"tls" default:"starttls" doc:"starttls, implicit, or none for a relay on this machine."`
	CAFile       string `toml:"ca_file" doc:"Certificates (PEM) to trust for the relay instead of the system's."`
	Username     string `toml:"username" doc:"Login at the relay, if it wants one."`
	PasswordFile string `toml:"password_file" doc:"File that holds the password; only its owner may read it."`
	PasswordEnv  string `toml:"password_env" doc:"Environment variable that holds the password, instead of password_file."`
	From         string `toml:"from" example:"keys@example.org" doc:"Sender of the messages, of the host of origin or of its organisation's domain."`
	DKIMDomain   string `toml:"dkim_domain" example:"example.org" doc:"Domain that signs: the host of origin or its organisation's domain. Gateways believe no other. Nothing means that the relay signs."`
	DKIMSelector string `toml:"dkim_selector" example:"cloudmls" doc:"Name of the key in DNS, at SELECTOR._domainkey.DOMAIN."`
	DKIMKeyFile  string `toml:"dkim_key_file" example:"/etc/cloudmls/dkim.pem" doc:"The key (PKCS #8, PEM; RSA or Ed25519); only its owner may read it."`
}

// ACME says how a certificate is obtained (RFC 8555).
type ACME struct {
	Enabled   bool   `toml:"enabled" default:"false" doc:"Obtain a certificate for the host of origin. The host must lead here on port 443. It means that you agree to the terms of the directory's operator."`
	Email     string `toml:"email" example:"admin@example.org" doc:"Who is told when a certificate cannot be renewed."`
	Directory string `toml:"directory" example:"https://acme.example.org/directory" doc:"The ACME directory. Nothing means Let's Encrypt."`
	CAFile    string `toml:"ca_file" doc:"Certificates (PEM) to trust for the directory instead of the system's."`
	CacheDir  string `toml:"cache_dir" doc:"Folder of the account's key and the certificates. An absolute path. Nothing means acme beside key_file."`
}

// Metrics says where figures about the server can be read.
type Metrics struct {
	Listen string `toml:"listen" example:"127.0.0.1:9464" doc:"Address of /metrics, without TLS and login: a loopback address, or one of a network that only you can reach. Nothing means none. They name no user."`
}

// Limits is what one user may store on a key server, and how many may be
// connected; 0 means its default.
type Limits struct {
	Objects     int   `toml:"objects" doc:"Sealed objects of one user."`
	ObjectBytes int64 `toml:"object_bytes" doc:"Octets of these objects."`
	Accounts    int   `toml:"accounts" doc:"Accounts of one user."`
	Sessions    int   `toml:"sessions" doc:"Devices logged in at once, of one user."`
	KeyPackages int   `toml:"keypackages" doc:"KeyPackages in one account's pool."`
	Inbox       int   `toml:"inbox" doc:"Messages that wait for one account."`
	InboxBytes  int64 `toml:"inbox_bytes" doc:"Octets of these messages."`

	Connections     int `toml:"connections" doc:"Connections at once, of everybody. -1 means no limit."`
	ConnectionsFrom int `toml:"connections_from" doc:"Connections at once from one network (IPv4 /24, IPv6 /64), trusted_proxies aside. -1 means no limit."`
	LongPollsFrom   int `toml:"long_polls_from" doc:"Clients of one network that wait for news at once. -1 means no limit."`
}
