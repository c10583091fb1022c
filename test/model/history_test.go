//go:build crashpoints && weakkdf

package model

import (
	"encoding/json"
	"strings"

	"pgregory.net/rapid"
)

// history is what happens in one run. It is data: the same history can be run
// again, cut down, and kept as a regression test. Numbers that name somebody or
// something are taken modulo what there is at that moment.
type history struct {
	Users   int    `json:"users"`
	Devices int    `json:"devices"` // of each user, signed in long ago
	Steps   []step `json:"steps"`
}

// step is one operation, and what goes wrong during it.
type step struct {
	Op string `json:"op"`
	U  int    `json:"u,omitempty"` // user
	D  int    `json:"d,omitempty"` // device of the user
	C  int    `json:"c,omitempty"` // conversation
	V  []int  `json:"v,omitempty"` // other users
	N  int    `json:"n,omitempty"` // message, amount
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

// crashPoints are those that a device or the key server passes; the test
// TestCrashPointsAreAll holds them against the table in docs.
var crashPoints = []string{
	"reservation-accepted", "reservation-noted", "generation-taken", "keypackages-stored", "keypackages-published",
	"group-staged", "group-created", "handshake-reserved", "commit-staged", "update-sealed", "update-accepted",
	"update-noted", "commit-merged", "deliveries-processed", "deliveries-acknowledged",
	"tx-applied", "tx-durable", "keypackage-taken",
}

func (h history) String() string {
	var s strings.Builder
	head, _ := json.Marshal(history{Users: h.Users, Devices: h.Devices})
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
	"account": 1, "restore": 1,
}

// random draws histories.
func random() *rapid.Generator[history] {
	return rapid.Custom(func(t *rapid.T) history {
		return history{
			Users:   rapid.IntRange(2, maxUsers).Draw(t, "users"),
			Devices: rapid.IntRange(1, maxDevices).Draw(t, "devices"),
			Steps:   rapid.SliceOfN(randomStep(true), 4, 22).Draw(t, "steps"),
		}
	})
}

func randomStep(outer bool) *rapid.Generator[step] {
	var ops []string
	for _, op := range operations {
		for range weights[op] {
			ops = append(ops, op)
		}
	}
	return rapid.Custom(func(t *rapid.T) step {
		s := step{
			Op: rapid.SampledFrom(ops).Draw(t, "op"),
			U:  rapid.IntRange(0, maxUsers-1).Draw(t, "u"),
			D:  rapid.IntRange(0, maxDevices).Draw(t, "d"),
			C:  rapid.IntRange(0, 3).Draw(t, "c"),
			V:  rapid.SliceOfN(rapid.IntRange(0, maxUsers-1), 0, 3).Draw(t, "v"),
			N:  rapid.IntRange(0, 15).Draw(t, "n"),
		}
		if !outer {
			return s
		}
		switch rapid.IntRange(0, 9).Draw(t, "trouble") {
		case 0, 1, 2: // trouble on the way, or on the disk
			s.Faults = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) fault {
				return fault{rapid.SampledFrom(faultKinds).Draw(t, "kind"), rapid.IntRange(0, 8).Draw(t, "at")}
			}), 1, 3).Draw(t, "faults")
			inner := randomStep(false).Draw(t, "meanwhile")
			s.Meanwhile = &inner
		case 3, 4:
			s.Crash = rapid.SampledFrom(crashPoints).Draw(t, "crash")
			s.Passes = rapid.IntRange(0, 2).Draw(t, "passes")
		}
		return s
	})
}
