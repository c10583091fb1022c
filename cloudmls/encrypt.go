package cloudmls

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

const (
	// updateAfterMessages and updateAfter are when a member refreshes its keys
	// with a Commit, for post-compromise security (RFC 9420 section 16.6) and
	// long before an epoch's generations run out.
	updateAfterMessages = 200
	updateAfter         = 7 * 24 * time.Hour
)

// Encrypt seals plaintext for the members of the conversation and gives an
// MLSMessage with a PrivateMessage (RFC 9420 section 6). aad is authenticated
// for the readers, but not encrypted. Plaintext is any octets, or none; one message
// has 16 MiB at most, with aad, the padding and what protects them, so that 15 MiB
// fit beside a small aad. EncryptStream takes content of any size.
//
// It syncs first; where the key server cannot be reached, it still encrypts to
// the last known members while generations reserved before last. The generation
// is used up durably before the ciphertext exists, so a crash skips one and
// never repeats one. A device that was set back to an older copy of its disk
// does not repeat one either, as long as it reaches the key server: what a
// Client did not reserve itself it uses without the key server only.
//
// Every failure is an error, and nothing but a ciphertext is ever returned
// without one: ErrNoConversation, ErrNotMember, ErrBroken,
// *IdentityChangedError and others.
func (c *Client) Encrypt(ctx context.Context, self Account, id ConversationID, plaintext, aad []byte) ([]byte, error) {
	return c.encrypt(ctx, self, id, nil, plaintext, aad)
}

// EncryptSince is Encrypt for a caller that had the account synced since a
// Moment, at which its work on the message began: a Sync that began after it and
// went through takes the place of Encrypt's own. Where there was none, it is the
// same as Encrypt.
func (c *Client) EncryptSince(ctx context.Context, self Account, id ConversationID, m Moment, plaintext, aad []byte) ([]byte, error) {
	return c.encrypt(ctx, self, id, &m, plaintext, aad)
}

func (c *Client) encrypt(ctx context.Context, self Account, id ConversationID, since *Moment, plaintext, aad []byte) ([]byte, error) {
	self, err := c.own(ctx, self)
	if err != nil {
		return nil, err
	}
	if err := fits(plaintext, aad); err != nil {
		return nil, err
	}
	unlock, err := c.locks.lock(ctx, conversationLock(self, id))
	if err != nil {
		return nil, err
	}
	defer unlock()
	away := c.syncSince(ctx, self, since)
	if away != nil && !unreachable(ctx, away) {
		return nil, away
	}
	online := away == nil
	if !online {
		c.o.Logger.DebugContext(ctx, "encrypting without the key server", slog.Any("err", away))
	}
	conv, err := c.sendable(ctx, self, id)
	if !online && errors.Is(err, ErrNoConversation) {
		return nil, away // who could not ask does not know that there is none
	}
	if err != nil {
		return nil, err
	}
	if online {
		if conv, err = c.updateIfDue(ctx, self, conv); err != nil {
			return nil, err
		}
	}
	for range maxAttempts {
		sealed, err := c.seal(ctx, self, conv, online, plaintext, aad)
		var moved *movedError
		if !errors.As(err, &moved) {
			return sealed, err
		}
		if _, err := c.sync(ctx, self); err != nil { // a sibling device opened an epoch
			return nil, err
		}
		if conv, err = c.sendable(ctx, self, id); err != nil {
			return nil, err
		}
	}
	return nil, ErrBusy
}

// fits refuses what cannot be one message, before a generation is used up for it.
func fits(plaintext, aad []byte) error {
	const around = 1 << 10 // header, signature and tags have less
	if len(aad) <= mls.MaxMessage && len(plaintext) <= mls.MaxMessage && padme(len(plaintext)+around)+len(aad)+around <= mls.MaxMessage {
		return nil
	}
	return fmt.Errorf("encrypt: %d octets of plaintext and %d of authenticated data are more than the %d that one message may have; EncryptStream takes content of any size",
		len(plaintext), len(aad), mls.MaxMessage)
}

// unreachable tells whether an error only says that the key server cannot be
// used now. Cancellation, a state that was rolled back, a lost session and the
// key server's own refusals are not that.
func unreachable(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	var rollback *state.RollbackError
	if errors.As(err, &rollback) {
		return false
	}
	var unprocessed *unprocessedError
	if errors.As(err, &unprocessed) {
		return false
	}
	for _, final := range []error{state.ErrSignedOut, state.ErrPinned, state.ErrBusy, state.ErrNotFound, ErrBusy} {
		if errors.Is(err, final) {
			return false
		}
	}
	var p *keyapi.Problem
	return !errors.As(err, &p) || p.Status >= http.StatusInternalServerError || p.Status == http.StatusTooManyRequests
}

// sendable gives the conversation if something may be encrypted in it: we are
// a member, and nobody in it has an identity key other than the pinned one.
func (c *Client) sendable(ctx context.Context, self Account, id ConversationID) (*conversationRecord, error) {
	if err := c.store.Err(); err != nil {
		return nil, err
	}
	known, err := c.knownConversation(ctx, self, id)
	switch {
	case err != nil:
		return nil, fmt.Errorf("conversation: %w", err)
	case known == nil:
		return nil, ErrNoConversation
	}
	conv := *known
	if err := conv.blocked(); err != nil {
		return nil, err
	}
	contacts, err := c.knownContacts(ctx, self)
	if err != nil {
		return nil, fmt.Errorf("contacts of %s: %w", self, err)
	}
	if err := contacts.checkRoster(withoutSelf(self, conv.Members)); err != nil {
		return nil, err
	}
	return &conv, nil
}

// updateIfDue refreshes the own leaf's keys when it is time, and does what
// members ask for: who wants to leave is not written to any more, and who lost
// track can read what comes. A failure is no reason not to send, as long as there
// are generations left.
func (c *Client) updateIfDue(ctx context.Context, self Account, conv *conversationRecord) (*conversationRecord, error) {
	b, err := c.block(self, conv)
	if err != nil {
		return nil, err
	}
	former, err := c.showsFormer(ctx, self, conv)
	if err != nil {
		return nil, err
	}
	old := c.leafAge(self, conv) >= updateAfter
	many := b != nil && (b.Next == b.End || !c.isFresh(self, b)) && b.End+blockSize > updateAfterMessages
	renew := old || many || former || conv.Renew || c.isBehind(self, conv)
	wishes := len(conv.Wishes) > 0 && !c.restsFrom(self, conv.ID)
	if !renew && !wishes {
		return conv, nil
	}
	epoch, grant := conv.Epoch, c.grant(ctx, self)
	next, err := c.commit(ctx, self, conv.ID, func(now *conversationRecord) (ch *change, err error) {
		if wishes {
			ch, err = grant(now)
		}
		if err != nil || now.Epoch != epoch {
			return ch, err // somebody opened an epoch: good enough for the keys
		}
		if ch == nil && renew {
			ch = &change{}
		}
		if ch != nil {
			ch.renew = renew
		}
		return ch, nil
	})
	if err != nil {
		if wishes {
			c.rest(self, conv.ID, err)
		}
		if ctx.Err() != nil || c.store.Err() != nil {
			return nil, fmt.Errorf("refresh keys: %w", err)
		}
		c.warn(ctx, "keys were not refreshed", err)
		return c.sendable(ctx, self, conv.ID)
	}
	return next, nil
}

// showsFormer tells whether the own leaf shows an identity key that was replaced, by a
// rotation that was cut off before its Commit in this group: in an epoch that another
// member opens since, readers would be warned of it.
func (c *Client) showsFormer(ctx context.Context, self Account, conv *conversationRecord) (bool, error) {
	m, ok := rosterFind(conv.Members, self)
	if !ok {
		return false, nil
	}
	id, err := c.knownIdentity(ctx, self)
	if err != nil || id == nil {
		return false, err
	}
	return slices.ContainsFunc(id.Former, func(f formerKey) bool { return bytes.Equal(f.Key, m.IdentityKey) }), nil
}

// seal uses up one generation and makes the ciphertext with it.
func (c *Client) seal(ctx context.Context, self Account, conv *conversationRecord, online bool, plaintext, aad []byte) ([]byte, error) {
	r, err := c.epoch(ctx, self, conv.Group, conv.Epoch)
	if err != nil {
		return nil, fmt.Errorf("archive record of the epoch: %w", err)
	}
	generation, signature, err := c.nextGeneration(ctx, self, conv, online)
	if err != nil {
		return nil, err
	}
	guard, err := c.reuseGuard(conv.Group, conv.Epoch)
	if err != nil {
		return nil, err
	}
	m, err := r.archive.Seal(plaintext, signature, mls.ProtectOptions{
		AuthenticatedData: authData(r.archive.EpochAuthenticator(), uint32(r.archive.OwnLeaf()), generation, aad),
		Padding:           padme, Generation: &generation, ReuseGuard: guard,
	})
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	b, err := m.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return b, nil
}

// reuseGuard gives the four octets that are mixed into a nonce (RFC 9420
// section 6.3.1). The reserved generations keep nonces unique; behind that, the
// first two octets, which are the whole device slot, keep devices apart even if
// the key server gave two of them the same block, and the others a device that
// was restored from a copy. The mask hides the slot from other members.
func (c *Client) reuseGuard(group []byte, epoch uint64) (*[4]byte, error) {
	key := c.store.Derive("cloudmls/1 reuse guard", group)
	h := hmac.New(sha256.New, key[:])
	h.Write(binary.BigEndian.AppendUint64(nil, epoch))
	var guard [4]byte
	if _, err := rand.Read(guard[2:]); err != nil {
		return nil, fmt.Errorf("make reuse guard: %w", err)
	}
	partitionGuard(&guard, c.store.Slot(), h.Sum(nil))
	return &guard, nil
}

// partitionGuard sets the octets that belong to a device slot.
func partitionGuard(guard *[4]byte, slot uint16, mask []byte) {
	binary.BigEndian.PutUint16(guard[:2], slot^binary.BigEndian.Uint16(mask))
}
