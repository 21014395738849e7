package sim

import (
	"container/list"
	"encoding/json"
	"errors"
)

// maxHistory is ComfyUI's MAXIMUM_HISTORY_SIZE.
const maxHistory = 10000

// entry is a finished prompt.
type entry struct {
	item      *item
	outputs   ordered // node id → ui
	meta      ordered
	success   bool
	cancelled bool
	messages  []message
	started   int64 // ms
	ended     int64
	failure   any // data of execution_error
}

// message is one of status.messages: [event, data].
type message struct {
	event string
	data  any
}

// MarshalJSON writes [event, data].
func (m message) MarshalJSON() ([]byte, error) { return json.Marshal([]any{m.event, m.data}) }

func (e *entry) status() map[string]any {
	text := "success"
	if !e.success {
		text = "error"
	}
	return map[string]any{"status_str": text, "completed": e.success, "messages": e.messages}
}

// MarshalJSON writes the entry as /history shows it. It fails for a ui that is not JSON, as ComfyUI does.
func (e *entry) MarshalJSON() ([]byte, error) {
	return json.Marshal(ordered{{"prompt", e.item.tuple()}, {"outputs", e.outputs}, {"status", e.status()}, {"meta", e.meta}})
}

// history keeps finished prompts, oldest first. A repeated id keeps its place and loses its earlier entry.
type history struct {
	order *list.List // of *entry
	byID  map[string]*list.Element
}

func newHistory() *history {
	return &history{order: list.New(), byID: map[string]*list.Element{}}
}

func (h *history) add(e *entry) {
	if old := h.byID[e.item.id]; old != nil {
		old.Value = e
		return
	}
	h.byID[e.item.id] = h.order.PushBack(e)
	if h.order.Len() > maxHistory {
		h.remove(h.order.Front().Value.(*entry).item.id)
	}
}

func (h *history) get(id string) *entry {
	if el := h.byID[id]; el != nil {
		return el.Value.(*entry)
	}
	return nil
}

func (h *history) remove(id string) {
	if el := h.byID[id]; el != nil {
		h.order.Remove(el)
		delete(h.byID, id)
	}
}

func (h *history) clear() {
	h.order.Init()
	clear(h.byID)
}

// page lists entries as GET /history does: at most limit of them (0 for all) from offset; a negative offset means the
// last ones.
func (h *history) page(limit, offset int) []*entry {
	if offset < 0 {
		offset = 0
		if limit > 0 {
			offset = h.order.Len() - limit
		}
	}
	var out []*entry
	i := 0
	for el := h.order.Front(); el != nil; el = el.Next() {
		if i >= offset && (limit <= 0 || len(out) < limit) {
			out = append(out, el.Value.(*entry))
		}
		i++
	}
	return out
}

// poison is a ui value that is no JSON.
type poison struct{}

// errPoison is what Python says about it.
var errPoison = errors.New("TypeError: Object of type object is not JSON serializable")

// MarshalJSON always fails.
func (poison) MarshalJSON() ([]byte, error) { return nil, errPoison }
