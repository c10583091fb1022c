// Package storetest tells whether a keyserver.Store does what its interface
// promises. Every implementation runs the same suite:
//
//	storetest.Run(t, storetest.Harness{New: ...})
//
// It knows nothing of HTTP: what the rules of the key server make of a Store is
// tested in package keyserver.
package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Harness is how the suite gets at an implementation.
type Harness struct {
	// New gives an empty store, which is closed when the test has ended.
	New func(t *testing.T) keyserver.Store
	// Reopen closes a store and opens what it has left.
	Reopen func(t *testing.T, s keyserver.Store) keyserver.Store
	// Census counts what is stored, by table; tables with nothing in them and
	// what every empty store has are left out.
	Census func(t *testing.T, s keyserver.Store) map[string]int
	// Check is the store's own check; it names what is wrong.
	Check func(t *testing.T, s keyserver.Store) []string
}

type suite struct {
	*testing.T
	h Harness
	s keyserver.Store
}

// Run runs the suite. The store is checked after each of its tests.
func Run(t *testing.T, h Harness) {
	tests := []struct {
		name string
		run  func(*suite)
	}{
		{"Mark", mark},
		{"Users", users},
		{"UsersAreListedByName", userList},
		{"Sessions", sessions},
		{"OldTokensAreForgottenInTheEnd", oldTokens},
		{"Accounts", accounts},
		{"TestFlaw31_AccountsShareNothing", flaw31},
		{"Challenges", challenges},
		{"KeyPackages", keyPackages},
		{"KeyPackagesEnd", keyPackagesEnd},
		{"TestFlaw24_CountersAreStoredAsGiven", flaw24},
		{"Objects", objects},
		{"ObjectsInOneTransaction", objectsInOne},
		{"LargeObjects", largeObjects},
		{"Results", results},
		{"TestFlaw27_Conversations", conversations},
		{"TestFlaw25_ReadingDeletesNothing", flaw25},
		{"TestFlaw26_OrderWithinAStep", flaw26},
		{"DeliveriesInPages", pages},
		{"DeliveredCommit", deliveredCommit},
		{"InboxUsage", inboxUsage},
		{"SharedOctetsLastUntilTheLastInbox", sharedOctets},
		{"Notes", notes},
		{"Expire", expire},
		{"ExpireKeepsWhatWasRenewed", expireRenewed},
		{"NothingIsLeftBehind", nothingLeft},
		{"DeleteUserAndAccount", deletion},
		{"FailedUpdateLeavesNothing", failedUpdate},
		{"FailedUpdatesAmongOthers", failedAmongOthers},
		{"PanicLeavesNothing", panicLeavesNothing},
		{"CancelledContext", cancelled},
		{"WriterSeesItsOwnWrites", ownWrites},
		{"ViewIsOneSnapshot", snapshot},
		{"ValuesOutliveTheirTransaction", outlive},
		{"ForeseeChangesNothing", foresee},
		{"TestThreat26_NoUpdateIsLost", noLostUpdate},
		{"TestThreat26_OneCommitPerEpoch", oneCommit},
		{"TestThreat26_NothingIsHandedOutTwice", claimOnce},
		{"TestThreat26_InboxHasNoGaps", noGaps},
		{"RegistrationsOfOneName", sameName},
		{"QuotasHoldUnderLoad", quotas},
		{"CrossingAccountsDoNotBlock", crossing},
		{"WhatWasAcknowledgedIsThereAfterwards", reopened},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := &suite{T: t, h: h, s: h.New(t)}
			test.run(s)
			for _, finding := range h.Check(t, s.s) {
				t.Errorf("check: %s", finding)
			}
		})
	}
}

// update and view run fn and fail the test on errors. Functions report by
// errors: a store may run them on a goroutine of its own.
func (s *suite) update(fn func(keyserver.Writer) error) {
	s.Helper()
	if err := s.s.Update(s.Context(), fn); err != nil {
		s.Fatal(err)
	}
}

func (s *suite) view(fn func(keyserver.Reader) error) {
	s.Helper()
	if err := s.s.View(s.Context(), fn); err != nil {
		s.Fatal(err)
	}
}

// both runs checks where they could differ: within the transaction that wrote,
// and in a view after it.
func (s *suite) both(write func(keyserver.Writer) error, check func(keyserver.Reader) error) {
	s.Helper()
	s.update(func(w keyserver.Writer) error { return firstOf(write(w), func() error { return check(w) }) })
	s.view(check)
}

func firstOf(err error, then func() error) error {
	if err != nil {
		return err
	}
	return then()
}

// want fails unless two values print alike.
func want(what string, got, want any) error {
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		return fmt.Errorf("%s: got %.300s, want %.300s", what, g, w)
	}
	return nil
}

// is is want for a call that may fail.
func is[T any](what string, expected T) func(T, error) error {
	return func(got T, err error) error {
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return want(what, got, expected)
	}
}

// absent is for calls that answer nil where there is nothing.
func absent[T any](what string) func(*T, error) error {
	return func(got *T, err error) error {
		if err == nil && got != nil {
			err = fmt.Errorf("%s: got %+v, want none", what, *got)
		}
		return err
	}
}

// found is for calls that must answer something like expected.
func found[T any](what string, expected T) func(*T, error) error {
	return func(got *T, err error) error {
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", what, err)
		case got == nil:
			return fmt.Errorf("%s: none", what)
		}
		return want(what, *got, expected)
	}
}

func account(id string) keyapi.Account { return keyapi.Account{Platform: "p", ID: id} }

func userID(n byte) keyserver.UserID { return keyserver.UserID{n, 0xff, n} }

func objectID(n byte) keyapi.ObjectID { return keyapi.ObjectID{n, 1} }

func hash(n int) keyserver.Hash { return keyserver.Hash{byte(n >> 8), byte(n), 7} }

func object(id keyapi.ObjectID, counter uint64, data string) *keyapi.Object {
	return &keyapi.Object{ID: id, Counter: counter, Data: []byte(data)}
}

func message(kind, text string) *keyapi.Delivery {
	return &keyapi.Delivery{
		Type: kind, Conversation: make([]byte, 16), Kind: keyapi.KindGroup, Group: []byte("group"), Epoch: 1,
		Sender: account("sender"), Message: []byte(text),
	}
}

var (
	start   = time.Unix(1_700_000_000, 0)
	errStop = errors.New("stop")
)
