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
	// Those that wait come first: the end of the running one would begin them.
	for _, item := range q.Pending {
		if !ours(item.PromptID) {
			left = append(left, item.PromptID)
			s.drop(ctx, grace, item.PromptID, s.engine.Unqueue)
		}
	}
	running := false
	for _, item := range q.Running {
		if !ours(item.PromptID) {
			running = true
			left = append(left, item.PromptID)
			s.drop(ctx, grace, item.PromptID, s.engine.Interrupt)
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

// drop takes a prompt out of the engine unless the grace still lasts.
func (s *session) drop(ctx context.Context, grace bool, id string, by func(ctx context.Context, id string) error) {
	if grace {
		return
	}
	err := by(ctx, id)
	s.w.log.Info("clear an unclaimed prompt", "prompt", id, "error", err)
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
