package keyclient

import (
	"bytes"
	"context"
	"encoding/hex"
	"net/url"
	"strconv"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// ObjectIndex lists the versions of all the user's objects.
func (c *Client) ObjectIndex(ctx context.Context, token string) (keyapi.ObjectIndex, error) {
	return call(ctx, c, request{op: "GET /v1/objects", token: token, limit: indexAnswer}, func(a *keyapi.ObjectIndex) string {
		return unless(a.Objects != nil, "no list")
	})
}

// ObjectIndexOf lists the versions of the user's objects in some buckets.
func (c *Client) ObjectIndexOf(ctx context.Context, token string, buckets keyapi.Buckets) (keyapi.ObjectIndex, error) {
	r := request{op: "GET /v1/objects", path: "/v1/objects?buckets=" + buckets.String(), token: token, limit: indexAnswer}
	return call(ctx, c, r, func(a *keyapi.ObjectIndex) string {
		if a.Objects == nil {
			return "no list"
		}
		for i := range a.Objects {
			if !buckets.Has(a.Objects[i].ID.Bucket()) {
				return "an object of a bucket that was not asked for"
			}
		}
		return ""
	})
}

// ObjectUnless reads one object, unless its octets have a hash (SHA-256) that is
// known. On success the id is among Objects, in Missing or in Unchanged.
func (c *Client) ObjectUnless(ctx context.Context, token string, id keyapi.ObjectID, hash [32]byte) (keyapi.ObjectList, error) {
	path := "/v1/objects/" + hex.EncodeToString(id[:]) + "?unless=" + hex.EncodeToString(hash[:])
	r := request{op: "GET /v1/objects/{object}", path: path, token: token, limit: bulkAnswer}
	return call(ctx, c, r, func(a *keyapi.ObjectList) string {
		if len(a.Unchanged) == 1 && a.Unchanged[0] == id && len(a.Objects)+len(a.Missing) == 0 {
			return ""
		}
		return strike(map[keyapi.ObjectID]bool{id: true}, a)
	})
}

// Objects reads any number of objects, asking again for those that did not fit
// into one answer. On success each id is either among Objects or in Missing.
func (c *Client) Objects(ctx context.Context, token string, want []keyapi.ObjectID) (keyapi.ObjectList, error) {
	var all keyapi.ObjectList
	open := make(map[keyapi.ObjectID]bool, len(want))
	for _, id := range want {
		open[id] = true
	}
	for len(open) > 0 {
		var ids []keyapi.ObjectID
		for _, id := range want {
			if open[id] && len(ids) < keyapi.MaxObjectsPerRequest {
				ids = append(ids, id)
			}
		}
		req := request{op: "POST /v1/objects", token: token, body: keyapi.ObjectsRequest{IDs: ids}, limit: bulkAnswer}
		a, err := call(ctx, c, req, func(a *keyapi.ObjectList) string { return strike(open, a) })
		if err != nil {
			return keyapi.ObjectList{}, err
		}
		all.Objects = append(all.Objects, a.Objects...)
		all.Missing = append(all.Missing, a.Missing...)
	}
	return all, nil
}

// strike takes the answered ids off the list of open ones.
func strike(open map[keyapi.ObjectID]bool, a *keyapi.ObjectList) string {
	before := len(open)
	if len(a.Unchanged) > 0 {
		return "an object unchanged that nobody named"
	}
	for _, o := range a.Objects {
		if !open[o.ID] || o.Counter == 0 || len(o.Data) == 0 {
			return "an object that was not asked for, or an empty one"
		}
		delete(open, o.ID)
	}
	for _, id := range a.Missing {
		if !open[id] {
			return "an object that was not asked for"
		}
		delete(open, id)
	}
	return unless(len(open) < before, "no object answered")
}

// Tx carries out one transaction. After a TransportError its outcome is not
// known: sending the identical Tx again gives the identical result, whether or
// not it was carried out the first time.
func (c *Client) Tx(ctx context.Context, token string, tx keyapi.Tx) (keyapi.TxResult, error) {
	if !c.together() {
		return c.splitTx(ctx, token, tx)
	}
	return c.txAt(ctx, c.delivery, token, tx)
}

// Instance asks which MLS group serves a conversation; CodeNotFound when none.
func (c *Client) Instance(ctx context.Context, token string, conversation []byte) (keyapi.Instance, error) {
	path := "/v1/conversations/" + hex.EncodeToString(conversation)
	r := request{op: "GET /v1/conversations/{conversation}", path: path, token: token}
	return call(ctx, c, r, func(a *keyapi.Instance) string {
		return unless(bytes.Equal(a.Conversation, conversation) && len(a.Group) > 0, "not about this conversation")
	})
}

// Deliveries reads messages after a cursor. Nothing is used up by reading.
func (c *Client) Deliveries(ctx context.Context, token string, q keyapi.DeliveryQuery) (keyapi.Deliveries, error) {
	v := url.Values{"after": {strconv.FormatUint(q.After, 10)}}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	wait := min(q.Wait/time.Second, keyapi.MaxWaitSeconds)
	if wait > 0 {
		v.Set("wait", strconv.Itoa(int(wait)))
	}
	r := request{
		op:   "GET /v1/delivery/{platform}/{id}",
		path: accountPath("/v1/delivery", q.Account, "") + "?" + v.Encode(), token: token,
		limit: bulkAnswer, wait: wait * time.Second,
	}
	return call(ctx, c, r, func(a *keyapi.Deliveries) string {
		last := q.After
		for _, m := range a.Messages {
			if m.Seq <= last {
				return "messages out of order"
			}
			last = m.Seq
		}
		return unless(a.Messages != nil, "no list")
	})
}

// Ack acknowledges everything up to and including seq; the server may then
// delete it.
func (c *Client) Ack(ctx context.Context, token string, of keyapi.Account, seq uint64) error {
	return c.do(ctx, request{
		op: "POST /v1/delivery/{platform}/{id}/ack", path: accountPath("/v1/delivery", of, "/ack"),
		token: token, body: keyapi.AckRequest{Seq: seq},
	})
}
