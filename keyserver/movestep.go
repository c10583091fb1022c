package keyserver

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// place is where a user's objects are, and which moves it is of. It is stored.
// No note means here, and no move ever; a note without numbers was written when
// moves had none.
type place struct {
	Place  string `json:"place"`
	To     string `json:"to,omitempty"`     // what came from a move keeps where the objects had gone before, for abandon
	Move   uint64 `json:"move,omitempty"`   // keyapi.StorePlace.Move
	Last   uint64 `json:"last,omitempty"`   // highest number of a step that took effect here
	Stayed uint64 `json:"stayed,omitempty"` // highest number that stay has ended here
}

func (s *Server) placeOf(r Reader, u UserID) (place, error) {
	p := place{Place: keyapi.PlaceHere}
	n, err := r.Note(NoteMove, u[:], nil, s.Now())
	if err != nil || n == nil {
		return p, err
	}
	if err := json.Unmarshal(n.Value, &p); err != nil {
		return p, fmt.Errorf("store is damaged: place of objects: %w", err)
	}
	return p, nil
}

// putPlace keeps the numbers of objects that are here as well: a step of a move
// that is over may come late.
func putPlace(w Writer, u UserID, p place) error {
	if p == (place{Place: keyapi.PlaceHere}) {
		return w.DeleteNote(NoteMove, u[:], nil)
	}
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return w.PutNote(&Note{Kind: NoteMove, Owner: u[:], Value: b})
}

// here is p with the objects here, opened by a move; 0: by none, or in use.
func (p place) here(move uint64) place {
	next := place{Place: keyapi.PlaceHere, Move: move, Last: p.Last, Stayed: p.Stayed}
	if move != 0 {
		next.To = p.To
	}
	return next
}

// at is p with another place, of a move that becomes the last one.
func (p place) at(where string, move uint64) place {
	p.Place, p.Move, p.Last = where, move, max(p.Last, move)
	return p
}

// step decides one step of a move where there are so many objects, of this
// IndexHash. What is as the step wants it already stays as it is. To arrive where
// something is to be deleted first gives gone: delete it, and ask again.
func (p place) step(m *keyapi.StoreMove, objects int, hash []byte) (place, error) {
	n := m.Move
	later := n > p.Last
	empty := p.Place == keyapi.PlaceHere && objects == 0
	by := func(where string) bool { return p.Place == where && p.Move == n }
	switch m.Change {
	case keyapi.MoveLeave:
		switch {
		case by(keyapi.PlaceLeaving) && p.To == m.To:
			return p, nil
		case p.Place == keyapi.PlaceHere && later:
			p.To = m.To
			return p.at(keyapi.PlaceLeaving, n), nil
		}
	case keyapi.MoveStay:
		switch {
		case p.Place == keyapi.PlaceHere && n == p.Stayed:
			return p, nil
		case by(keyapi.PlaceLeaving), p.Place == keyapi.PlaceHere && later,
			p.Place == keyapi.PlaceLeaving && p.Move == 0 && later: // which no step can name
			p.Last, p.Stayed = max(p.Last, n), n
			return p.here(0), nil
		}
	case keyapi.MoveGo:
		switch {
		case by(keyapi.PlaceGone): // of what was deleted there is no hash
			return p, nil
		case by(keyapi.PlaceLeaving):
			if !bytes.Equal(m.IndexHash, hash) {
				return p, errIndexHash()
			}
			return p.at(keyapi.PlaceGone, n), nil
		}
	case keyapi.MoveArrive:
		switch {
		case by(keyapi.PlaceArriving):
			return p, nil
		case p.Place == keyapi.PlaceArriving && later: // that one is over
			p.Place = keyapi.PlaceGone
			return p, nil
		case p.Place == keyapi.PlaceGone && later && objects > 0:
			return p, nil
		case p.Place == keyapi.PlaceGone && later, empty && later:
			return p.at(keyapi.PlaceArriving, n), nil
		}
	case keyapi.MoveOpen:
		if by(keyapi.PlaceArriving) || by(keyapi.PlaceHere) {
			if !bytes.Equal(m.IndexHash, hash) {
				return p, errIndexHash()
			}
			return p.at(keyapi.PlaceHere, n), nil
		}
	case keyapi.MoveUse:
		switch {
		case by(keyapi.PlaceHere):
			return p.here(0), nil
		case p.Place == keyapi.PlaceHere && p.Move == 0 && n == p.Last && n != p.Stayed:
			return p, nil
		}
	case keyapi.MoveAbandon:
		switch {
		case by(keyapi.PlaceArriving), by(keyapi.PlaceHere), p.Place == keyapi.PlaceArriving && later:
			return p.at(keyapi.PlaceGone, n), nil
		case p.Place == keyapi.PlaceGone, empty: // nothing of it is here, or will be
			p.Last = max(p.Last, n)
			return p, nil
		}
	}
	return p, p.refuses(m, objects)
}

func errIndexHash() error {
	return conflict(keyapi.CodeConflict, "index_hash is not that of the objects here")
}

// refuses says what is the case where a step does not follow.
func (p place) refuses(m *keyapi.StoreMove, objects int) error {
	what := map[string]string{
		keyapi.PlaceHere: "the objects are here", keyapi.PlaceLeaving: "the objects are leaving here",
		keyapi.PlaceGone: "the objects have gone from here", keyapi.PlaceArriving: "objects are arriving here",
	}[p.Place]
	if p.Place == keyapi.PlaceHere && objects == 0 {
		what = "there are no objects here"
	}
	switch {
	case p.Place == keyapi.PlaceHere && p.Move != 0:
		what += fmt.Sprintf(", opened by move %d", p.Move)
	case p.Move != 0:
		what += fmt.Sprintf(" by move %d", p.Move)
	}
	if m.Move <= p.Last && m.Move != p.Move {
		return conflict(keyapi.CodeConflict, fmt.Sprintf("%s; move %d is over", what, m.Move))
	}
	return conflict(keyapi.CodeConflict, fmt.Sprintf("%s: %s of move %d does not follow", what, m.Change, m.Move))
}
