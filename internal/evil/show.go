package evil

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Index lists the objects as an honest server would; buckets nil: all.
func (s State) Index(buckets *keyapi.Buckets) keyapi.ObjectIndex {
	x := keyapi.ObjectIndex{Objects: []keyapi.ObjectVersion{}}
	for id, o := range s {
		if buckets != nil && !buckets.Has(id.Bucket()) {
			continue
		}
		h := sha256.Sum256(o.Data)
		x.Objects = append(x.Objects, keyapi.ObjectVersion{ID: id, Counter: o.Counter, Hash: h[:], Size: len(o.Data)})
	}
	slices.SortFunc(x.Objects, func(a, b keyapi.ObjectVersion) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return x
}

// List gives objects as an honest server would.
func (s State) List(ids ...keyapi.ObjectID) keyapi.ObjectList {
	l := keyapi.ObjectList{Objects: []keyapi.Object{}}
	for _, id := range ids {
		if o, ok := s[id]; ok {
			l.Objects = append(l.Objects, keyapi.Object{ID: id, Counter: o.Counter, Data: bytes.Clone(o.Data)})
		} else {
			l.Missing = append(l.Missing, id)
		}
	}
	return l
}

// Show answers questions about objects out of another state than the true one, as an
// honest server would that had it. What an honest server refuses is refused; other
// exchanges pass.
func Show(state func() State) Act {
	return func(e *Exchange, serve func()) {
		serve()
		if e.Status != http.StatusOK {
			return
		}
		switch {
		case ToIndex(e):
			var only *keyapi.Buckets
			if q := e.Request.URL.Query().Get("buckets"); q != "" {
				var err error
				if only, err = keyapi.ParseBuckets(q); err != nil {
					return // an honest server has refused it
				}
			}
			e.Answered = encode(state().Index(only))
		case e.Method == http.MethodPost && ToObjects(e):
			var q keyapi.ObjectsRequest
			if json.Unmarshal(e.Sent, &q) == nil {
				e.Answered = encode(state().List(q.IDs...))
			}
		case ToObjects(e):
			var id keyapi.ObjectID
			if id.UnmarshalText([]byte(strings.TrimPrefix(e.Path, "/v1/objects/"))) != nil {
				return
			}
			l := state().List(id)
			if known := e.Request.URL.Query().Get("unless"); known != "" && len(l.Objects) == 1 {
				if h := sha256.Sum256(l.Objects[0].Data); hex.EncodeToString(h[:]) == strings.ToLower(known) {
					l = keyapi.ObjectList{Objects: []keyapi.Object{}, Unchanged: []keyapi.ObjectID{id}}
				}
			}
			e.Answered = encode(l)
		}
	}
}

// Unchanged says of every object that a device knows and asks for that it is as it
// was. Other questions are answered truly.
func Unchanged(e *Exchange, serve func()) {
	serve()
	var id keyapi.ObjectID
	if e.Status != http.StatusOK || e.Method != http.MethodGet || e.Request.URL.Query().Get("unless") == "" ||
		id.UnmarshalText([]byte(strings.TrimPrefix(e.Path, "/v1/objects/"))) != nil {
		return
	}
	e.Answered = encode(keyapi.ObjectList{Objects: []keyapi.Object{}, Unchanged: []keyapi.ObjectID{id}})
}
