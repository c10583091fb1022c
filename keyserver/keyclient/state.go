package keyclient

import (
	"context"
	"encoding/hex"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// ObjectIndex lists the versions of all the user's objects.
func (c *Client) ObjectIndex(ctx context.Context, token string) (keyapi.ObjectIndex, error) {
	var a keyapi.ObjectIndex
	err := c.do(ctx, request{method: http.MethodGet, path: "/v1/objects", token: token, answer: &a, limit: indexAnswer})
	if err == nil && a.Objects == nil {
		err = senseless("GET /v1/objects", "no list")
	}
	return a, err
}

// Objects reads objects, asking again for those that did not fit into one
// answer. On success each id is either among Objects or in Missing.
func (c *Client) Objects(ctx context.Context, token string, ids []keyapi.ObjectID) (keyapi.ObjectList, error) {
	const op = "POST /v1/objects"
	var all keyapi.ObjectList
	open := make(map[keyapi.ObjectID]bool, len(ids))
	for _, id := range ids {
		open[id] = true
	}
	answered := func(id keyapi.ObjectID) bool {
		known := open[id]
		delete(open, id)
		return known
	}
	for len(open) > 0 {
		var rest []keyapi.ObjectID
		for _, id := range ids {
			if open[id] && len(rest) < keyapi.MaxObjectsPerRequest {
				rest = append(rest, id)
			}
		}
		var a keyapi.ObjectList
		r := request{method: http.MethodPost, path: "/v1/objects", token: token, body: keyapi.ObjectsRequest{IDs: rest}, answer: &a, limit: bulkAnswer}
		if err := c.do(ctx, r); err != nil {
			return keyapi.ObjectList{}, err
		}
		if len(a.Objects)+len(a.Missing) == 0 {
			return keyapi.ObjectList{}, senseless(op, "no object answered")
		}
		for _, o := range a.Objects {
			if !answered(o.ID) || o.Counter == 0 {
				return keyapi.ObjectList{}, senseless(op, "object not asked for")
			}
		}
		for _, id := range a.Missing {
			if !answered(id) {
				return keyapi.ObjectList{}, senseless(op, "object not asked for")
			}
		}
		all.Objects = append(all.Objects, a.Objects...)
		all.Missing = append(all.Missing, a.Missing...)
	}
	return all, nil
}

// Tx carries out one transaction. After a TransportError its outcome is not
// known: sending the identical Tx again gives the identical result, whether or
// not it was carried out the first time.
func (c *Client) Tx(ctx context.Context, token string, tx keyapi.Tx) (keyapi.TxResult, error) {
	var a keyapi.TxResult
	err := c.do(ctx, request{method: http.MethodPost, path: "/v1/tx", token: token, body: tx, answer: &a})
	return a, err
}

// Instance asks which MLS group serves a conversation; CodeNotFound when none.
func (c *Client) Instance(ctx context.Context, token string, conversation []byte) (keyapi.Instance, error) {
	var a keyapi.Instance
	path := "/v1/conversations/" + hex.EncodeToString(conversation)
	err := c.do(ctx, request{method: http.MethodGet, path: path, token: token, answer: &a})
	if err == nil && (string(a.Conversation) != string(conversation) || len(a.Group) == 0) {
		err = senseless("GET "+path, "not about this conversation")
	}
	return a, err
}

// DeliveryQuery asks for the handshake messages of an own account.
type DeliveryQuery struct {
	Account keyapi.Account
	After   uint64        // the last Seq already handled
	Limit   int           // at most this many; zero means the server's default
	Wait    time.Duration // how long to wait for the first one, in whole seconds, at most MaxWaitSeconds
}

// Deliveries reads messages after a cursor. Nothing is used up by reading.
func (c *Client) Deliveries(ctx context.Context, token string, q DeliveryQuery) (keyapi.Deliveries, error) {
	v := url.Values{"after": {strconv.FormatUint(q.After, 10)}}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if s := int(q.Wait / time.Second); s > 0 {
		v.Set("wait", strconv.Itoa(min(s, keyapi.MaxWaitSeconds)))
	}
	var a keyapi.Deliveries
	path := accountPath("/v1/delivery", q.Account, "")
	err := c.do(ctx, request{
		method: http.MethodGet, path: path + "?" + v.Encode(), token: token,
		answer: &a, limit: bulkAnswer, wait: q.Wait,
	})
	if err != nil {
		return keyapi.Deliveries{}, err
	}
	if a.Messages == nil {
		return keyapi.Deliveries{}, senseless("GET "+path, "no list")
	}
	last := q.After
	for _, m := range a.Messages {
		if m.Seq <= last {
			return keyapi.Deliveries{}, senseless("GET "+path, "messages out of order")
		}
		last = m.Seq
	}
	return a, nil
}

// Ack acknowledges everything up to and including seq; the server may then
// delete it.
func (c *Client) Ack(ctx context.Context, token string, of keyapi.Account, seq uint64) error {
	return c.do(ctx, request{
		method: http.MethodPost, path: accountPath("/v1/delivery", of, "/ack"), token: token, body: keyapi.AckRequest{Seq: seq},
	})
}
