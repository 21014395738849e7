package gpu

import (
	"context"
	"slices"
	"time"
)

// sweep clears prompts away that nobody claims: left by a server that died, or sent in a request whose answer was
// lost. It is for local engines only; what runs on an attached one may be somebody else's.
func (s *session) sweep() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.unclaimed:
		}
		for s.unowned() {
			pause := time.NewTimer(sweepEvery)
			select {
			case <-s.ctx.Done():
				pause.Stop()
				return
			case <-pause.C:
			}
		}
	}
}

// unowned looks for prompts without an owner and reports whether to look again. Within the grace they are only
// watched: the jobs of an earlier server come to claim them.
func (s *session) unowned() (again bool) {
	ctx, cancel := s.call()
	defer cancel()
	q, err := s.engine.Queue(ctx)
	if err != nil {
		return s.ctx.Err() == nil
	}
	ours := func(id string) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.runs[id] != nil
	}
	grace := s.w.m.cfg.Now().Before(s.began.Add(s.w.m.cfg.ResumeGrace))
	var left []string
	running := false
	for i, item := range append(q.Running, q.Pending...) {
		if ours(item.PromptID) {
			continue
		}
		left = append(left, item.PromptID)
		if i < len(q.Running) {
			running = true
		}
		if !grace {
			s.drop(ctx, item.PromptID, i < len(q.Running))
		}
	}
	again = s.track(left)
	if !grace {
		again = len(left) > 0
		for _, id := range s.vanished(left) {
			_ = s.engine.Forget(ctx, id) // its history would stay in the engine's memory
		}
	}
	text := ""
	if running {
		text = "finishes a prompt of an earlier server"
	}
	s.w.do(func() {
		if s.w.sess == s {
			s.w.foreign = text
		}
	})
	return again
}

func (s *session) drop(ctx context.Context, id string, running bool) {
	var err error
	if running {
		err = s.engine.Interrupt(ctx, id)
	} else {
		err = s.engine.Unqueue(ctx, id)
	}
	s.w.log.Info("clear an unclaimed prompt", "prompt", id, "running", running, "error", err)
}

// track remembers the prompts that have no owner, and reports whether there are or were any.
func (s *session) track(left []string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range left {
		s.lone[id] = true
	}
	return len(s.lone) > 0
}

// vanished takes those prompts out of the memory that are no longer in the engine's queue.
func (s *session) vanished(left []string) (gone []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.lone {
		if !slices.Contains(left, id) {
			delete(s.lone, id)
			gone = append(gone, id)
		}
	}
	return gone
}
