package keyserver

import "time"

// NoteKind tells apart what the server keeps as notes. The values are stored.
type NoteKind uint8

const (
	NoteAnswer     NoteKind = 1 // owner: whose request; key: of the request; value: the sealed answer
	NoteTokenKey   NoteKind = 2 // owner: empty; key: key id; value: sealed key of access tokens
	NoteInvitation NoteKind = 3 // owner: empty; key: hash of the code; value: JSON
	NoteChallenged NoteKind = 4 // owner: hash of an account; key: when; how often it was challenged lately
	NoteQuota      NoteKind = 5 // owner: user id; key: empty; value: JSON of what the user may take up
	NoteMove       NoteKind = 6 // owner: user id; key: empty; value: JSON, where the user's objects are, and numbers of moves
	NoteRemoved    NoteKind = 7 // owner: hash of the id of a user who was deleted; key, value: empty
	NoteDirections NoteKind = 8 // owner: user id; key: empty; value: JSON, what the user's devices say of where the objects are
	NoteSessions   NoteKind = 9 // owner: user id; key: empty; value: JSON, what happened to the user's sessions
)

// Note is a small record that belongs to no other part of the Store: at most
// MaxNoteSize octets under a kind, an owner and a key of at most 64 octets each.
type Note struct {
	Kind       NoteKind
	Owner, Key []byte
	Value      []byte
	Expires    time.Time // zero: never
}

// MaxNoteSize bounds the value of a Note.
const MaxNoteSize = 256 << 10

// Notes is the part of a Reader that reads notes. Expired ones are as if they
// were not there.
type Notes interface {
	// Note is the one that PutNote stored last; nil: none.
	Note(kind NoteKind, owner, key []byte, now time.Time) (*Note, error)
	// NotesOf lists at most limit notes of an owner, ordered by key as octets.
	NotesOf(kind NoteKind, owner []byte, now time.Time, limit int) ([]Note, error)
}

// NoteWriter is the part of a Writer that writes them. Writer.Expire removes
// expired ones.
type NoteWriter interface {
	// PutNote replaces what was there under the same kind, owner and key.
	PutNote(*Note) error
	// DeleteNote does nothing where there is none.
	DeleteNote(kind NoteKind, owner, key []byte) error
}
