package evil

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/boltstore"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

// State is all objects of a user as they were at some time, counters included.
type State map[keyapi.ObjectID]keyapi.Object

// ObjectsOf copies the objects of a user in the main world.
func (s *Server) ObjectsOf(username string) State {
	s.tb.Helper()
	state, err := ReadObjects(context.Background(), s.main, username)
	if err != nil {
		s.tb.Fatalf("evil: %v", err)
	}
	return state
}

// ReadObjects copies the objects of a user out of a key server's store.
func ReadObjects(ctx context.Context, store keyserver.Store, username string) (State, error) {
	state := State{}
	err := store.View(ctx, func(r keyserver.Reader) error {
		u, err := userOf(r, username)
		if err != nil {
			return err
		}
		list, err := r.ObjectVersions(u)
		if err != nil {
			return err
		}
		clear(state) // it may run again
		for _, v := range list {
			o, err := r.Object(u, v.ID)
			if err != nil {
				return err
			}
			state[v.ID] = *o
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("copy objects: %w", err)
	}
	return state, nil
}

// SetObjects makes the objects of a user in the main world these and no others:
// an older State is a roll-back of everything, and an honest server goes on from
// there. Sessions, inboxes and groups stay as they are.
func (s *Server) SetObjects(username string, state State) {
	s.tb.Helper()
	if err := WriteObjects(context.Background(), s.main, username, state); err != nil {
		s.tb.Fatalf("evil: %v", err)
	}
}

// WriteObjects makes the objects of a user in a key server's store these and no
// others.
func WriteObjects(ctx context.Context, store keyserver.Store, username string, state State) error {
	err := store.Update(ctx, func(w keyserver.Writer) error {
		u, err := userOf(w, username)
		if err != nil {
			return err
		}
		list, err := w.ObjectVersions(u)
		if err != nil {
			return err
		}
		for _, v := range list {
			if err := w.DeleteObject(u, v.ID); err != nil {
				return err
			}
		}
		for _, o := range state {
			if err := w.PutObject(u, &o); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("set objects: %w", err)
	}
	return nil
}

// Changed lists the objects of a type (the first octet of an id) that differ
// between two states.
func Changed(before, after State, objectType byte) []keyapi.ObjectID {
	var ids []keyapi.ObjectID
	for id, o := range after {
		if id[0] == objectType && sha256.Sum256(before[id].Data) != sha256.Sum256(o.Data) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b keyapi.ObjectID) int { return slices.Compare(a[:], b[:]) })
	return ids
}

// Conversation is what the server knows of a conversation's group; nil: nothing.
func (s *Server) Conversation(kind keyapi.Kind, id keyserver.ConversationID) *keyserver.Conversation {
	s.tb.Helper()
	var c *keyserver.Conversation
	s.look("read conversation", func(r keyserver.Reader) (err error) {
		c, err = r.Conversation(kind, id)
		return err
	})
	return c
}

// SetConversation makes the server believe that: with an earlier one, it takes
// another Commit for an epoch that has ended.
func (s *Server) SetConversation(c *keyserver.Conversation) {
	s.tb.Helper()
	s.change("set conversation", func(w keyserver.Writer) error { return w.PutConversation(c) })
}

// world is a copy of the main world that goes on by itself.
type world struct {
	store   *boltstore.Store
	server  *keyserver.Server
	handler http.Handler
}

// errCopied ends the transaction under which the file is copied.
var errCopied = errors.New("copied")

// Fork shows devices a copy of the main world from now on, in which all users,
// sessions, objects and groups are as they are now. Both worlds go on, each as an
// honest server; nothing that happens in one is known in the other.
func (s *Server) Fork(devices ...string) {
	s.tb.Helper()
	s.mu.Lock()
	n := len(s.forks) + 1
	s.mu.Unlock()
	path := s.file(n)
	// While it may write, nobody else does, and it has not yet.
	err := s.main.Update(context.Background(), func(keyserver.Writer) error {
		b, err := os.ReadFile(s.file(0))
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			return err
		}
		return errCopied
	})
	if !errors.Is(err, errCopied) {
		s.tb.Fatalf("fork: %v", err)
	}
	f, err := s.open(path)
	if err != nil {
		s.tb.Fatalf("fork: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forks = append(s.forks, f)
	for _, d := range devices {
		s.seen[d] = f
	}
}

func (s *Server) open(path string) (*world, error) {
	store, err := boltstore.Open(path)
	if err != nil {
		return nil, err
	}
	server, err := keyserver.New(keyserver.Options{
		Store: store, Origin: s.Origin, TokenKey: s.options.TokenKey, Pepper: s.options.Pepper,
		CipherSuites: s.options.CipherSuites, CheckKeyPackage: s.options.CheckKeyPackage,
		Limits: s.options.Limits, Now: s.options.Now,
	})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	s.tb.Cleanup(func() {
		if err := errors.Join(server.Close(), store.Close()); err != nil {
			s.tb.Errorf("close fork: %v", err)
		}
	})
	return &world{store: store, server: server, handler: server}, nil
}

// Reunite shows devices the main world again.
func (s *Server) Reunite(devices ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range devices {
		delete(s.seen, d)
	}
}

func userOf(r keyserver.Reader, username string) (keyserver.UserID, error) {
	u, err := r.UserByName(strings.ToLower(username))
	if err != nil {
		return keyserver.UserID{}, err
	}
	if u == nil {
		return keyserver.UserID{}, fmt.Errorf("no user %q", username)
	}
	return u.ID, nil
}

func (s *Server) look(what string, fn func(keyserver.Reader) error) {
	s.tb.Helper()
	if err := s.main.View(context.Background(), fn); err != nil {
		s.tb.Fatalf("evil: %s: %v", what, err)
	}
}

func (s *Server) change(what string, fn func(keyserver.Writer) error) {
	s.tb.Helper()
	if err := s.main.Update(context.Background(), fn); err != nil {
		s.tb.Fatalf("evil: %s: %v", what, err)
	}
}

// defaults are those of keyservertest, so that what one world issues is good in
// the other.
func defaults(o keyserver.Options) keyserver.Options {
	if o.TokenKey == nil {
		o.TokenKey = keyservertest.TokenKey()
	}
	if o.Pepper == nil {
		o.Pepper = keyservertest.Pepper()
	}
	if o.Limits == (keyserver.Limits{}) {
		o.Limits = keyservertest.Unlimited()
	}
	return o
}
