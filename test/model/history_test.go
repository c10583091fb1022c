//go:build crashpoints && weakkdf

package model

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
)

// history is what happens in one run. It is data: the same history can be run
// again, cut down, and kept as a regression test. Numbers that name somebody or
// something are taken modulo what there is at that moment.
type history struct {
	Users   int `json:"users"`
	Devices int `json:"devices"` // of each user, signed in long ago
	// Forget: at the end, time passes until what is kept for a while is gone.
	Forget bool `json:"forget,omitempty"`
	// JSON: bodies travel as JSON, not as CBOR, which takes half the time.
	JSON  bool   `json:"json,omitempty"`
	Steps []step `json:"steps"`
	// Lies: the key server lies, as steps say. Bodies are JSON then.
	Lies bool `json:"lies,omitempty"`
}

// step is one operation, and what goes wrong during it.
type step struct {
	Op  string `json:"op"`
	U   int    `json:"u,omitempty"`   // user
	D   int    `json:"d,omitempty"`   // device of the user
	C   int    `json:"c,omitempty"`   // conversation
	V   []int  `json:"v,omitempty"`   // other users
	N   int    `json:"n,omitempty"`   // message, amount
	Lie string `json:"lie,omitempty"` // what begins with a step "lie"
	// Faults of the network and of the disk.
	Faults []fault `json:"faults,omitempty"`
	// Crash is a crash point, of the device or of the key server; it is passed
	// Passes times before.
	Crash  string `json:"crash,omitempty"`
	Passes int    `json:"passes,omitempty"`
	// Meanwhile happens, on another device, during the request that a fault
	// "meanwhile" or "meanwhile-after" names.
	Meanwhile *step `json:"meanwhile,omitempty"`
}

// fault strikes one request, or one write to the local store, by number.
type fault struct {
	Kind string `json:"kind"`
	At   int    `json:"at,omitempty"`
}

// Kinds of faults.
const (
	lost           = "lost"            // the request does not arrive
	unanswered     = "unanswered"      // it is carried out, the answer does not arrive
	twice          = "twice"           // it arrives twice, the second answer counts
	delayed        = "delayed"         // it arrives after the client has given up
	refused        = "refused"         // a proxy answers in the server's place
	meanwhile      = "meanwhile"       // another device does something before it arrives
	meanwhileAfter = "meanwhile-after" // another device does something before the answer arrives
	offline        = "offline"         // this and all later requests are lost
	crashBefore    = "crash-before"    // the device crashes before a write to its store
	crashAfter     = "crash-after"     // and after it
	diskFull       = "disk-full"       // the write fails
)

var faultKinds = []string{
	lost, unanswered, unanswered, twice, delayed, refused, meanwhile, meanwhile, meanwhileAfter, offline,
	crashBefore, crashAfter, diskFull,
}

// crashPoints are those that an operation passes; TestCrashPointsAreAll holds
// them against the code.
var crashPoints = map[string][]string{
	"send": {"reservation-accepted", "reservation-noted", "generation-taken"},
	"group": {
		"group-staged", "group-created", "handshake-reserved", "commit-staged", "commit-merged", "keypackage-taken",
		"update-sealed", "update-accepted", "update-noted", "tx-applied", "tx-durable",
	},
	"dialog": {"group-staged", "group-created", "keypackage-taken"},
	"remove": {"handshake-reserved", "commit-staged", "commit-merged", "update-sealed", "update-accepted", "update-noted"},
	"sync":   {"deliveries-processed", "deliveries-acknowledged", "keypackages-stored", "keypackages-published"},
	"rotate": {
		"rotation-begun", "rotation-sessions-ended", "identity-stored", "identity-published", "identity-replaced", "rotation-group-done", "rotation-groups-done", "rotation-resealed",
	},
	"maintain": {"archive-packed", "archive-replaced", "history-due", "history-deleted", "keypackages-stored", "keypackages-published"},
	"":         {"update-sealed", "update-accepted", "update-noted", "tx-applied", "tx-durable"},
}

func (h history) String() string {
	var s strings.Builder
	head, _ := json.Marshal(history{Users: h.Users, Devices: h.Devices, Forget: h.Forget, JSON: h.JSON, Lies: h.Lies})
	s.Write(head)
	for _, x := range h.Steps {
		s.WriteString("\n\t" + x.String())
	}
	return s.String()
}

func (s step) String() string {
	b, err := json.Marshal(s)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// weights say how often each operation is drawn.
var weights = map[string]int{
	"send": 10, "read": 8, "sync": 6, "dialog": 4, "group": 7, "remove": 4, "self": 1,
	"restart": 2, "open": 2, "password": 1, "signout": 1, "revoke": 1, "clock": 2, "time": 3, "late": 3,
	"account": 1, "restore": 1, "maintain": 1, "update": 3, "leave": 1, "replace": 1, "rotate": 1,
}

// random makes the history of a seed.
func random(seed uint64) history {
	r := rand.New(rand.NewPCG(seed, 1))
	h := history{Users: 2 + r.IntN(maxUsers-1), Devices: 1 + r.IntN(maxDevices), JSON: seed%8 == 0}
	for n := range 1 + r.IntN(2) { // something to work with
		h.Steps = append(h.Steps, step{Op: "group", U: r.IntN(h.Users), D: r.IntN(h.Devices), C: n, V: r.Perm(h.Users)[1:]})
	}
	for range 8 + r.IntN(20) {
		h.Steps = append(h.Steps, randomStep(r, &h, true))
	}
	h.Forget = r.IntN(10) == 0
	return h
}

func randomStep(r *rand.Rand, h *history, outer bool) step { return weighedStep(r, h, weights, outer) }

// weighedStep draws an operation; outer: with what goes wrong during it.
func weighedStep(r *rand.Rand, h *history, weights map[string]int, outer bool) step {
	sum := 0
	for _, op := range operations {
		sum += weights[op]
	}
	s := step{U: r.IntN(h.Users), D: r.IntN(h.Devices + 1), C: r.IntN(4), N: r.IntN(16)}
	for n := r.IntN(sum); s.Op == ""; {
		for _, op := range operations {
			if n -= weights[op]; n < 0 {
				s.Op = op
				break
			}
		}
	}
	for range r.IntN(4) {
		s.V = append(s.V, r.IntN(h.Users))
	}
	if s.Op == "lie" {
		s.Lie = lieKinds[r.IntN(len(lieKinds))]
	}
	if !outer {
		return s
	}
	switch r.IntN(10) {
	case 0, 1, 2: // trouble on the way, or on the disk
		for range 1 + r.IntN(2) {
			s.Faults = append(s.Faults, fault{faultKinds[r.IntN(len(faultKinds))], r.IntN(9)})
		}
		inner := weighedStep(r, h, weights, false)
		s.Meanwhile = &inner
	case 3, 4:
		points := crashPoints[s.Op]
		if points == nil || r.IntN(4) == 0 {
			points = crashPoints[""]
		}
		s.Crash, s.Passes = points[r.IntN(len(points))], max(0, r.IntN(4)-1)
	}
	return s
}

// shrink makes a history that fails smaller, as long as it fails, for at most so
// many tries.
func shrink(h history, tries int, fails func(history) bool) history {
	smaller := func(g history) bool {
		if tries--; tries < 0 || !fails(g) {
			return false
		}
		h = g
		return true
	}
	for again := true; again && tries > 0; {
		again = false
		for size := max(1, len(h.Steps)/2); size > 0; size /= 2 {
			for n := len(h.Steps) - size; n >= 0; n -= size {
				g := h
				g.Steps = slices.Delete(slices.Clone(h.Steps), n, n+size)
				again = smaller(g) || again
				n = min(n, len(h.Steps))
			}
		}
		for n := range h.Steps {
			for _, cut := range []func(s *step) bool{
				func(s *step) bool { return len(s.Faults) > 0 && clear2(&s.Faults, &s.Meanwhile) },
				func(s *step) bool { had := len(s.Faults) > 1; s.Faults = s.Faults[:min(1, len(s.Faults))]; return had },
				func(s *step) bool { had := s.Crash != ""; s.Crash, s.Passes = "", 0; return had },
				func(s *step) bool { had := len(s.V) > 0; s.V = s.V[:max(0, len(s.V)-1)]; return had },
				func(s *step) bool { had := s.Meanwhile != nil; s.Meanwhile = nil; return had },
			} {
				g := h
				g.Steps = slices.Clone(h.Steps)
				if cut(&g.Steps[n]) {
					again = smaller(g) || again
				}
			}
		}
		if h.Devices > 1 {
			g := h
			g.Devices--
			again = smaller(g) || again
		}
	}
	return h
}

func clear2(f *[]fault, m **step) bool {
	*f, *m = nil, nil
	return true
}

// lyingWeights are those of histories in which the key server lies. No disk is set
// back in them: what a device does not remember it cannot hold against a lie.
var lyingWeights = map[string]int{
	"send": 12, "read": 8, "sync": 10, "dialog": 5, "group": 8, "remove": 2, "self": 1,
	"restart": 3, "open": 2, "password": 1, "signout": 1, "revoke": 1, "time": 2, "late": 1,
	"account": 1, "maintain": 1, "update": 2, "leave": 1, "replace": 1, "rotate": 1,
	"verify": 2, "lie": 10, "truth": 4,
}

// lyingHistory makes the history of a seed in which the key server lies.
func lyingHistory(seed uint64) history {
	r := rand.New(rand.NewPCG(seed, 2))
	h := history{Users: 2 + r.IntN(3), Devices: 1 + r.IntN(maxDevices), Lies: true}
	if r.IntN(4) > 0 { // in the others the first contact is with a liar
		h.Steps = append(h.Steps, step{Op: "group", U: r.IntN(h.Users), D: r.IntN(h.Devices), V: r.Perm(h.Users)[1:]})
		h.Steps = append(h.Steps, step{Op: "sync", U: r.IntN(h.Users), D: r.IntN(h.Devices)})
	}
	for range 8 + r.IntN(20) {
		s := weighedStep(r, &h, lyingWeights, r.IntN(3) == 0)
		h.Steps = append(h.Steps, s)
		if s.Lie == "second" || s.Lie == "withheld" { // which is nothing as long as nobody opens an epoch
			n := r.IntN(h.Users)
			for k := range 3 {
				h.Steps = append(h.Steps, step{Op: "maintain", U: n + k, D: s.D}, step{
					Op: []string{"update", "group", "replace", "update"}[r.IntN(4)], U: n + k, D: r.IntN(h.Devices), C: s.C, V: r.Perm(h.Users)[r.IntN(2):], N: 1,
				})
			}
		}
	}
	return h
}
