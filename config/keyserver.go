package config

// KeyServerFile is the configuration of a key server.
type KeyServerFile struct {
	Listen         string   `toml:"listen" default:"127.0.0.1:8443" doc:"Address to serve on."`
	Origin         string   `toml:"origin" example:"https://keys.example.org" doc:"Name of the server as clients reach it; they bind keys and signatures to it, so it must never change. http is allowed for a loopback address only."`
	DataFile       string   `toml:"data_file" example:"/var/lib/cloudmls/keyserver.db" doc:"The database. An absolute path; it is created with mode 0600."`
	KeyFile        string   `toml:"key_file" doc:"The server's own keys; made at the first start. Nothing means data_file with .keys behind it. Keep a copy apart from the database."`
	TLSCert        string   `toml:"tls_cert" example:"/etc/cloudmls/cert.pem" doc:"Certificate chain (PEM). Without it listen must be a loopback address, for a proxy in front that speaks TLS."`
	TLSKey         string   `toml:"tls_key" example:"/etc/cloudmls/key.pem" doc:"Key of the certificate (PEM)."`
	TrustedProxies []string `toml:"trusted_proxies" example:"[\"127.0.0.0/8\"]" doc:"Networks whose X-Forwarded-For is believed."`
	RequireProof   []string `toml:"require_proof" example:"[\"email\"]" doc:"Platforms whose account ids must be proven before they can be claimed."`
	Limits         Limits   `toml:"limits" doc:"What one user may store. 0 or nothing means the server's default."`
	Log            Log      `toml:"log" doc:"What is logged."`
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
