package keyserver

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Registration says who may become a user.
type Registration string

const (
	RegistrationOpen       Registration = "open"       // anybody
	RegistrationInvitation Registration = "invitation" // who has an invitation code
	RegistrationClosed     Registration = "closed"     // nobody
)

func (o *Options) checkRegistration() error {
	switch o.Registration {
	case "":
		o.Registration = RegistrationOpen
	case RegistrationOpen, RegistrationInvitation, RegistrationClosed:
	default:
		return fmt.Errorf("options: Registration: %q is not open, invitation or closed", o.Registration)
	}
	return nil
}

// Invitation lets one user register. Its code is told once, when it is made;
// the store has a keyed hash of it.
type Invitation struct {
	ID      string    `json:"-"`       // names it to RevokeInvitation; worth nothing for registering
	Comment string    `json:"comment"` // for the operator, at most 256 octets
	Created time.Time `json:"created"`
	Expires time.Time `json:"-"`
}

const (
	invitationSize  = 16 // octets of a code
	maxComment      = 256
	maxInvitations  = 10_000
	longestInviting = 10 * 365 * 24 * time.Hour
)

var codeText = base32.StdEncoding.WithPadding(base32.NoPadding)

// CreateInvitation makes a code of 26 letters and digits that lets one user
// register within lifetime.
func (s *Server) CreateInvitation(ctx context.Context, lifetime time.Duration, comment string) (code string, _ *Invitation, err error) {
	if lifetime <= 0 || lifetime > longestInviting {
		return "", nil, errors.New("create invitation: its lifetime must be positive, and at most 10 years")
	}
	if len(comment) > maxComment {
		return "", nil, fmt.Errorf("create invitation: the comment has more than %d octets", maxComment)
	}
	random := make([]byte, invitationSize)
	rand.Read(random)
	code = codeText.EncodeToString(random)
	key := s.hidden("invitation", code)
	now := s.Now()
	i := &Invitation{ID: hex.EncodeToString(key), Comment: comment, Created: now, Expires: now.Add(lifetime)}
	b, err := json.Marshal(i)
	if err != nil {
		return "", nil, err
	}
	err = s.Store.Update(ctx, func(w Writer) error {
		all, err := w.NotesOf(NoteInvitation, nil, now, maxInvitations)
		if err != nil {
			return err
		}
		if len(all) >= maxInvitations {
			return fmt.Errorf("there are %d invitations that nobody used: revoke some", len(all))
		}
		return w.PutNote(&Note{Kind: NoteInvitation, Key: key, Value: b, Expires: i.Expires})
	})
	if err != nil {
		return "", nil, fmt.Errorf("create invitation: %w", err)
	}
	return code, i, nil
}

// Invitations lists those that can be used still.
func (s *Server) Invitations(ctx context.Context) ([]Invitation, error) {
	var all []Invitation
	err := s.Store.View(ctx, func(r Reader) error {
		notes, err := r.NotesOf(NoteInvitation, nil, s.Now(), maxInvitations)
		if err != nil {
			return err
		}
		all = make([]Invitation, len(notes))
		for i, n := range notes {
			if err := json.Unmarshal(n.Value, &all[i]); err != nil {
				return fmt.Errorf("store is damaged: invitation: %w", err)
			}
			all[i].ID, all[i].Expires = hex.EncodeToString(n.Key), n.Expires
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list invitations: %w", err)
	}
	return all, nil
}

// RevokeInvitation makes one worthless; that there is none is no error.
func (s *Server) RevokeInvitation(ctx context.Context, id string) error {
	key, err := hex.DecodeString(id)
	if err != nil || len(key) != len(s.hidden("", "")) {
		return errors.New("revoke invitation: not the id of an invitation")
	}
	if err := s.Store.Update(ctx, func(w Writer) error { return w.DeleteNote(NoteInvitation, nil, key) }); err != nil {
		return fmt.Errorf("revoke invitation: %w", err)
	}
	return nil
}

// mayRegister uses the invitation up, where one is needed, in the transaction
// that makes the user.
func (s *Server) mayRegister(w Writer, code string) error {
	switch s.Registration {
	case RegistrationOpen:
		return nil
	case RegistrationClosed:
		return forbidden("this server takes no new users")
	}
	refused := forbidden("registering here needs an invitation that nobody has used and that has not ended")
	code = strings.ToUpper(strings.NewReplacer(" ", "", "-", "").Replace(code))
	if len(code) != codeText.EncodedLen(invitationSize) {
		return refused
	}
	key := s.hidden("invitation", code)
	n, err := w.Note(NoteInvitation, nil, key, s.Now())
	if err != nil || n == nil {
		return orErr(err, refused)
	}
	return w.DeleteNote(NoteInvitation, nil, key)
}
