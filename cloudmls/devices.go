package cloudmls

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// ErrNoDevice: the user has no such device.
var ErrNoDevice = errors.New("no such device")

// Device is one installation of the user.
type Device struct {
	ID   string // stable; RevokeDevice takes it
	Name string // as the device called itself
	// Slot is the device's number among the user's; 0: the key server has a
	// session of something that is not listed as a device, such as a sign-in
	// that was cut off, or one by a program that only knows the password.
	Slot     uint16
	Added    time.Time
	LastSeen time.Time // when it last renewed its session, as the key server says; zero: it has none
	SignedIn bool      // the key server has a session of it
	This     bool      // the one that asks
}

// sessionID marks the Device.ID of a session that belongs to no listed device.
const sessionID = "session-"

// Devices lists the user's devices, the latest first. Which there are, the
// sealed state says; which of them are signed in, and since when, the key
// server, and also whatever else is signed in.
func (c *Client) Devices(ctx context.Context) ([]Device, error) {
	list, _, err := c.devices(ctx)
	return list, err
}

// RevokeDevice ends the sessions of another device of the user at once, and
// takes it out of the list: it can neither read nor change anything at the key
// server any more, until somebody signs in on it with the password. So where it
// was lost or stolen, change the password as well.
//
// What the device had read until then it can still read. It also still holds
// the keys that the state is sealed under, the identity keys and those of the
// user's leaves; Rotate makes new ones of all of them, and is what a device that
// may be in somebody's hands calls for.
//
// ErrNoDevice where there is none of this id. The own device signs out
// (SignOut). When RevokeDevice fails after the sessions were ended, calling it
// again finishes the rest.
func (c *Client) RevokeDevice(ctx context.Context, id string) error {
	list, sessions, err := c.devices(ctx)
	if err != nil {
		return fmt.Errorf("revoke device: %w", err)
	}
	i := slices.IndexFunc(list, func(d Device) bool { return d.ID == id })
	if i < 0 {
		return fmt.Errorf("revoke device %s: %w", id, ErrNoDevice)
	}
	if list[i].This {
		return errors.New("revoke device: it is this one; sign out instead")
	}
	for _, s := range sessions[id] {
		err := c.store.Authorized(ctx, func(ctx context.Context, token string) error {
			return c.o.Server.EndSession(ctx, token, s.SessionID)
		})
		if err != nil {
			return fmt.Errorf("revoke device: end session: %w", err)
		}
	}
	if strings.HasPrefix(id, sessionID) {
		return nil
	}
	if err := c.store.DropDevice(ctx, id); err != nil {
		return fmt.Errorf("revoke device: %w", err)
	}
	return nil
}

// devices joins the sealed list with the key server's sessions.
func (c *Client) devices(ctx context.Context) ([]Device, map[string][]keyapi.SessionInfo, error) {
	if err := c.usable(); err != nil {
		return nil, nil, err
	}
	if _, err := c.store.Refresh(ctx); err != nil {
		return nil, nil, fmt.Errorf("devices: %w", err)
	}
	var answer keyapi.SessionList
	err := c.store.Authorized(ctx, func(ctx context.Context, token string) (err error) {
		answer, err = c.o.Server.Sessions(ctx, token)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("devices: %w", err)
	}
	var list []Device
	sessions := map[string][]keyapi.SessionInfo{}
	known := map[string]bool{}
	for _, d := range c.store.Devices() {
		x := Device{ID: d.ID, Name: d.Name, Slot: d.Slot, Added: d.Added, This: d.This}
		for _, s := range answer.Sessions {
			if bytes.Equal(s.Device.Key, d.Key) {
				known[string(s.SessionID)] = true
				sessions[d.ID] = append(sessions[d.ID], s)
				x.saw(s)
			}
		}
		list = append(list, x)
	}
	for _, s := range answer.Sessions {
		if known[string(s.SessionID)] {
			continue
		}
		x := Device{ID: sessionID + hex.EncodeToString(s.SessionID), Name: s.Device.Name, Added: s.Created, This: s.Current}
		x.saw(s)
		sessions[x.ID] = append(sessions[x.ID], s)
		list = append(list, x)
	}
	slices.SortFunc(list, func(a, b Device) int { return cmp.Or(b.Added.Compare(a.Added), cmp.Compare(a.ID, b.ID)) })
	return list, sessions, nil
}

func (d *Device) saw(s keyapi.SessionInfo) {
	d.SignedIn = true
	if s.Used.After(d.LastSeen) {
		d.LastSeen = s.Used
	}
}
