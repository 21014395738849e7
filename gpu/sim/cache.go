package sim

import (
	"container/list"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
)

// maxCacheBytes bounds the pictures that the cache keeps, in bytes of pixels.
const maxCacheBytes = 256 << 20

// cached is what a node left for later prompts with the same signature.
type cached struct {
	values [][]any // per slot, a list of items
	ui     ordered // nil when the node had none
	meta   ordered
	size   int64
}

// cache keeps node outputs by content signature: class, literals and, through links, all that lies before. The least
// recently used go first. It belongs to the worker; no lock.
type cache struct {
	policy  CachePolicy
	entries int
	bytes   int64
	order   *list.List // of *cacheEntry, least recently used first
	byKey   map[string]*list.Element
}

type cacheEntry struct {
	key   string
	value *cached
	used  bool // by the prompt that runs
}

func newCache(policy CachePolicy, entries int) *cache {
	return &cache{policy: policy, entries: entries, order: list.New(), byKey: map[string]*list.Element{}}
}

func (c *cache) get(key string) *cached {
	el := c.byKey[key]
	if el == nil {
		return nil
	}
	c.order.MoveToBack(el)
	e := el.Value.(*cacheEntry)
	e.used = true
	return e.value
}

func (c *cache) put(key string, value *cached) {
	if c.policy == CacheNone || value.size > maxCacheBytes {
		return
	}
	c.drop(key)
	c.byKey[key] = c.order.PushBack(&cacheEntry{key: key, value: value, used: true})
	c.bytes += value.size
	for c.order.Len() > c.entries || c.bytes > maxCacheBytes {
		c.drop(c.order.Front().Value.(*cacheEntry).key)
	}
}

func (c *cache) drop(key string) {
	el := c.byKey[key]
	if el == nil {
		return
	}
	c.bytes -= el.Value.(*cacheEntry).value.size
	c.order.Remove(el)
	delete(c.byKey, key)
}

// begin starts a prompt; the classic policy forgets what the last one did not use.
func (c *cache) begin() {
	for el := c.order.Front(); el != nil; {
		next := el.Next()
		e := el.Value.(*cacheEntry)
		if c.policy == CacheClassic && !e.used {
			c.drop(e.key)
		}
		e.used = false
		el = next
	}
}

func (c *cache) clear() {
	c.order.Init()
	clear(c.byKey)
	c.bytes = 0
}

// signature is the content signature of a node: equal for equal work. memo is per prompt.
func (x *execution) signature(id string) string {
	if key, ok := x.keys[id]; ok {
		return key
	}
	n := x.nodes[id]
	class := x.s.classes[n.class]
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00", n.class)
	if class.hides("UNIQUE_ID") {
		fmt.Fprintf(h, "id %s\x00", id)
	}
	literals := x.literals[id]
	for _, in := range append(append([]Input(nil), class.Required...), class.Optional...) {
		given, ok := n.input(in.Name)
		if !ok {
			continue
		}
		if given.link != nil {
			fmt.Fprintf(h, "%s=%s/%d\x00", in.Name, x.signature(given.link.node), given.link.slot)
			continue
		}
		fmt.Fprintf(h, "%s=%T %v\x00", in.Name, literals[in.Name], literals[in.Name])
	}
	if class.fingerprint != nil {
		_, _ = io.WriteString(h, class.fingerprint(x.s, literals))
	}
	key := hex.EncodeToString(h.Sum(nil)[:16])
	x.keys[id] = key
	return key
}

// sizeOf is the number of pixel bytes that output values hold.
func sizeOf(values [][]any) (n int64) {
	for _, slot := range values {
		for _, item := range slot {
			if sized, ok := item.(interface{ bytes() int64 }); ok {
				n += sized.bytes()
			}
		}
	}
	return n
}
