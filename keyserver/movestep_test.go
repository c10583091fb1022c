package keyserver_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

const (
	here, leaving, gone, arriving = keyapi.PlaceHere, keyapi.PlaceLeaving, keyapi.PlaceGone, keyapi.PlaceArriving
	leave, stay, goes             = keyapi.MoveLeave, keyapi.MoveStay, keyapi.MoveGo
	arrive, opens, uses, abandon  = keyapi.MoveArrive, keyapi.MoveOpen, keyapi.MoveUse, keyapi.MoveAbandon
	theOther, aThird              = "https://other.example", "https://third.example"
	rightHash, wrongHash, noHash  = "right", "wrong", ""
)

type placed = keyserver.MovePlace

// Every rule, and what it refuses. The numbers of moves are 1 to 9.
func TestMoveNumbersOfEachStep(t *testing.T) {
	for _, row := range []struct {
		now     placed
		objects int
		change  string
		n       uint64
		hash    string
		want    placed // none: refused
		detail  string
	}{
		{placed{here, "", 0, 0, 0}, 2, leave, 5, noHash, placed{leaving, theOther, 5, 5, 0}, ""},
		{placed{here, "", 0, 4, 3}, 2, leave, 5, noHash, placed{leaving, theOther, 5, 5, 3}, ""},
		{placed{here, aThird, 4, 4, 0}, 2, leave, 5, noHash, placed{leaving, theOther, 5, 5, 0}, ""},
		{placed{here, "", 0, 5, 5}, 2, leave, 5, noHash, placed{}, "the objects are here; move 5 is over"},
		{placed{here, "", 0, 6, 0}, 2, leave, 5, noHash, placed{}, "the objects are here; move 5 is over"},
		{placed{here, "", 5, 5, 0}, 2, leave, 5, noHash, placed{}, "the objects are here, opened by move 5: leave of move 5 does not follow"},
		{placed{leaving, theOther, 5, 5, 0}, 2, leave, 5, noHash, placed{leaving, theOther, 5, 5, 0}, ""},
		{placed{leaving, aThird, 5, 5, 0}, 2, leave, 5, noHash, placed{}, "the objects are leaving here by move 5: leave of move 5 does not follow"},
		{placed{leaving, theOther, 5, 5, 0}, 2, leave, 6, noHash, placed{}, "the objects are leaving here by move 5: leave of move 6 does not follow"},
		{placed{leaving, theOther, 0, 0, 0}, 2, leave, 6, noHash, placed{}, "the objects are leaving here: leave of move 6 does not follow"},
		{placed{gone, theOther, 5, 5, 0}, 0, leave, 6, noHash, placed{}, "the objects have gone from here by move 5"},
		{placed{arriving, theOther, 5, 5, 0}, 0, leave, 6, noHash, placed{}, "objects are arriving here by move 5"},

		{placed{leaving, theOther, 5, 5, 2}, 2, stay, 5, noHash, placed{here, "", 0, 5, 5}, ""},
		{placed{leaving, theOther, 7, 7, 0}, 2, stay, 5, noHash, placed{}, "the objects are leaving here by move 7; move 5 is over"},
		{placed{leaving, theOther, 5, 5, 0}, 2, stay, 7, noHash, placed{}, "stay of move 7 does not follow"},
		{placed{leaving, theOther, 0, 0, 0}, 2, stay, 7, noHash, placed{here, "", 0, 7, 7}, ""},
		{placed{leaving, theOther, 0, 7, 0}, 2, stay, 7, noHash, placed{}, "move 7 is over"},
		{placed{here, "", 0, 4, 2}, 2, stay, 5, noHash, placed{here, "", 0, 5, 5}, ""},
		{placed{here, theOther, 4, 4, 2}, 2, stay, 5, noHash, placed{here, "", 0, 5, 5}, ""},
		{placed{here, "", 0, 6, 5}, 2, stay, 5, noHash, placed{here, "", 0, 6, 5}, ""},
		{placed{here, "", 0, 6, 6}, 2, stay, 5, noHash, placed{}, "the objects are here; move 5 is over"},
		{placed{here, "", 5, 5, 0}, 2, stay, 5, noHash, placed{}, "opened by move 5: stay of move 5 does not follow"},
		{placed{gone, theOther, 5, 5, 0}, 0, stay, 5, noHash, placed{}, "the objects have gone from here by move 5: stay of move 5 does not follow"},
		{placed{gone, theOther, 5, 5, 5}, 0, stay, 5, noHash, placed{}, "the objects have gone"},
		{placed{gone, theOther, 5, 5, 0}, 0, stay, 6, noHash, placed{}, "stay of move 6 does not follow"},
		{placed{arriving, "", 5, 5, 0}, 0, stay, 6, noHash, placed{}, "stay of move 6 does not follow"},
		{placed{arriving, "", 0, 0, 0}, 0, stay, 6, noHash, placed{}, "stay of move 6 does not follow"},

		{placed{leaving, theOther, 5, 5, 2}, 2, goes, 5, rightHash, placed{gone, theOther, 5, 5, 2}, ""},
		{placed{leaving, theOther, 5, 5, 2}, 2, goes, 5, wrongHash, placed{}, "index_hash is not that of the objects here"},
		{placed{leaving, theOther, 5, 5, 2}, 2, goes, 5, noHash, placed{}, "index_hash"},
		{placed{leaving, theOther, 7, 7, 0}, 2, goes, 5, rightHash, placed{}, "the objects are leaving here by move 7; move 5 is over"},
		{placed{leaving, theOther, 5, 5, 0}, 2, goes, 7, rightHash, placed{}, "go of move 7 does not follow"},
		{placed{leaving, theOther, 0, 0, 0}, 2, goes, 7, rightHash, placed{}, "the objects are leaving here: go of move 7 does not follow"},
		{placed{gone, theOther, 5, 5, 2}, 1, goes, 5, noHash, placed{gone, theOther, 5, 5, 2}, ""},
		{placed{gone, theOther, 5, 5, 2}, 0, goes, 6, noHash, placed{}, "the objects have gone from here by move 5"},
		{placed{here, "", 0, 5, 5}, 2, goes, 5, rightHash, placed{}, "the objects are here; move 5 is over"},
		{placed{here, "", 5, 5, 0}, 2, goes, 5, rightHash, placed{}, "go of move 5 does not follow"},
		{placed{arriving, "", 5, 5, 0}, 2, goes, 5, rightHash, placed{}, "objects are arriving here by move 5"},

		{placed{here, "", 0, 0, 0}, 0, arrive, 5, noHash, placed{arriving, "", 5, 5, 0}, ""},
		{placed{here, "", 0, 4, 3}, 0, arrive, 5, noHash, placed{arriving, "", 5, 5, 3}, ""},
		{placed{here, "", 0, 5, 0}, 0, arrive, 5, noHash, placed{}, "there are no objects here; move 5 is over"},
		{placed{here, "", 0, 0, 0}, 1, arrive, 5, noHash, placed{}, "the objects are here: arrive of move 5 does not follow"},
		{placed{here, theOther, 4, 4, 0}, 1, arrive, 5, noHash, placed{}, "the objects are here, opened by move 4: arrive"},
		{placed{gone, theOther, 4, 4, 1}, 0, arrive, 5, noHash, placed{arriving, theOther, 5, 5, 1}, ""},
		{placed{gone, theOther, 0, 0, 0}, 0, arrive, 5, noHash, placed{arriving, theOther, 5, 5, 0}, ""},
		{placed{gone, theOther, 4, 4, 1}, 3, arrive, 5, noHash, placed{gone, theOther, 4, 4, 1}, ""}, // to be deleted first
		{placed{gone, theOther, 5, 5, 0}, 0, arrive, 5, noHash, placed{}, "the objects have gone from here by move 5: arrive of move 5"},
		{placed{gone, theOther, 5, 5, 0}, 3, arrive, 5, noHash, placed{}, "the objects have gone from here by move 5: arrive of move 5"},
		{placed{gone, theOther, 4, 6, 0}, 0, arrive, 5, noHash, placed{}, "the objects have gone from here by move 4; move 5 is over"},
		{placed{arriving, theOther, 5, 5, 0}, 3, arrive, 5, noHash, placed{arriving, theOther, 5, 5, 0}, ""},
		{placed{arriving, theOther, 4, 4, 1}, 3, arrive, 5, noHash, placed{gone, theOther, 4, 4, 1}, ""}, // to be deleted first
		{placed{arriving, "", 0, 0, 0}, 3, arrive, 5, noHash, placed{gone, "", 0, 0, 0}, ""},
		{placed{arriving, theOther, 6, 6, 0}, 3, arrive, 5, noHash, placed{}, "objects are arriving here by move 6; move 5 is over"},
		{placed{leaving, theOther, 4, 4, 0}, 3, arrive, 5, noHash, placed{}, "the objects are leaving here by move 4"},
		{placed{leaving, theOther, 5, 5, 0}, 0, arrive, 5, noHash, placed{}, "the objects are leaving here by move 5"},

		{placed{arriving, theOther, 5, 5, 2}, 2, opens, 5, rightHash, placed{here, theOther, 5, 5, 2}, ""},
		{placed{arriving, theOther, 5, 5, 2}, 2, opens, 5, wrongHash, placed{}, "index_hash"},
		{placed{arriving, theOther, 6, 6, 0}, 2, opens, 5, rightHash, placed{}, "objects are arriving here by move 6; move 5 is over"},
		{placed{arriving, theOther, 5, 5, 0}, 2, opens, 6, rightHash, placed{}, "open of move 6 does not follow"},
		{placed{here, theOther, 5, 5, 2}, 2, opens, 5, rightHash, placed{here, theOther, 5, 5, 2}, ""},
		{placed{here, theOther, 5, 5, 2}, 2, opens, 5, wrongHash, placed{}, "index_hash"},
		{placed{here, "", 0, 5, 2}, 2, opens, 5, rightHash, placed{}, "the objects are here; move 5 is over"},
		{placed{gone, theOther, 5, 5, 2}, 0, opens, 5, rightHash, placed{}, "have gone"},
		{placed{leaving, theOther, 5, 5, 2}, 0, opens, 5, rightHash, placed{}, "leaving"},

		{placed{here, theOther, 5, 5, 2}, 2, uses, 5, noHash, placed{here, "", 0, 5, 2}, ""},
		{placed{here, "", 0, 5, 2}, 2, uses, 5, noHash, placed{here, "", 0, 5, 2}, ""},
		{placed{here, "", 0, 5, 5}, 2, uses, 5, noHash, placed{}, "the objects are here; move 5 is over"},
		{placed{here, "", 0, 6, 2}, 2, uses, 5, noHash, placed{}, "move 5 is over"},
		{placed{here, "", 0, 4, 2}, 2, uses, 5, noHash, placed{}, "use of move 5 does not follow"},
		{placed{here, theOther, 6, 6, 2}, 2, uses, 5, noHash, placed{}, "opened by move 6; move 5 is over"},
		{placed{arriving, theOther, 5, 5, 2}, 2, uses, 5, noHash, placed{}, "arriving"},
		{placed{gone, theOther, 5, 5, 2}, 0, uses, 5, noHash, placed{}, "have gone"},
		{placed{leaving, theOther, 5, 5, 2}, 2, uses, 5, noHash, placed{}, "leaving"},

		{placed{arriving, theOther, 5, 5, 2}, 2, abandon, 5, noHash, placed{gone, theOther, 5, 5, 2}, ""},
		{placed{arriving, theOther, 6, 6, 0}, 2, abandon, 5, noHash, placed{}, "objects are arriving here by move 6; move 5 is over"},
		{placed{arriving, theOther, 4, 4, 2}, 2, abandon, 5, noHash, placed{gone, theOther, 5, 5, 2}, ""},
		{placed{arriving, theOther, 0, 0, 0}, 2, abandon, 5, noHash, placed{gone, theOther, 5, 5, 0}, ""},
		{placed{here, theOther, 5, 5, 2}, 2, abandon, 5, noHash, placed{gone, theOther, 5, 5, 2}, ""},
		{placed{here, theOther, 4, 4, 2}, 2, abandon, 5, noHash, placed{}, "the objects are here, opened by move 4: abandon of move 5"},
		{placed{here, "", 0, 5, 2}, 2, abandon, 5, noHash, placed{}, "the objects are here; move 5 is over"},
		{placed{here, "", 0, 4, 2}, 2, abandon, 5, noHash, placed{}, "the objects are here: abandon of move 5"},
		{placed{here, "", 0, 4, 2}, 0, abandon, 5, noHash, placed{here, "", 0, 5, 2}, ""},
		{placed{here, "", 0, 6, 2}, 0, abandon, 5, noHash, placed{here, "", 0, 6, 2}, ""},
		{placed{gone, theOther, 5, 5, 2}, 3, abandon, 5, noHash, placed{gone, theOther, 5, 5, 2}, ""},
		{placed{gone, theOther, 4, 4, 2}, 0, abandon, 5, noHash, placed{gone, theOther, 4, 5, 2}, ""},
		{placed{gone, theOther, 6, 6, 2}, 0, abandon, 5, noHash, placed{gone, theOther, 6, 6, 2}, ""},
		{placed{leaving, theOther, 5, 5, 0}, 2, abandon, 5, noHash, placed{}, "the objects are leaving here by move 5"},
		{placed{leaving, theOther, 5, 5, 0}, 0, abandon, 6, noHash, placed{}, "the objects are leaving here by move 5"},
	} {
		m := keyapi.StoreMove{Change: row.change, Move: row.n, To: theOther, IndexHash: []byte(row.hash)}
		got, err := row.now.Step(&m, row.objects, []byte(rightHash))
		name := fmt.Sprintf("%s %d at %+v with %d objects", row.change, row.n, row.now, row.objects)
		if row.want == (placed{}) {
			if wantCode(t, err, keyapi.CodeConflict); !strings.Contains(err.Error(), row.detail) {
				t.Errorf("%s: %v, want %q", name, err, row.detail)
			}
			if got != row.now {
				t.Errorf("%s is refused, and changes it: %+v", name, got)
			}
		} else if err != nil || got != row.want {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, row.want)
		}
	}
}

// What holds of every step, tried at every place with small numbers: the same
// again changes nothing, a move that is over changes nothing, numbers do not fall,
// and what is in use is deleted by nothing but go.
func TestMoveNumbersOfAllPlaces(t *testing.T) {
	tried := 0
	for _, now := range everyPlace() {
		for _, change := range []string{leave, stay, goes, arrive, opens, uses, abandon} {
			for n := range uint64(4) {
				for objects := range 2 {
					tried++
					m := keyapi.StoreMove{Change: change, Move: n + 1, To: theOther, IndexHash: []byte(rightHash)}
					checkStep(t, now, &m, objects)
				}
			}
		}
	}
	t.Log(tried, "steps")
}

func everyPlace() (all []placed) {
	for _, where := range []string{here, leaving, gone, arriving} {
		for _, to := range []string{"", theOther} {
			for last := range uint64(4) {
				for move := range last + 1 {
					for stayed := range last + 1 {
						if where == leaving && to == "" || where == here && move == 0 && to != "" || where != gone && move != 0 && (move != last || move == stayed && where != leaving) {
							continue // which nothing makes
						}
						all = append(all, placed{Place: where, To: to, Move: move, Last: last, Stayed: stayed})
					}
				}
			}
		}
	}
	return all
}

func checkStep(t *testing.T, now placed, m *keyapi.StoreMove, objects int) {
	t.Helper()
	next, err := now.Step(m, objects, []byte(rightHash))
	what := fmt.Sprintf("%s %d at %+v with %d objects gives %+v", m.Change, m.Move, now, objects, next)
	over := m.Move < now.Last && m.Move != now.Move
	switch {
	case err != nil && next != now:
		t.Errorf("%s, though it is refused", what)
	case err != nil:
	case over && next != now:
		t.Errorf("%s: a move that is over", what)
	case next.Last < now.Last || next.Stayed < now.Stayed || next.Last < next.Move || next.Last < next.Stayed:
		t.Errorf("%s: its numbers", what)
	case now.Place == here && now.Move == 0 && objects > 0 && (next.Place == gone || next.Place == arriving):
		t.Errorf("%s: it was in use", what)
	case now.Place == leaving && next.Place != leaving && next.Place != here && (m.Change != goes || m.Move != now.Move):
		t.Errorf("%s: nobody let it go", what)
	case m.Change == arrive && next.Place == gone: // asked again when all is deleted
	default:
		again, err := next.Step(m, map[bool]int{true: 0, false: objects}[next.Place == gone], []byte(rightHash))
		if err != nil || again != next {
			t.Errorf("%s, and then %+v, %v", what, again, err)
		}
	}
}
