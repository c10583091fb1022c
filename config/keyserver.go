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
	RequireProof   []string `toml:"require_proof" example:"[\"email\"]" doc:"Platforms whose account ids must be proven before they can be claimed."`
	Store          Store    `toml:"store" doc:"Where the data lies."`
	ACME           ACME     `toml:"acme" doc:"A certificate that the server obtains and renews by itself, in place of tls_cert."`
	Metrics        Metrics  `toml:"metrics" doc:"Figures for Prometheus."`
	Limits         Limits   `toml:"limits" doc:"What one user may store. 0 or nothing means the server's default."`
	Log            Log      `toml:"log" doc:"What is logged."`
}

// Store says where a key server's data lies.
type Store struct {
	Kind           string `toml:"kind" default:"file" doc:"file: in data_file, for one process. postgresql: in a database that speaks its protocol, for any number of processes; key_file is required then."`
	DSNFile        string `toml:"dsn_file" example:"/etc/cloudmls/postgresql.dsn" doc:"File that holds the database's connection string (postgres://...); only its owner may read it."`
	DSNEnv         string `toml:"dsn_env" doc:"Environment variable that holds the connection string, instead of dsn_file."`
	MaxConnections int    `toml:"max_connections" default:"16" doc:"Connections to the database at most, of this process."`
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

// Limits is what one user may store on a key server; 0 means its default.
type Limits struct {
	Objects     int   `toml:"objects" doc:"Sealed objects of one user."`
	ObjectBytes int64 `toml:"object_bytes" doc:"Octets of these objects."`
	Accounts    int   `toml:"accounts" doc:"Accounts of one user."`
	Sessions    int   `toml:"sessions" doc:"Devices logged in at once, of one user."`
	KeyPackages int   `toml:"keypackages" doc:"KeyPackages in one account's pool."`
	Inbox       int   `toml:"inbox" doc:"Messages that wait for one account."`
	InboxBytes  int64 `toml:"inbox_bytes" doc:"Octets of these messages."`
}
