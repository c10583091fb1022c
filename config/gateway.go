package config

// Gateway is the configuration of the gateway of one user.
type Gateway struct {
	DataDir   string    `toml:"data_dir" example:"/home/alice/.local/share/cloudmls" doc:"Folder for the sealed cache, the outbox and the local certificate. An absolute path; it is created with mode 0700."`
	Listen    Listen    `toml:"listen" doc:"Where mail programs connect."`
	KeyServer KeyServer `toml:"keyserver" doc:"The key server that holds the user's sealed state."`
	User      User      `toml:"user" doc:"The login at the key server."`
	Vault     Vault     `toml:"vault" doc:"Where the key lies that seals everything in data_dir, the providers' passwords among it."`
	Log       Log       `toml:"log" doc:"What is logged. Addresses appear at debug level only, the text of mail never."`
	Accounts  []Account `toml:"accounts" doc:"The mail accounts, one table each."`
}

// Listen says where mail programs connect.
type Listen struct {
	IMAP string `toml:"imap" default:"127.0.0.1:1993" doc:"Address for reading mail; a loopback address."`
	SMTP string `toml:"smtp" default:"127.0.0.1:1465" doc:"Address for sending mail; a loopback address."`
	TLS  string `toml:"tls" default:"implicit" doc:"implicit: TLS from the first octet, with a certificate that is made for this machine. none: no TLS, for programs that cannot."`
}

// KeyServer says where the key server is.
type KeyServer struct {
	URL         string `toml:"url" example:"https://keys.example.org" doc:"Address of the key server. http is allowed for a loopback address only."`
	Origin      string `toml:"origin" doc:"Name of the key server that keys are bound to, if it differs from url."`
	DeliveryURL string `toml:"delivery_url" doc:"Address of the server that delivers, where the operator has it apart from url, which signs in."`
	StoreURL    string `toml:"store_url" doc:"Address of the operator's server that holds the sealed state, where that is apart. A store of the user's own is not named here: cloudmls store move."`
	CAFile      string `toml:"ca_file" doc:"Certificates (PEM) to trust instead of the system's."`
	StoreCAFile string `toml:"store_ca_file" doc:"Certificates (PEM) to trust, beside the system's, for stores of the user's own (cloudmls store move)."`
	Local       string `toml:"local" example:"/home/alice/.config/cloudmls/keyserver.toml" doc:"Configuration file of a key server on this machine that the gateway starts and ends, as a process of its own. An absolute path. Nothing means that the key server is somebody else's business."`
}

// User is the login at the key server.
type User struct {
	Name         string `toml:"name" example:"alice" doc:"User name at the key server."`
	PasswordFile string `toml:"password_file" doc:"File that holds the password; only its owner may read it. Needed once per device; without it the program asks."`
	PasswordEnv  string `toml:"password_env" doc:"Environment variable that holds the password, instead of password_file."`
}

// Vault says where the key of the vault lies.
type Vault struct {
	Key            string `toml:"key" default:"file" doc:"file: in a file of data_dir that only its owner may read. keyring: in the keyring of the desktop. passphrase: made from a passphrase. credential: handed over by systemd (LoadCredential or LoadCredentialEncrypted)."`
	PassphraseFile string `toml:"passphrase_file" doc:"File that holds the passphrase; only its owner may read it. For key = passphrase; without it and passphrase_env the program asks."`
	PassphraseEnv  string `toml:"passphrase_env" doc:"Environment variable that holds the passphrase, instead of passphrase_file."`
	Credential     string `toml:"credential" default:"cloudmls-vault-key" doc:"Name of the systemd credential. For key = credential."`
}

// Account is one mail account.
type Account struct {
	Address       string            `toml:"address" example:"alice@example.org" doc:"The mail address."`
	Policy        string            `toml:"policy" default:"prefer" doc:"prefer: encrypt to everyone who can read it, and send in clear only to people whom the key server calls unknown and who were never written to encrypted. require: never send in clear. never: send in clear."`
	Omitted       string            `toml:"omitted" default:"leave-out" doc:"What becomes of members of a group whom an answer no longer addresses. leave-out: the answer goes to the others, nobody is removed. remove: they are removed from the group."`
	HideThreading bool              `toml:"hide_threading" default:"false" doc:"Leave the References field out of the encrypted message's outside, so that the provider cannot group messages."`
	KnownLists    []string          `toml:"known_lists" example:"[\"dev.lists.example.org\"]" doc:"List-Id values of mailing lists that may rewrite the From field without a warning."`
	Recipients    map[string]string `toml:"recipients" example:"\"bob@example.net\" = \"require\"" doc:"Policy for single people, instead of the account's."`
	Domains       map[string]string `toml:"domains" example:"\"example.net\" = \"require\"" doc:"Policy for everyone of a domain, instead of the account's."`
	IMAP          Provider          `toml:"imap" doc:"The provider's server for reading mail."`
	SMTP          Provider          `toml:"smtp" doc:"The provider's server for sending mail."`
	Clients       []Client          `toml:"clients" doc:"The mail programs that may log in for this account, one table each, each with a password of its own."`
}

// Provider is one server of a mail provider.
type Provider struct {
	Host         string `toml:"host" example:"mail.example.org" doc:"Host name of the server."`
	Port         int    `toml:"port" doc:"Port; 0 or nothing means the usual one: 993 or 465 for implicit TLS, 143 or 587 else."`
	TLS          string `toml:"tls" default:"implicit" doc:"implicit: TLS from the first octet. starttls: begin with STARTTLS or not at all. none: no TLS, for a server on a loopback address only."`
	Username     string `toml:"username" doc:"Login at the provider; nothing means the account's address."`
	PasswordFile string `toml:"password_file" doc:"File that holds the provider's password; only its owner may read it. Without it and password_env the password lies in the vault, where cloudmls setup and cloudmls account password put it."`
	PasswordEnv  string `toml:"password_env" doc:"Environment variable that holds the provider's password, instead of password_file."`
	CAFile       string `toml:"ca_file" doc:"Certificates (PEM) to trust instead of the system's."`
}

// Client is a mail program that may log in.
type Client struct {
	Name           string `toml:"name" example:"thunderbird" doc:"What the program is called in logs and lists."`
	PasswordSHA256 string `toml:"password_sha256" example:"fba7c2df4ef8cdc67ce6827eda95d3d216381d1f23a6cad8da7084b72bc2389d" doc:"SHA-256 of the program's password, in hexadecimal. The password is made by the gateway and shown once."`
}

// Log says what is logged.
type Log struct {
	Level  string `toml:"level" default:"info" doc:"debug, info, warn or error."`
	Format string `toml:"format" default:"text" doc:"text or json."`
}
