package benchstate

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/mls"
)

// sizes are the parameters of a series; with -short the largest is left out.
func sizes(list ...int) []int {
	if testing.Short() {
		return list[:len(list)-1]
	}
	return list
}

// explain prints a meter's requests where BENCH_STATE_LOG is set.
func (m *meter) explain(what string) {
	if os.Getenv("BENCH_STATE_LOG") != "" {
		fmt.Fprintf(os.Stderr, "%s:\n\t%s\n", what, strings.Join(m.log[:min(len(m.log), 40)], "\n\t"))
	}
}

// BenchmarkMessages: octets for each message sent and read, in a dialog.
func BenchmarkMessages(b *testing.B) {
	w := newWorld(b)
	alice, bob := w.user("alice"), w.user("bob")
	for _, n := range sizes(1, 100, 10_000) {
		id := alice.ensure(cloudmls.Conversation{Kind: cloudmls.KindDialog, Members: []cloudmls.Account{bob.self}}).ID
		bob.sync()
		alice.encrypt(id, "warm up")
		alice.reset()
		messages := make([][]byte, n)
		for i := range messages {
			messages[i] = alice.encrypt(id, "a message of some thirty octets")
		}
		commits := alice.large
		alice.explain(fmt.Sprintf("%d messages sent", n))
		target := 64.0
		if n < 100 {
			target = 64 + 2048 // one of them pays for the block of 32
		}
		line("up-per-message-sent", fmt.Sprintf("n=%d", n), float64(alice.up-commits)/float64(n), target, "B", 1)
		line("up-per-message-sent", fmt.Sprintf("n=%d,with-epoch-changes", n), float64(alice.up)/float64(n), target+20<<10/200, "B", 1)
		line("down-per-message-sent", fmt.Sprintf("n=%d", n), float64(alice.down)/float64(n), 16<<10, "B", 1) // the head

		moment := alice.Moment() // as a caller that syncs once for many
		alice.sync()
		alice.reset()
		for range n {
			if _, err := alice.EncryptSince(b.Context(), alice.self, id, moment, []byte("a message of some thirty octets"), nil); err != nil {
				b.Fatal(err)
			}
		}
		line("up-per-message-sent", fmt.Sprintf("n=%d,one-sync", n), float64(alice.up-alice.large)/float64(n), target, "B", 1)

		bob.sync()
		bob.decrypt(messages[0])
		bob.decrypt(messages[n-1])
		bob.reset()
		for range 2 {
			for _, m := range messages {
				bob.decrypt(m)
			}
		}
		bob.explain(fmt.Sprintf("%d messages read", n))
		line("up-per-message-read", fmt.Sprintf("n=%d", n), float64(bob.up)/float64(n), 0, "B", 1)
	}
}

// BenchmarkReservation: what a block of generations costs.
func BenchmarkReservation(b *testing.B) {
	w := newWorld(b)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensure(cloudmls.Conversation{Kind: cloudmls.KindDialog, Members: []cloudmls.Account{bob.self}}).ID
	m := alice.Moment()
	alice.sync()
	most := 0
	for range 100 {
		alice.reset()
		if _, err := alice.EncryptSince(b.Context(), alice.self, id, m, []byte("text"), nil); err != nil {
			b.Fatal(err)
		}
		most = max(most, alice.up)
	}
	if most == 0 {
		b.Fatal("100 messages without a reservation")
	}
	line("up-per-reservation", "n=100", float64(most), 2048, "B", 1)
}

// change measures an epoch change by alice: one that adds somebody.
func (d *device) add(id cloudmls.ConversationID, who cloudmls.Account) int {
	d.w.b.Helper()
	d.sync()
	d.reset()
	d.ensure(cloudmls.Conversation{ID: id, Kind: cloudmls.KindGroup, Members: []cloudmls.Account{who}})
	return d.up
}

func (d *device) remove(id cloudmls.ConversationID, who cloudmls.Account) int {
	d.w.b.Helper()
	d.sync()
	d.reset()
	if err := d.Remove(d.w.b.Context(), d.self, id, []cloudmls.Account{who}); err != nil {
		d.w.b.Fatal(err)
	}
	return d.up
}

// epochLine prints the figure of an epoch change.
func epochLine(name, parameters string, ours, ref int) {
	line(name, parameters, float64(ours), 1.1*float64(ref)+16<<10, "B", 1)
}

// BenchmarkEpochMembers: an epoch change by the size of the group.
func BenchmarkEpochMembers(b *testing.B) {
	w := newWorld(b)
	alice, bob := w.user("alice"), w.user("bob")
	crowd := w.crowd(sizes(1, 19, 999)[len(sizes(1, 19, 999))-1])
	for _, n := range sizes(2, 20, 1000) {
		x, _ := newBare(b, n)
		kp, _ := x.keyPackage(bob.self)
		refAdd := x.epochChange(mls.CommitOptions{Add: []*mls.KeyPackage{kp}, Now: x.now})
		refRemove := x.epochChange(mls.CommitOptions{Remove: []mls.LeafIndex{mls.LeafIndex(n)}})

		id := alice.group(crowd[:n-1]...)
		epochLine("up-per-epoch-add", fmt.Sprintf("members=%d", n), alice.add(id, bob.self), refAdd)
		alice.explain("add")
		epochLine("up-per-epoch-remove", fmt.Sprintf("members=%d", n), alice.remove(id, bob.self), refRemove)
		alice.explain("remove")
	}
}

// BenchmarkEpochAge: an epoch change by the number of those before it.
func BenchmarkEpochAge(b *testing.B) {
	w := newWorld(b)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := alice.group(bob.self)
	x, _ := newBare(b, 2)
	kp, _ := x.keyPackage(carol.self)
	refAdd := x.epochChange(mls.CommitOptions{Add: []*mls.KeyPackage{kp}, Now: x.now})
	refRemove := x.epochChange(mls.CommitOptions{Remove: []mls.LeafIndex{2}})
	epochs := 1
	for _, n := range sizes(1, 10, 1000) {
		for ; epochs < n-1; epochs += 2 {
			alice.add(id, carol.self)
			alice.remove(id, carol.self)
		}
		epochLine("up-per-epoch-add", fmt.Sprintf("epochs=%d", n), alice.add(id, carol.self), refAdd)
		epochLine("up-per-epoch-remove", fmt.Sprintf("epochs=%d", n), alice.remove(id, carol.self), refRemove)
		alice.explain("remove")
		epochs += 2
	}
}

// BenchmarkConversations: an epoch change, and a new device, by the number of
// conversations.
func BenchmarkConversations(b *testing.B) {
	w := newWorld(b)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	x, _ := newBare(b, 2)
	kp, _ := x.keyPackage(carol.self)
	refAdd := x.epochChange(mls.CommitOptions{Add: []*mls.KeyPackage{kp}, Now: x.now})
	id := alice.group(bob.self)
	have, fixed := 1, 0
	for _, n := range sizes(1, 100, 5000) {
		for ; have < n; have++ {
			alice.group(bob.self)
		}
		epochLine("up-per-epoch-add", fmt.Sprintf("conversations=%d", n), alice.add(id, carol.self), refAdd)
		alice.remove(id, carol.self)
		text := alice.encrypt(id, "for a new device")

		fresh := alice.sibling()
		fresh.sync()
		signIn := fresh.down
		fresh.explain("new device")
		list, err := fresh.Client.Conversations(b.Context(), fresh.self)
		if err != nil || len(list) != n {
			b.Fatalf("%d conversations: %v", len(list), err)
		}
		if n == 1 { // the head, the keyring, the profile, the account's objects
			fixed = fresh.down
			line("down-new-device", "conversations=1", float64(fresh.down), fixedLimit, "B", 1)
		} else {
			line("down-new-device", fmt.Sprintf("conversations=%d,each-further", n), float64(fresh.down-fixed)/float64(n-1), 1024, "B", 1)
			line("down-new-device", fmt.Sprintf("conversations=%d,each,signed-in-only", n), float64(signIn-fixed)/float64(n-1), 1024, "B", 1)
		}
		fresh.reset()
		fresh.decrypt(text)
		fresh.explain("one archive record")
		line("down-new-device-archive", fmt.Sprintf("conversations=%d", n), float64(fresh.down), 4096, "B", 1)

		fresh.sync()
		fresh.reset()
		fresh.sync()
		fresh.explain("nothing new")
		line("down-sync-nothing-new", fmt.Sprintf("conversations=%d", n), float64(fresh.down), 256, "B", 1)
		alice.add(id, carol.self)
		fresh.reset()
		fresh.sync()
		fresh.explain("an epoch that another device opened")
		line("down-sibling-epoch", fmt.Sprintf("conversations=%d", n), float64(fresh.down), siblingLimit, "B", 1)
		alice.remove(id, carol.self)
	}
}

// siblingLimit is what a device may read of an epoch that another device of the user
// opened, whatever there is: the head, and the lines of what has changed, each with
// those of its bucket.
const siblingLimit = 64 << 10

// fixedLimit is what a new device may read whatever there is, most of it the
// private parts of KeyPackages: of two suites, 20 each.
const fixedLimit = 160 << 10

// BenchmarkFirstMessage: round trips until the first message of a new dialog is
// sealed.
func BenchmarkFirstMessage(b *testing.B) {
	w := newWorld(b)
	alice, bob := w.user("alice"), w.user("bob")
	alice.sync()
	alice.reset()
	m := alice.Moment()
	id := alice.ensure(cloudmls.Conversation{Kind: cloudmls.KindDialog, Members: []cloudmls.Account{bob.self}}).ID
	if _, err := alice.EncryptSince(b.Context(), alice.self, id, m, []byte("hello"), nil); err != nil {
		b.Fatal(err)
	}
	alice.explain("first message")
	line("round-trips-first-message", "dialog", float64(alice.requests), 5, "", 1)
}

// BenchmarkTime: a message with everything at hand, against package mls alone.
func BenchmarkTime(b *testing.B) {
	const text = "a message of some thirty octets"
	w := newWorld(b)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensure(cloudmls.Conversation{Kind: cloudmls.KindDialog, Members: []cloudmls.Account{bob.self}}).ID
	bob.sync()
	x, other := newBare(b, 2)
	archive, err := other.Archive()
	if err != nil {
		b.Fatal(err)
	}
	m := alice.Moment()
	alice.sync()
	var encrypt, decrypt, again, protect, open []time.Duration
	for i := range 6000 {
		var sealed []byte
		encrypt = append(encrypt, timed(func() {
			if sealed, err = alice.EncryptSince(b.Context(), alice.self, id, m, []byte(text), nil); err != nil {
				b.Fatal(err)
			}
		}))
		if i == 0 {
			bob.decrypt(sealed)
		}
		decrypt = append(decrypt, timed(func() { bob.decrypt(sealed) }))
		again = append(again, timed(func() { bob.decrypt(sealed) }))
		var plain *mls.Message
		protect = append(protect, timed(func() {
			if plain, err = x.group.Protect([]byte(text), mls.ProtectOptions{AuthenticatedData: make([]byte, 25)}); err != nil {
				b.Fatal(err)
			}
			if sealed, err = plain.MarshalBinary(); err != nil {
				b.Fatal(err)
			}
		}))
		open = append(open, timed(func() {
			if plain, err = mls.ParseMessage(sealed); err != nil {
				b.Fatal(err)
			}
			if _, err = archive.Open(plain); err != nil {
				b.Fatal(err)
			}
		}))
	}
	timeLine("time-encrypt", encrypt, protect)
	timeLine("time-decrypt", decrypt, open)
	timeLine("time-decrypt-again", again, open)
}

func timed(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}

func timeLine(name string, ours, ref []time.Duration) {
	median := func(l []time.Duration) float64 {
		slices.Sort(l)
		return float64(l[len(l)/2].Nanoseconds()) / 1000
	}
	line(name, fmt.Sprintf("n=%d,median", len(ours)), median(ours), median(ref), "us", 1.3)
}
