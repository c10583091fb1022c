//go:build crashpoints && weakkdf

package model

import "testing"

// TestRegressions runs histories that once failed, each made smaller, with the
// seed under which it was found and what was wrong.
func TestRegressions(t *testing.T) {
	b := newBench(t)
	for name, h := range map[string]history{
		// Found before histories had seeds. SignOut that failed left a Client that
		// said it was open, over a store that was closed.
		"sign-out without the server": {Users: 2, Devices: 2, Steps: []step{
			{Op: "signout", Faults: []fault{{lost, 2}}},
			{Op: "account"}, {Op: "account"},
		}},
		// Found before histories had seeds. A device whose clock was 400 days ahead
		// dropped the private parts of KeyPackages that others were given next, and
		// the Welcomes for them never opened.
		"a clock that is ahead": {Users: 4, Devices: 3, Steps: []step{
			{Op: "dialog", V: []int{1}},
			{Op: "clock", N: 14},
			{Op: "account"},
			{Op: "dialog", U: 3, V: []int{0}},
		}},
		// MODEL_SEED=5340. Who was removed and added again was kept out of the
		// group by whoever had come meanwhile, and was told nothing.
		"added again among strangers": {Users: 5, Devices: 1, Steps: []step{
			{Op: "group", U: 1, V: []int{1, 0, 3, 4}},
			{Op: "remove", U: 4, V: []int{1}, N: 1},
			{Op: "group", U: 4, V: []int{2, 3, 1}},
		}},
		// MODEL_SEED=8092. Whoever had asked the key server for somebody's key within
		// the hour did not ask about the one that replaced it, and could not write.
		"two keys within the hour": {Users: 5, Devices: 1, Steps: []step{
			{Op: "group", U: 4, V: []int{0, 3}},
			{Op: "read", C: 3},
			{Op: "rotate", Faults: []fault{{delayed, 5}}},
		}},
		// MODEL_SEED=1047169447753341039. Removed, and added again by somebody who came
		// meanwhile: that is refused, and the others go on.
		"added again by a stranger": {Users: 4, Devices: 1, Steps: []step{
			{Op: "group", U: 2, V: []int{1}},
			{Op: "send", U: 3, C: 1, N: 9, Faults: []fault{{meanwhile, 0}}, Meanwhile: &step{Op: "update", U: 1, D: 2, C: 3, V: []int{3}, N: 5}},
			{Op: "group", U: 3, D: 2, V: []int{2}, N: 6},
		}},
		// MODEL_SEED=40022. A device that crashed in the midst of its first sign-in went
		// on without the sign-in parameters.
		"a first sign-in that crashes": {Users: 2, Devices: 1, Steps: []step{
			{Op: "open", C: 3, N: 11, Faults: []fault{{crashBefore, 5}}},
			{Op: "password", D: 1, C: 1, N: 11},
		}},
		// MODEL_SEED=60087. Who had left was not added again by somebody who wanted
		// them in the group, and Ensure said that all was well.
		"added again after leaving": {Users: 4, Devices: 1, Steps: []step{
			{Op: "group", U: 3, V: []int{3, 1}},
			{Op: "leave", U: 1, D: 1, C: 2, N: 15},
			{Op: "group", U: 3, C: 3, V: []int{2, 1}, N: 5},
		}},
		// MODEL_SEED=60231. A device that a rotation had put out, and that could not
		// ask any more, said that there was no such conversation.
		"a device that could not ask": {Users: 2, Devices: 2, Steps: []step{
			{Op: "group", D: 1, V: []int{1}},
			{Op: "rotate", U: 1, D: 2, N: 6, Crash: "rotation-begun"},
			{Op: "send", U: 1, D: 1, C: 1},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			if err, log := b.run(h); err != nil {
				t.Errorf("%v\n%s", err, log)
			}
		})
	}
}
