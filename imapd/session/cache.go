package session

import (
	"container/list"

	"github.com/cloudmls/gateway/imapd/overlay"
)

const (
	// viewOverhead is what a View costs besides its content: its tree, tables
	// and headers.
	viewOverhead = 16 << 10
	// inlineContent is the most that a View without bulk part keeps in memory.
	inlineContent = 64 << 10
	// bulkBuffers is what a reader of a bulk part keeps in memory: four decoded
	// windows, and two encoded ones that were read ahead.
	bulkBuffers = 5 << 18
)

// viewCache keeps the messages of the selected mailbox that were opened last,
// so that a client that reads a message in pieces opens it once. For the
// client goroutine.
type viewCache struct {
	limit, used int64
	byUID       map[uint32]*list.Element
	order       *list.List // most recently used first
}

type cachedView struct {
	uid  uint32
	view *overlay.View
	cost int64
}

func newViewCache(limit int64) *viewCache {
	c := &viewCache{limit: limit}
	c.clear()
	return c
}

func (c *viewCache) clear() {
	c.used, c.byUID, c.order = 0, make(map[uint32]*list.Element), list.New()
}

func (c *viewCache) get(uid uint32) *overlay.View {
	el := c.byUID[uid]
	if el == nil {
		return nil
	}
	c.order.MoveToFront(el)
	return el.Value.(*cachedView).view
}

func (c *viewCache) put(uid uint32, v *overlay.View, bulk bool) {
	c.drop(uid)
	cost := int64(viewOverhead) + min(v.Size, inlineContent)
	if bulk {
		cost += bulkBuffers
	}
	c.byUID[uid] = c.order.PushFront(&cachedView{uid, v, cost})
	c.used += cost
	for c.used > c.limit && c.order.Len() > 1 {
		c.drop(c.order.Back().Value.(*cachedView).uid)
	}
}

func (c *viewCache) drop(uid uint32) {
	el := c.byUID[uid]
	if el == nil {
		return
	}
	c.used -= el.Value.(*cachedView).cost
	c.order.Remove(el)
	delete(c.byUID, uid)
}
