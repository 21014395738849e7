package sim

import (
	"encoding/json"
	"errors"
	"slices"
)

// errTie is Python's TypeError when two queue items have the same number and the same id: the item was appended all the
// same, and will run.
var errTie = errors.New("'<' not supported between instances of 'dict' and 'dict'")

// item is a queued prompt.
type item struct {
	number   float64
	shown    json.RawMessage // the number as it is echoed
	id       string
	clientID string
	hasID    bool // a client id was given
	graph    *graph
	literals map[string]map[string]any
	extra    json.RawMessage // extra_data as it is shown
	pngInfo  ordered         // extra_pnginfo
	preview  string          // extra_data.preview_method
	flow     string          // extra_pnginfo.workflow.id
	created  int64           // ms
	outputs  []string
}

// tuple is the item as /queue and history show it.
func (i *item) tuple() []any {
	return []any{i.shown, i.id, i.graph.raw, i.extra, i.outputs}
}

// less orders by number, then by id.
func (i *item) less(j *item) bool {
	if i.number != j.number {
		return i.number < j.number
	}
	return i.id < j.id
}

// heapQueue is Python's heapq over items, algorithm included, since /queue shows the bare array.
type heapQueue []*item

// push adds an item. errTie says that the array holds it but not at its proper place.
func (h *heapQueue) push(i *item) error {
	*h = append(*h, i)
	pos := len(*h) - 1
	for pos > 0 {
		parent := (pos - 1) / 2
		p := (*h)[parent]
		if i.number == p.number && i.id == p.id {
			(*h)[pos] = i
			return errTie
		}
		if !i.less(p) {
			break
		}
		(*h)[pos] = p
		pos = parent
	}
	(*h)[pos] = i
	return nil
}

// pop takes the smallest item. Like heapq it first sinks the hole to a leaf and then lets the last item rise from there.
func (h *heapQueue) pop() *item {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	if len(*h) == 0 {
		return last
	}
	top := (*h)[0]
	(*h)[0] = last
	h.sink(0)
	return top
}

func (h heapQueue) sink(pos int) {
	start, moving := pos, h[pos]
	for child := 2*pos + 1; child < len(h); child = 2*pos + 1 {
		if right := child + 1; right < len(h) && !h[child].less(h[right]) {
			child = right
		}
		h[pos] = h[child]
		pos = child
	}
	for pos > start {
		parent := (pos - 1) / 2
		if !moving.less(h[parent]) {
			break
		}
		h[pos] = h[parent]
		pos = parent
	}
	h[pos] = moving
}

// remove deletes the first item that matches and restores the heap.
func (h *heapQueue) remove(match func(*item) bool) bool {
	i := slices.IndexFunc(*h, match)
	if i < 0 {
		return false
	}
	*h = slices.Delete(*h, i, i+1)
	for pos := len(*h)/2 - 1; pos >= 0; pos-- {
		h.sink(pos)
	}
	return true
}
