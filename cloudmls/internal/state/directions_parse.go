package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"

	"github.com/cloudmls/gateway/cloudmls/internal/keys"
)

// Bounds of what a login in directions says, in octets.
const (
	maxLoginID    = 64
	maxOrigin     = 512
	maxLoginName  = 256
	maxInvitation = 1024
)

// parseDirections reads what a device of the user has written. One that was dropped
// can have written what it likes before it was.
func parseDirections(plain []byte, counter uint64) (*directions, error) {
	var d directions
	if err := json.Unmarshal(plain, &d); err != nil {
		return nil, errDirections
	}
	if d.Version != directionsVersion {
		return nil, fmt.Errorf("directions of version %d, this program knows %d", d.Version, directionsVersion)
	}
	if err := d.check(counter); err != nil {
		return nil, err
	}
	return &d, nil
}

func (d *directions) check(counter uint64) error {
	// The number of a move is a counter, and the one after the last has to exist.
	if d.Counter != counter || counter >= math.MaxInt64 || len(d.Stores) > maxStores || len(d.Endings) > maxEndings {
		return errDirections
	}
	type user struct{ origin, name string }
	known, users := map[string]bool{atHome: true}, map[user]bool{}
	for i := range d.Stores {
		l := &d.Stores[i]
		u := user{l.Origin, l.Username}
		if known[l.ID] || users[u] {
			return errDirections
		}
		if err := l.check(); err != nil {
			return fmt.Errorf("%w: %w", errDirections, err)
		}
		known[l.ID], users[u] = true, true
	}
	for _, e := range d.Endings {
		if e.Move == 0 || e.Move > d.Counter || !known[e.From] || !known[e.To] || e.From == e.To {
			return errDirections
		}
	}
	switch {
	case !known[d.At],
		d.Moving != "" && (!known[d.Moving] || d.Moving == d.At || d.Move == 0 || d.Move > d.Counter),
		d.Moving == "" && (d.Move != 0 || d.Copied),
		d.Root != nil && len(d.Root) != keys.RootSize,
		len(d.For) > 2, len(d.For) > 0 && d.Root == nil:
		return errDirections
	}
	return nil
}

func (l *storeLogin) check() error {
	switch {
	case l.ID == "" || len(l.ID) > maxLoginID,
		l.Username == "" || len(l.Username) > maxLoginName,
		len(l.Invitation) > maxInvitation,
		len(l.Known) > maxKnown, slices.ContainsFunc(l.Known, func(id string) bool { return len(id) > 2*len(keys.Recipient{}.ID) }):
		return errors.New("a login is too long, or has no name")
	case len(l.UserID) != keys.UserIDSize || len(l.Secret) != secretSize || len(l.Former) != 0 && len(l.Former) != secretSize:
		return errors.New("a login has octets of a wrong size")
	}
	return checkOrigin(l.Origin)
}

// checkOrigin wants scheme and host, and a path at most: what a server calls
// itself and is reached at.
func checkOrigin(origin string) error {
	u, err := url.Parse(origin)
	if err != nil || len(origin) > maxOrigin || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		u.Scheme != "https" && u.Scheme != "http" {
		return errors.New("the origin of a store is not an https URL")
	}
	return nil
}
