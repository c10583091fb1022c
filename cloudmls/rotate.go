package cloudmls

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/internal/crashpoint"
)

// RotationStage is a part of a rotation.
type RotationStage string

// Stages of a rotation, in order.
const (
	// RotationKeys: the state's keys are replaced, and the devices are out.
	RotationKeys RotationStage = "state keys"
	// RotationSessions: the sessions of the devices are ended.
	RotationSessions RotationStage = "sessions"
	// RotationIdentities: each account gets another identity key, signed by the
	// one before, and KeyPackages of it.
	RotationIdentities RotationStage = "identity keys"
	// RotationGroups: the user's leaf in each group gets new keys, by a Commit.
	RotationGroups RotationStage = "groups"
	// RotationReseal: what lies under the keys before is sealed anew.
	RotationReseal RotationStage = "sealing anew"
	// RotationDone: everything is done.
	RotationDone RotationStage = "done"
)

// RotationProgress is how far a rotation is.
type RotationProgress struct {
	Stage       RotationStage
	Done, Total int // of the stage
}

// RotateOptions say what Rotate does.
type RotateOptions struct {
	// Devices are the ids of the devices that are to be out (Device.ID); nil: all
	// but this one.
	Devices []string
	// Progress, if set, is called by Rotate as it goes. It must not call the Client.
	Progress func(RotationProgress)
}

// rotationRecord is the object app/cloudmls/rotation: a rotation under way.
type rotationRecord struct {
	Version int   `json:"v"`
	Round   int64 `json:"round"` // milliseconds since 1970, or more; grows with each rotation
}

func rotationKey() state.Key { return state.Key{Type: state.TypeApp, Name: "cloudmls/rotation"} }

// Rotate replaces the keys that other devices of the user hold, for when one of
// them may be in somebody's hands: the keys that the state is sealed under, the
// accounts' identity keys, all KeyPackages, and the keys of the user's leaf in
// every group. The devices named are no longer the user's: they can neither read
// nor change the state, nor take part in a group, until somebody signs in on them
// with the password. Neither password nor recovery code is needed; where a device
// was stolen, change the password before, and replace the recovery code: whoever
// had the device may have put others in their place, for which the new keys would
// be wrapped.
//
// What was said before is not sealed anew: the archive keys of the past stay, and
// so does the key that objects are named by at the key server. Who copied them, and
// is handed the archive records of then, reads what was said until the Commits.
//
// Where somebody has replaced an account's identity key before, that one cannot be
// replaced (ErrIdentityTaken), and everything else is. People whom the thief added
// to a group stay in it, as its members show.
//
// It is not one step, and takes a Commit in every group: Progress shows how far
// it is, and until it is done, a thief who shares the delivery service's or a
// carrier's secrets can read groups that it has not reached. Where it is cut off
// or fails, it is remembered for all of the user's devices: ResumeRotation, or
// Maintain on whichever device, finishes it.
//
// Contacts follow the new identity keys by themselves and are told; people who
// had compared keys do so again.
func (c *Client) Rotate(ctx context.Context, o RotateOptions) error {
	list, _, err := c.devices(ctx)
	if err != nil {
		return fmt.Errorf("rotate keys: %w", err)
	}
	drop, err := dropped(list, o.Devices)
	if err != nil {
		return fmt.Errorf("rotate keys: %w", err)
	}
	report(o.Progress, RotationKeys, 0, 1)
	round, err := c.nextRound(ctx)
	if err != nil {
		return fmt.Errorf("rotate keys: %w", err)
	}
	r := &rotationRecord{Version: recordVersion, Round: round}
	b, err := encodeRecord(r)
	if err != nil {
		return err
	}
	begin := func(tx *state.Tx) error { return tx.Put(rotationKey(), b) }
	if o.Devices == nil {
		err = c.store.RotateRootAlone(ctx, begin)
	} else {
		err = c.store.RotateRoot(ctx, begin, drop...)
	}
	if err != nil {
		return fmt.Errorf("rotate keys: %w", err)
	}
	crashpoint.Here("rotation-begun")
	report(o.Progress, RotationKeys, 1, 1)
	return c.ResumeRotation(ctx, o.Progress)
}

// nextRound gives a number above those of all rotations before, whatever the
// clocks of the devices say.
func (c *Client) nextRound(ctx context.Context) (int64, error) {
	round := c.now().UnixMilli()
	if r, err := c.rotation(ctx); err != nil {
		return 0, err
	} else if r != nil {
		round = max(round, r.Round+1)
	}
	accounts, err := c.Accounts(ctx)
	if err != nil {
		return 0, err
	}
	for _, self := range accounts {
		id, err := c.identity(ctx, self)
		if err != nil {
			return 0, err
		}
		round = max(round, id.Round+1)
		if id.Next != nil {
			round = max(round, id.Next.Round+1)
		}
	}
	return round, nil
}

func report(progress func(RotationProgress), s RotationStage, done, total int) {
	if progress != nil {
		progress(RotationProgress{s, done, total})
	}
}

// dropped gives the raw ids of the devices that are to be out.
func dropped(list []Device, ids []string) ([][]byte, error) {
	var drop [][]byte
	for _, d := range list {
		named := slices.Contains(ids, d.ID)
		switch {
		case d.This && named:
			return nil, errors.New("this device cannot put itself out; sign out instead")
		case d.This, d.Slot == 0, ids != nil && !named: // sessions without a device are ended anyway
			continue
		}
		raw, err := hex.DecodeString(d.ID)
		if err != nil {
			return nil, fmt.Errorf("device id: %w", err)
		}
		drop = append(drop, raw)
	}
	for _, id := range ids {
		if !slices.ContainsFunc(list, func(d Device) bool { return d.ID == id }) {
			return nil, fmt.Errorf("device %s: %w", id, ErrNoDevice)
		}
	}
	return drop, nil
}

// Rotating tells whether a rotation of the user's keys has begun and is not done,
// and when it began.
func (c *Client) Rotating(ctx context.Context) (time.Time, bool, error) {
	if err := c.usable(); err != nil {
		return time.Time{}, false, err
	}
	r, err := c.rotation(ctx)
	if err != nil || r == nil {
		return time.Time{}, false, err
	}
	return time.UnixMilli(r.Round), true, nil
}

func (c *Client) rotation(ctx context.Context) (*rotationRecord, error) {
	b, err := c.store.Get(ctx, rotationKey())
	if errors.Is(err, state.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("rotation: %w", err)
	}
	r := &rotationRecord{}
	return r, decodeRecord(b, r)
}

// ResumeRotation finishes a rotation that this device or another one began; it
// does nothing where there is none. Each stage can be done twice. What cannot be
// done now, such as a group whose Commit fails, does not keep the rest; it is told
// in the error and tried again the next time.
func (c *Client) ResumeRotation(ctx context.Context, progress func(RotationProgress)) error {
	if err := c.usable(); err != nil {
		return err
	}
	if _, err := c.store.Refresh(ctx); err != nil {
		return fmt.Errorf("rotate keys: %w", err)
	}
	r, err := c.rotation(ctx)
	if err != nil || r == nil {
		return err
	}
	if err := c.endForeignSessions(ctx, progress); err != nil {
		return fmt.Errorf("rotate keys: %w", err)
	}
	crashpoint.Here("rotation-sessions-ended")
	accounts, err := c.Accounts(ctx)
	if err != nil {
		return fmt.Errorf("rotate keys: %w", err)
	}
	var failed []error
	for i, self := range accounts {
		report(progress, RotationIdentities, i, len(accounts))
		err := c.rotateIdentity(ctx, self, r.Round)
		if errors.Is(err, ErrIdentityTaken) {
			err = errors.Join(err, c.markTaken(ctx, self, r.Round))
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("identity key of %s: %w", self, err))
		}
	}
	report(progress, RotationIdentities, len(accounts)-len(failed), len(accounts))
	left := errors.Join(errors.Join(failed...), c.rotateGroups(ctx, accounts, progress))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	crashpoint.Here("rotation-groups-done")
	err = c.store.Reseal(ctx, func(done, total int) { report(progress, RotationReseal, done, total) })
	if err != nil {
		return fmt.Errorf("rotate keys: %w", err)
	}
	crashpoint.Here("rotation-resealed")
	if left != nil {
		return fmt.Errorf("rotate keys: %w", left)
	}
	err = c.store.Update(ctx, func(tx *state.Tx) error {
		b, err := tx.Get(rotationKey())
		if errors.Is(err, state.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		now := &rotationRecord{}
		if err := decodeRecord(b, now); err != nil || now.Round != r.Round {
			return err // another one began meanwhile
		}
		return tx.Delete(rotationKey())
	})
	if err != nil {
		return fmt.Errorf("rotate keys: %w", err)
	}
	report(progress, RotationDone, 1, 1)
	return nil
}

// endForeignSessions ends the sessions of whatever is none of the user's devices.
func (c *Client) endForeignSessions(ctx context.Context, progress func(RotationProgress)) error {
	list, sessions, err := c.devices(ctx)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(d Device) bool { return d.Slot != 0 || d.This })
	for i, d := range list {
		report(progress, RotationSessions, i, len(list))
		for _, s := range sessions[d.ID] {
			err := c.store.Authorized(ctx, func(ctx context.Context, token string) error {
				return c.o.Server.EndSession(ctx, token, s.SessionID)
			})
			if err != nil {
				return fmt.Errorf("end session: %w", err)
			}
		}
	}
	report(progress, RotationSessions, len(list), len(list))
	return nil
}

// rotateGroups commits in every group where the user's leaf shows a former
// identity key, which is all that were there when the rotation began, or, where
// the identity key had to stay, is marked.
func (c *Client) rotateGroups(ctx context.Context, accounts []Account, progress func(RotationProgress)) error {
	type place struct {
		self Account
		id   ConversationID
	}
	due := map[Account]func(*conversationRecord) bool{}
	var places []place
	for _, self := range accounts {
		if _, err := c.sync(ctx, self); err != nil {
			return err
		}
		id, err := c.identity(ctx, self)
		if err != nil {
			return err
		}
		records, err := c.conversations(ctx, self)
		if err != nil {
			return err
		}
		due[self] = func(r *conversationRecord) bool {
			m, ok := rosterFind(r.Members, self)
			return ok && r.blocked() == nil && (r.Renew || !id.is(m.IdentityKey))
		}
		for _, r := range records {
			if due[self](r) {
				places = append(places, place{self, r.ID})
			}
		}
	}
	var failed []error
	for i, p := range places {
		report(progress, RotationGroups, i, len(places))
		if err := c.renew(ctx, p.self, p.id, due[p.self]); err != nil && !errors.Is(err, ErrNotMember) && !errors.Is(err, ErrBroken) {
			failed = append(failed, fmt.Errorf("conversation of %s: %w", p.self, err))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		crashpoint.Here("rotation-group-done")
	}
	report(progress, RotationGroups, len(places)-len(failed), len(places))
	return errors.Join(failed...)
}
