package policy

// Action is how a client's command is treated.
type Action int

const (
	// Unknown commands pass when they carry no literal and are refused when
	// they do: message content always travels in literals, so this is
	// transparent and cannot leak at once.
	Unknown Action = iota
	// Relay passes the command with its literals.
	Relay
	// Inspect hands it to a handler of the session.
	Inspect
	// Refuse answers NO [CANNOT].
	Refuse
)

// commands holds the known ones, by their names in capitals; "UID X" is a name
// of its own.
var commands = map[string]Action{
	"CAPABILITY": Relay, "NOOP": Relay, "CHECK": Relay, "ID": Relay,
	"NAMESPACE": Relay, "LANGUAGE": Relay, "COMPARATOR": Relay,
	"LIST": Relay, "LSUB": Relay, "XLIST": Relay, "RLIST": Relay, "RLSUB": Relay,
	"STATUS": Relay, "CREATE": Relay, "DELETE": Relay, "RENAME": Relay,
	"SUBSCRIBE": Relay, "UNSUBSCRIBE": Relay,
	"GETQUOTA": Relay, "GETQUOTAROOT": Relay, "SETQUOTA": Relay,
	"GETACL": Relay, "SETACL": Relay, "DELETEACL": Relay, "LISTRIGHTS": Relay, "MYRIGHTS": Relay,
	"GETMETADATA": Relay, "SETMETADATA": Relay,
	"SEARCH": Relay, "UID SEARCH": Relay, "ESEARCH": Relay,
	"SORT": Relay, "UID SORT": Relay, "THREAD": Relay, "UID THREAD": Relay,
	"EXPUNGE": Relay, "UID EXPUNGE": Relay,
	"COPY": Relay, "UID COPY": Relay, "MOVE": Relay, "UID MOVE": Relay,

	"SELECT": Inspect, "EXAMINE": Inspect, "CLOSE": Inspect, "UNSELECT": Inspect,
	"FETCH": Inspect, "UID FETCH": Inspect, "STORE": Inspect, "UID STORE": Inspect,
	"APPEND": Inspect, "IDLE": Inspect, "ENABLE": Inspect, "LOGOUT": Inspect,

	"LOGIN": Refuse, "AUTHENTICATE": Refuse, "STARTTLS": Refuse, "UNAUTHENTICATE": Refuse,
	"COMPRESS": Refuse, "REPLACE": Refuse, "UID REPLACE": Refuse,
	"CONVERT": Refuse, "UID CONVERT": Refuse, "NOTIFY": Refuse, "CANCELUPDATE": Refuse,
	"GENURLAUTH": Refuse, "RESETKEY": Refuse, "URLFETCH": Refuse, "BURL": Refuse,
	"SETANNOTATION": Refuse, "GETANNOTATION": Relay,
}

// Command returns the action for a command name in capitals.
func Command(name string) Action { return commands[name] }

// HTTPVerbs begin the first line of what a browser sends to a mail port.
var HTTPVerbs = []string{"GET ", "POST ", "PUT ", "HEAD ", "OPTIONS ", "DELETE ", "CONNECT ", "TRACE ", "PATCH ", "PRI * HTTP"}
