//go:build crashpoints && weakkdf

package model

import (
	"fmt"
	"testing"
)

// TestLies plays small histories of a key server that lies. Each is there for a guard
// of the SDK, without which it fails, or once failed.
func TestLies(t *testing.T) {
	b := newBench(t)
	all := []int{0, 1}
	histories := map[string]history{
		"an older state": {Users: 2, Devices: 1, Steps: []step{
			{Op: "group", V: all}, {Op: "sync"}, {Op: "lie", C: 2, N: 5, Lie: "old-state"}, {Op: "sync"},
		}},
		"an older state, after a restart": {Users: 2, Devices: 1, Steps: []step{
			{Op: "group", V: all}, {Op: "sync"}, {Op: "restart"}, {Op: "lie", C: 2, N: 5, Lie: "old-state"}, {Op: "sync"},
		}},
		"an older state to a sibling": {Users: 2, Devices: 2, Steps: []step{
			{Op: "group", V: all}, {Op: "sync", D: 1}, {Op: "sync"}, {Op: "group", C: 1, V: all},
			{Op: "lie", D: 1, N: 5, Lie: "old-state"}, {Op: "send", D: 1}, {Op: "sync", D: 1},
		}},
		"objects left out": {Users: 2, Devices: 2, Steps: []step{
			{Op: "group", V: all}, {Op: "lie", D: 1, N: 7, Lie: "omitted"}, {Op: "sync", D: 1}, {Op: "send", D: 1},
		}},
		"an older index": {Users: 2, Devices: 2, Steps: []step{
			{Op: "group", V: all}, {Op: "sync", D: 1}, {Op: "group", C: 1, V: all}, {Op: "lie", D: 1, N: 1, Lie: "old-index"}, {Op: "sync", D: 1},
		}},
		"nothing has changed": {Users: 2, Devices: 1, Steps: []step{
			{Op: "group", V: all}, {Op: "lie", U: 1, Lie: "unchanged"}, {Op: "sync", U: 1}, {Op: "send", U: 1},
		}},
		"another world, and back": {Users: 2, Devices: 2, Steps: []step{
			{Op: "group", V: all}, {Op: "sync", D: 1}, {Op: "lie", D: 1, N: 1, Lie: "forked"}, {Op: "group", D: 1, C: 1, V: all},
			{Op: "group", C: 2, V: all}, {Op: "replace", C: 0}, {Op: "verify", V: all}, {Op: "remove", C: 2, V: []int{1}}, {Op: "group", C: 2, V: all},
			{Op: "truth"}, {Op: "sync", D: 1},
		}},
		"keys of the thief's for somebody known": {Users: 2, Devices: 1, Steps: []step{
			{Op: "group", V: all}, {Op: "verify", V: all}, {Op: "lie", C: 2, Lie: "keys"}, {Op: "group", C: 1, V: all}, {Op: "send", C: 1}, {Op: "dialog", V: all}, {Op: "send"},
		}},
		// Seed 176. A dialog that was begun with a key of the thief's could not be written
		// to after people had compared the right one, whatever they did.
		"keys of the thief's at the first contact": {Users: 3, Devices: 1, Steps: []step{
			{Op: "lie", U: 2, D: 1, N: 7, Lie: "keys"}, {Op: "send", U: 2, N: 13},
		}},
		"a group with the thief": {Users: 2, Devices: 1, Steps: []step{
			{Op: "group", U: 1}, {Op: "lie", U: 1, N: 3, Lie: "keys"}, {Op: "group", V: []int{0}, N: 15}, {Op: "send", U: 1},
		}},
		"the thief in a group of somebody's who knows less": {Users: 3, Devices: 1, Steps: []step{
			{Op: "group", U: 2, V: []int{1}}, {Op: "sync", U: 1}, {Op: "lie", Lie: "keys", V: []int{1, 1}, C: 2, U: 1}, {Op: "group", C: 2, V: []int{1, 2}}, {Op: "sync", U: 2}, {Op: "send", U: 2, C: 1}, {Op: "send"},
		}},
		"another key is named for one who was seen": {Users: 4, Devices: 1, Steps: []step{
			{Op: "group", U: 2, D: 1, V: []int{2, 1}, N: 15}, {Op: "lie", U: 1, C: 1, N: 14, Lie: "identity"}, {Op: "group", D: 3, N: 5},
		}},
		"a Commit before its Welcome": {Users: 4, Devices: 1, Steps: []step{
			{Op: "group", U: 3, V: []int{3, 1, 2}}, {Op: "group", U: 2, D: 1, C: 1, N: 6}, {Op: "update", U: 2, D: 1, V: []int{1, 3, 0}, N: 5},
			{Op: "group", U: 1, D: 1, C: 1, V: []int{2, 3, 1}, N: 5}, {Op: "lie", U: 1, C: 1, N: 14, Lie: "reordered"}, {Op: "send", U: 1, D: 2, C: 1, N: 7},
		}},
		"a Welcome of another epoch": {Users: 3, Devices: 1, Steps: []step{
			{Op: "group", U: 2, D: 1, V: []int{0}}, {Op: "lie", D: 1, C: 2, N: 12, Lie: "altered"}, {Op: "sync", D: 1, C: 2, N: 10},
			{Op: "update", U: 2, C: 3, V: []int{0, 1}, N: 3},
		}},
		"a used KeyPackage": {Users: 4, Devices: 1, Steps: []step{
			{Op: "send", U: 3, D: 2, C: 1, V: []int{1}, N: 11}, {Op: "lie", U: 1, D: 2, C: 3, N: 11, Lie: "used-keys"},
			{Op: "dialog", U: 2, D: 2, C: 2, V: []int{2, 1}, N: 5},
		}},
		"removed meanwhile, and another group": {Users: 4, Devices: 1, Steps: []step{
			{Op: "group", U: 1, V: []int{1, 2, 0}}, {Op: "lie", U: 3, D: 1, C: 3, N: 3, Lie: "second"}, {Op: "update", U: 2, C: 3, V: []int{3}, N: 1},
			{Op: "replace", U: 3, C: 3, N: 1}, {Op: "replace", U: 4, C: 3, N: 1},
		}},
		"a password that is stretched too little": {Users: 2, Devices: 1, Steps: []step{
			{Op: "lie", C: 2, N: 1, Lie: "kdf"}, {Op: "open"}, {Op: "truth"}, {Op: "lie", C: 2, N: 0, Lie: "kdf"}, {Op: "open", U: 1},
		}},
		"two Commits for an epoch": {Users: 3, Devices: 1, Steps: []step{
			{Op: "group", V: []int{0, 1, 2}}, {Op: "sync", U: 1}, {Op: "sync", U: 2}, {Op: "lie", U: 1, C: 2, Lie: "second"},
			{Op: "remove", U: 1, V: []int{2}}, {Op: "remove", V: []int{1}}, {Op: "send"}, {Op: "send", U: 1}, {Op: "send", U: 2},
		}},
	}
	for n := range 14 { // each type of objects
		histories[fmt.Sprint("left out: ", n)] = history{Users: 2, Devices: 2, Steps: []step{
			{Op: "group", V: all}, {Op: "sync", D: 1}, {Op: "update", V: all}, {Op: "verify", V: all}, {Op: "group", C: 1, V: all}, {Op: "remove", V: []int{1}},
			{Op: "lie", D: 1, N: n, Lie: "omitted"}, {Op: "sync", D: 1}, {Op: "send", D: 1},
		}}
		histories[fmt.Sprint("older: ", n)] = history{Users: 2, Devices: 2, Steps: []step{
			{Op: "group", V: all}, {Op: "sync", D: 1}, {Op: "send"}, {Op: "lie", D: 1, C: 1, N: n, Lie: "old-object"}, {Op: "restart"},
			{Op: "remove", V: []int{1}}, {Op: "send"}, {Op: "send", D: 1}, {Op: "sync", D: 1},
		}}
		histories[fmt.Sprint("another world: ", n)] = history{Users: 2, Devices: 1, Steps: []step{
			{Op: "group", V: all}, {Op: "send"}, {Op: "restart"}, {Op: "send"}, {Op: "lie", C: 2, N: n, Lie: "forked"}, {Op: "send"}, {Op: "restart"}, {Op: "send"},
		}}
	}
	for name, h := range histories {
		h.Lies = true
		if err, log := b.run(h); err != nil {
			t.Errorf("%s: %v\n%v\nwhat happened:\n%s", name, err, h, log)
		}
	}
	if b.counts["second Commit accepted"] == 0 {
		t.Error("no second Commit was ever accepted")
	}
}
