package keyserver

import (
	"math/rand/v2"
	"testing"
)

// inboxModel is an inbox of one sort of room, with who has how much waiting.
type inboxModel struct {
	room
	own   map[int]int64
	total int64
}

const owner = -1 // the inbox's own user among senders

func (m *inboxModel) send(from int, n int64) roomVerdict {
	v := m.has(m.total, m.own[from], n, from == owner)
	if v == thereIsRoom {
		m.own[from] += n
		m.total += n
	}
	return v
}

// fill sends in random pieces until not even the smallest fits.
func (m *inboxModel) fill(r *rand.Rand, from int, largest int64) {
	for n := largest; n >= 1; {
		if m.send(from, 1+r.Int64N(n)) != thereIsRoom {
			n /= 2
		}
	}
}

// TestFlaw21_EverySenderHasAFloor: whatever others send, and in whatever order,
// as long as they are fewer than there are floors the next one has a floor, and
// the inbox's own user has an eighth.
func TestFlaw21_EverySenderHasAFloor(t *testing.T) {
	defaults := (&Server{Options: Options{Limits: DefaultLimits()}})
	messages, octets := defaults.rooms()
	for name, r := range map[string]room{
		"messages": messages, "octets": octets, "few messages": {100, 20, leastMessages}, "few octets": {1 << 20, 1 << 18, leastOctets},
		"no limit for one": {1 << 16, 1 << 40, 4},
	} {
		random := rand.New(rand.NewPCG(1, uint64(r.all)))
		floors := int(r.all / floorPart / r.floor())
		if floors < 4 || r.floor() < r.least {
			t.Fatalf("%s: %d floors of %d", name, floors, r.floor())
		}
		for range 20 {
			m := inboxModel{r, map[int]int64{}, 0}
			for i := range floors - 1 {
				switch random.IntN(4) {
				case 0: // one after the other; some come back when others have gone
					m.fill(random, random.IntN(i+1), r.all/8)
				case 1:
					m.total -= m.own[i/2]
					delete(m.own, i/2)
				}
				m.fill(random, i, r.all/4)
			}
			if v := m.send(floors, r.floor()); v != thereIsRoom {
				t.Fatalf("%s: after %d senders, who have %d of %d, the next one has no floor of %d", name, floors-1, m.total, r.all, r.floor())
			}
			for i := range 5 * floors { // as many as one likes
				m.fill(random, floors+1+i, r.all)
			}
			if v := m.send(owner, r.all/ownPart); v != thereIsRoom {
				t.Fatalf("%s: strangers have %d of %d: nothing is left for its own user", name, m.total, r.all)
			}
			if m.fill(random, owner, r.all); m.total > r.all {
				t.Fatalf("%s: %d in an inbox of %d", name, m.total, r.all)
			}
		}
	}
}

// TestFlaw21_NobodyHasMoreThanAFairShare: one sender alone takes no more than a
// fourth of what is shared, or the limit for one, and no two of them the half.
func TestFlaw21_NobodyHasMoreThanAFairShare(t *testing.T) {
	r := room{1 << 20, 1 << 30, 1 << 10}
	m := inboxModel{r, map[int]int64{}, 0}
	random := rand.New(rand.NewPCG(2, 2))
	m.fill(random, 1, 1<<20)
	if want := r.shared() / fairShare; m.total != want {
		t.Errorf("one sender has %d, want %d", m.total, want)
	}
	m.fill(random, 2, 1<<20)
	if m.total > r.shared()/2 {
		t.Errorf("two senders have %d of %d", m.total, r.shared())
	}
	r.from = 5000
	m = inboxModel{r, map[int]int64{}, 0}
	if m.fill(random, 1, 1<<20); m.total != 5000 {
		t.Errorf("one sender has %d, the limit is 5000", m.total)
	}
}
