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
		// MODEL_SEED=50400. Who does not enter a group again is still sent its Commits.
		"Commits for one who stays out": {Users: 4, Devices: 1, Steps: []step{
			{Op: "group", U: 1, V: []int{0}},
			{Op: "update", U: 1, D: 1, V: []int{3}},
			{Op: "update", U: 3, D: 1, C: 3, V: []int{0}, N: 11},
			{Op: "group", U: 1, D: 1, V: []int{2}, N: 2},
		}},
		// MODEL_SEED=60433. AddAccount, in the middle of a rotation that was cut off,
		// published KeyPackages of the identity key that the key server had replaced.
		"an account while a rotation is cut off": {Users: 3, Devices: 1, Steps: []step{
			{Op: "rotate", D: 1, C: 2, N: 8, Crash: "update-sealed", Passes: 2},
			{Op: "account", N: 9},
		}},
		// MODEL_SEED=60087, whole. Who had left is added to another group with people
		// who came since: that is refused.
		"added to another group after leaving": {Users: 4, Devices: 1, Steps: []step{
			{Op: "group", U: 3, V: []int{3, 1}},
			{Op: "leave", U: 1, D: 1, C: 2, N: 15},
			{Op: "replace", U: 3, D: 1, C: 2, N: 6},
			{Op: "group", U: 3, C: 3, V: []int{2, 1}, N: 5},
		}},
		// MODEL_SEED=14798225854104896993. Somebody who does not enter the group again
		// replaced the identity key: the others cannot write until they remove them.
		"a key replaced outside": {Users: 3, Devices: 1, Steps: []step{
			{Op: "group", D: 1, C: 1, V: []int{1}},
			{Op: "update", U: 1, D: 2, C: 1, V: []int{2}, N: 11},
			{Op: "group", U: 1, D: 1, C: 1, V: []int{0}, N: 14},
			{Op: "rotate", D: 3, C: 1, N: 12},
			{Op: "group", U: 1, D: 2, C: 3, V: []int{0}, N: 12},
		}},
		// MODEL_SEED=100081. Update took somebody out who had asked to leave, and was on
		// its list, and said that they were missing for no reason.
		"a leaver on the list": {Users: 4, Devices: 1, Steps: []step{
			{Op: "group", U: 3, C: 1, V: []int{1}},
			{Op: "leave", U: 1, C: 3, N: 5},
			{Op: "update", U: 3, D: 2, C: 1, V: []int{0, 1}, N: 12},
		}},
		// MODEL_SEED=100280. A device that a rotation had put out read a message whose
		// sender it could not ask about any more.
		"a sender nobody can be asked about": {Users: 2, Devices: 1, JSON: true, Steps: []step{
			{Op: "group", U: 1, V: []int{0}},
			{Op: "open", C: 1, N: 10},
			{Op: "send", U: 1, D: 1, C: 1, N: 4},
			{Op: "late", D: 1, C: 3, N: 4, Crash: "update-sealed", Passes: 1},
			{Op: "rotate", C: 3, N: 4},
			{Op: "read", D: 1, C: 1, N: 1},
		}},
		// MODEL_SEED=100697. A device whose disk was full when it had changed the password
		// took the right one for a wrong one from then on.
		"a password that was not noted": {Users: 3, Devices: 1, Steps: []step{
			{Op: "self", U: 1, C: 2},
			{Op: "password", U: 1, D: 2, C: 1, N: 8, Faults: []fault{{diskFull, 1}}},
			{Op: "password", U: 1, D: 2, C: 3, N: 1},
		}},
		// MODEL_SEED=51875. Who was away for two rotations was warned of the key that came
		// and went meanwhile.
		"two rotations unseen": {Users: 2, Devices: 3, Steps: []step{
			{Op: "group", U: 1, D: 1, V: []int{0}},
			{Op: "rotate", D: 1, C: 3, N: 10},
			{Op: "send", D: 1, N: 9},
			{Op: "open", C: 3, N: 2},
			{Op: "rotate", D: 3, N: 14},
		}},
		// MODEL_SEED=1000416. An epoch that was opened by a device whose clock was ahead
		// by a year was not ended for a year, nor what was sent in it deleted.
		"an epoch of next year": {Users: 2, Devices: 1, Forget: true, JSON: true, Steps: []step{
			{Op: "group", U: 1, D: 1, C: 1},
			{Op: "clock", U: 1, N: 14},
			{Op: "send", U: 1, C: 1, N: 7},
		}},
		// Found with longer histories. Who had left a group that was replaced kept its
		// last epoch for ever.
		"left and replaced": {Users: 4, Devices: 1, Forget: true, Steps: []step{
			{Op: "group", U: 1, V: []int{2, 0}},
			{Op: "late", D: 1, C: 1, N: 6, Faults: []fault{{meanwhileAfter, 8}}, Meanwhile: &step{Op: "group", U: 1, D: 2, C: 1, V: []int{2, 3}, N: 13}},
			{Op: "dialog", U: 3, D: 2, C: 1, V: []int{1}, N: 13},
			{Op: "send", U: 2, C: 1, N: 3},
			{Op: "leave", U: 1, D: 2, C: 2, N: 8},
			{Op: "replace", U: 2, D: 2, C: 1, N: 14},
		}},
		// MODEL_SEED=51201. Entered after the identity key was replaced, by a KeyPackage of
		// the key before, and written in before the leaf could be renewed.
		"a leaf of the key before": {Users: 4, Devices: 1, Steps: []step{
			{Op: "group", U: 3, V: []int{2, 1}},
			{Op: "send", U: 2, D: 1, C: 2, N: 1},
			{Op: "rotate", U: 1, D: 1, C: 3, N: 13, Crash: "update-noted", Passes: 2},
			{Op: "read", U: 1, C: 1, N: 12},
			{Op: "send", U: 1, C: 2, N: 2, Faults: []fault{{unanswered, 0}}},
		}},
		// MODEL_SEED=50635. A clock that was two minutes behind, within the minutes between
		// entering a group and a member's new key.
		"two minutes behind": {Users: 3, Devices: 1, Steps: []step{
			{Op: "group", U: 1, D: 1, V: []int{0, 2}},
			{Op: "late", D: 1, N: 5},
			{Op: "send", U: 2, D: 1, C: 1, N: 14},
			{Op: "clock", D: 2, N: 5},
			{Op: "rotate", U: 2, D: 1, N: 3},
			{Op: "self", D: 2, C: 2, N: 15},
		}},
		// MODEL_SEED=2001617. Refused to be added again by a stranger, and signed the
		// only device out that had noted so; the model asked the others.
		"a refusal that was signed out": {Users: 3, Devices: 2, Steps: []step{
			{Op: "group", U: 1, D: 1, V: []int{1, 2}},
			{Op: "update", U: 2, C: 3, V: []int{0}, N: 3},
			{Op: "group", U: 2, D: 1, V: []int{2, 1}, N: 8},
			{Op: "sync", U: 1, N: 10},
			{Op: "signout", U: 1, C: 1, N: 4},
		}},
		// MODEL_SEED=2006982. A device was processing the Commit that made a group when
		// another one replaced the group: it called that one of a group not known.
		"replaced by another device meanwhile": {Users: 3, Devices: 3, Steps: []step{
			{Op: "group", D: 1, V: []int{2}},
			{Op: "sync", D: 2, C: 1, N: 10, Faults: []fault{{meanwhile, 8}}, Meanwhile: &step{Op: "replace", V: []int{1, 0}, N: 12}},
		}},
		// MODEL_SEED=2007046. Written after somebody was removed, and before Remove had
		// told so; the model held that they could still read it.
		"written while somebody is removed": {Users: 3, Devices: 1, Steps: []step{
			{Op: "group", U: 1, V: []int{0, 2}},
			{Op: "group", C: 1},
			{Op: "dialog", U: 1, D: 2, V: []int{0}},
			{Op: "remove", V: []int{1}, N: 6, Faults: []fault{{meanwhileAfter, 7}}, Meanwhile: &step{Op: "send", U: 2, D: 2, C: 1, V: []int{2, 1}, N: 4}},
		}},
		// MODEL_SEED=2004036. A clock two minutes behind, on the device that replaces the
		// key with which its messages of a group just entered are signed.
		"two minutes behind when replacing": {Users: 2, Devices: 1, Steps: []step{
			{Op: "group", D: 1, V: []int{1}},
			{Op: "send", U: 1, D: 1, N: 1},
			{Op: "clock", U: 1, D: 3, C: 1, N: 5},
			{Op: "rotate", U: 1, D: 3, C: 3, N: 15},
		}},
		// MODEL_SEED=1008115. Left a group alone while another device added somebody, who
		// was left with a member that knew of nothing.
		"left alone while a sibling adds": {Users: 2, Devices: 2, Steps: []step{
			{Op: "group", D: 1, V: []int{1}},
			{Op: "remove", V: []int{1}, N: 8},
			{Op: "leave", D: 1, N: 14, Faults: []fault{{meanwhile, 7}}, Meanwhile: &step{Op: "group", U: 1, V: []int{1, 1}, N: 15}},
		}},
		// MODEL_SEED=1016355. A device crashed when its refusal to be added again by
		// strangers was accepted, and never said why the user was not in the group.
		"a refusal that nobody was told of": {Users: 5, Devices: 1, Steps: []step{
			{Op: "group", U: 3, D: 1, V: []int{2, 3, 0, 4}},
			{Op: "update", U: 4, D: 2, V: []int{4, 1, 2}, N: 8},
			{Op: "group", U: 4, D: 1, V: []int{2, 1, 3}, N: 5},
			{Op: "group", U: 4, D: 2, C: 3, V: []int{0}, N: 11},
			{Op: "read", D: 1, C: 1, N: 4, Crash: "update-accepted"},
		}},
		// MODEL_SEED=1063016. The same, of another group, with bodies in JSON.
		"a refusal of another group that nobody was told of": {Users: 3, Devices: 1, JSON: true, Steps: []step{
			{Op: "group", U: 2, V: []int{1}},
			{Op: "leave", U: 2, C: 1, N: 8},
			{Op: "replace", U: 1, D: 1, C: 1, N: 2},
			{Op: "group", D: 1, C: 3, V: []int{0, 1, 2}, N: 12},
			{Op: "read", U: 2, D: 1, N: 5, Crash: "update-noted"},
		}},
		// MODEL_SEED=1055258. The model asked a device how it fares in the midst of its
		// request for a new token, and waited for itself.
		"asked in the midst of a request": {Users: 3, Devices: 2, Steps: []step{
			{Op: "dialog", U: 1, D: 1, C: 1, N: 2, Faults: []fault{{meanwhile, 0}}, Meanwhile: &step{Op: "revoke", U: 1, C: 3, N: 3}},
		}},
		// MODEL_SEED=1024352, of a change that was made meanwhile. What a device found that
		// could not fetch the state was told as if it had been true, because a sibling
		// device had processed the same Commits since.
		"a verdict that was never submitted": {Users: 3, Devices: 2, Forget: true, JSON: true, Steps: []step{
			{Op: "group", V: []int{0, 1}},
			{Op: "dialog", U: 1, C: 1, N: 7},
			{Op: "read", U: 1, C: 2, N: 1, Faults: []fault{{meanwhile, 1}, {unanswered, 4}}, Meanwhile: &step{Op: "group", U: 1, D: 1, C: 3, V: []int{2, 1, 0}, N: 2}},
			{Op: "dialog", D: 2, C: 1, N: 2},
			{Op: "group", U: 1, D: 1, C: 2, N: 10},
		}},
		// MODEL_SEED=1042981. Sent, by a device whose rotation was cut off, with a leaf of
		// the key before, in an epoch that somebody else had opened a day later.
		"sent with a leaf of the key before": {Users: 2, Devices: 1, Steps: []step{
			{Op: "group", U: 1, V: []int{0}},
			{Op: "rotate", D: 2, C: 1, N: 13, Crash: "update-noted", Passes: 1},
			{Op: "read", D: 2, N: 13},
			{Op: "time", C: 3, N: 11},
			{Op: "rotate", U: 1, N: 6},
			{Op: "send", D: 1, C: 2, N: 1},
		}},
		// MODEL_SEED=1048342. Asked to leave a group while another member replaced it, who
		// called that a proposal for an unknown group.
		"left while it is replaced": {Users: 2, Devices: 1, Steps: []step{
			{Op: "group", V: []int{1}},
			{Op: "read", U: 1, D: 1, C: 3, N: 4},
			{Op: "replace", U: 1, N: 3, Faults: []fault{{meanwhile, 2}}, Meanwhile: &step{Op: "leave", V: []int{1}, N: 15}},
		}},
		// MODEL_SEED=1076107. Somebody began a dialog and replaced the identity key; who
		// heard of the key before the Welcome came never entered.
		"a dialog older than the rotation": {Users: 2, Devices: 1, Steps: []step{
			{Op: "group", D: 3, V: []int{1}, N: 13},
			{Op: "read", U: 1, D: 3, C: 1, N: 6, Crash: "update-noted"},
			{Op: "send", D: 3, C: 3, N: 2},
			{Op: "dialog", D: 1, C: 3, N: 9},
			{Op: "rotate", C: 1, N: 13},
			{Op: "read", U: 1, D: 3, C: 1, N: 1},
		}},
		// MODEL_SEED=1088927. Who had just been removed called another member's wish to
		// leave, which came after the Commit, a message for an unknown group.
		"leaves while others are removed": {Users: 3, Devices: 3, Steps: []step{
			{Op: "group", D: 1, V: []int{0, 2}},
			{Op: "group", U: 2, D: 1, C: 3, V: []int{1}, N: 14},
			{Op: "group", D: 2, N: 3},
			{Op: "leave", D: 3, N: 5, Faults: []fault{{meanwhileAfter, 6}}, Meanwhile: &step{Op: "remove", U: 2, D: 3, C: 3, V: []int{1, 0, 2}, N: 6}},
		}},
		// MODEL_SEED=1089129. The model did not wait for a member who leaves a wish for a
		// minute to another one, who had refused to enter the group.
		"a wish left to who is not there": {Users: 5, Devices: 1, Steps: []step{
			{Op: "group", U: 3, D: 1, V: []int{4, 2, 1}},
			{Op: "update", U: 1, D: 2, C: 3, V: []int{0}, N: 15},
			{Op: "group", D: 1, C: 3, V: []int{3}, N: 13},
			{Op: "leave", D: 2, C: 1, N: 11},
		}},
		// MODEL_SEED=3012777. The model did not know what a device had refused that was
		// down when another one of the user's read.
		"refused by a device that is down": {Users: 3, Devices: 2, Steps: []step{
			{Op: "group", U: 2, D: 1, V: []int{0}},
			{Op: "update", D: 2, C: 3, V: []int{1}, N: 1},
			{Op: "group", U: 1, D: 2, V: []int{2}, N: 2},
			{Op: "self", U: 2, Crash: "update-noted"},
			{Op: "send", U: 1, D: 3, N: 13},
			{Op: "read", U: 2, D: 1, N: 9},
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
