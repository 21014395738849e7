package sim

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// getQueue is GET /queue. Pending is in heap order, which is not the order of execution.
func (s *Server) getQueue(w http.ResponseWriter, _ *http.Request) {
	if s.faults.has("queue-500") {
		trouble(w)
		return
	}
	running, pending := [][]any{}, [][]any{}
	s.mu.Lock()
	if s.running != nil {
		running = append(running, s.running.tuple())
	}
	for _, it := range s.pending {
		pending = append(pending, it.tuple())
	}
	s.mu.Unlock()
	reply(w, http.StatusOK, ordered{{"queue_running", running}, {"queue_pending", pending}})
}

// postQueue is POST /queue {"clear":true} or {"delete":[ids]}. Only pending prompts are removed; they leave no trace.
func (s *Server) postQueue(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Clear  bool     `json:"clear"`
		Delete []string `json:"delete"`
	}
	if !s.decodeBody(w, r, &in, true) {
		return
	}
	if in.Clear {
		s.mu.Lock()
		s.pending = nil
		s.mu.Unlock()
		s.sendStatus()
	}
	for _, id := range in.Delete {
		s.unqueue(id)
	}
}

// unqueue removes a pending prompt.
func (s *Server) unqueue(id string) bool {
	s.mu.Lock()
	found := s.pending.remove(func(it *item) bool { return it.id == id })
	s.mu.Unlock()
	if found {
		s.sendStatus()
	}
	return found
}

// postInterrupt is POST /interrupt. It sets a flag that the start of the next prompt clears.
func (s *Server) postInterrupt(w http.ResponseWriter, r *http.Request) {
	var in struct {
		PromptID string `json:"prompt_id"`
	}
	if !s.decodeBody(w, r, &in, false) {
		return
	}
	if in.PromptID == "" {
		s.interrupt.Store(true)
		return
	}
	s.interruptPrompt(in.PromptID)
}

// interruptPrompt interrupts the running prompt if it has that id.
func (s *Server) interruptPrompt(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil || s.running.id != id {
		return false
	}
	s.interrupt.Store(true)
	return true
}

// postFree is POST /free. The worker applies it between prompts.
func (s *Server) postFree(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Models bool `json:"unload_models"`
		Memory bool `json:"free_memory"`
	}
	if !s.decodeBody(w, r, &in, true) {
		return
	}
	s.mu.Lock()
	s.free.models, s.free.memory = s.free.models || in.Models, s.free.memory || in.Memory
	s.mu.Unlock()
	s.poke()
}

// getHistory is GET /history?max_items=&offset=.
func (s *Server) getHistory(w http.ResponseWriter, r *http.Request) {
	limit, offset := 0, -1
	for name, to := range map[string]*int{"max_items": &limit, "offset": &offset} {
		text := r.URL.Query().Get(name)
		if text == "" {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			trouble(w)
			return
		}
		*to = n
	}
	s.mu.Lock()
	list := s.history.page(limit, offset)
	s.mu.Unlock()
	s.replyHistory(w, list)
}

// getHistoryOf is GET /history/{id}: an unknown or unfinished prompt is {}.
func (s *Server) getHistoryOf(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	e := s.history.get(r.PathValue("id"))
	s.mu.Unlock()
	if e == nil {
		s.replyHistory(w, nil)
		return
	}
	s.replyHistory(w, []*entry{e})
}

func (s *Server) replyHistory(w http.ResponseWriter, list []*entry) {
	if s.faults.has("history-500") {
		trouble(w)
		return
	}
	out := ordered{}
	for _, e := range list {
		out = append(out, field{e.item.id, e})
	}
	reply(w, http.StatusOK, out)
}

// postHistory is POST /history {"clear":true} or {"delete":[ids]}.
func (s *Server) postHistory(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Clear  bool     `json:"clear"`
		Delete []string `json:"delete"`
	}
	if !s.decodeBody(w, r, &in, true) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.Clear {
		s.history.clear()
	}
	for _, id := range in.Delete {
		s.history.remove(id)
	}
}

// decodeBody reads a JSON body; it has answered when it returns false. Without strict, anything else counts as {}.
func (s *Server) decodeBody(w http.ResponseWriter, r *http.Request, v any, strict bool) bool {
	raw, ok := s.body(w, r)
	if !ok {
		return false
	}
	if err := json.Unmarshal(raw, v); err != nil && strict {
		trouble(w)
		return false
	}
	return true
}
