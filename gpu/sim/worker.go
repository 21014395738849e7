package sim

import (
	"errors"
	"time"
)

// The ends of a prompt's execution that are not a node's own exception.
var (
	errClosed      = errors.New("the server is closing")
	errInterrupted = errors.New("interrupted")
	// errThreadDied is SystemExit or KeyboardInterrupt in a node: it ends the worker thread and nothing else.
	errThreadDied = errors.New("the worker thread died")
)

// work is the worker thread: one prompt after the other.
func (s *Server) work() {
	for s.ctx.Err() == nil {
		s.applyFree()
		it := s.take()
		if it == nil {
			select {
			case <-s.wake:
			case <-s.ctx.Done():
			}
			continue
		}
		s.sendStatus()
		if s.faults.zombieNow() {
			s.log.error("the worker thread ended")
			return
		}
		began := time.Now()
		e, err := s.execute(it)
		if err == nil {
			err = s.hangOnce("hang-at-end")
		}
		if err != nil {
			return // the prompt stays the running one, as when the thread dies
		}
		s.finish(e)
		s.sendStatus()
		if it.clientID != "" {
			s.send("executing", ordered{{"node", nil}, {"prompt_id", it.id}}, it.clientID)
		}
		s.log.info("Prompt executed in %.2f seconds", time.Since(began).Seconds())
	}
}

// take makes the next pending prompt the running one.
func (s *Server) take() *item {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) == 0 {
		return nil
	}
	s.running = s.pending.pop()
	return s.running
}

// finish moves the running prompt to the history.
func (s *Server) finish(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running, s.lastNode = nil, ""
	s.history.add(e)
}

// applyFree does what POST /free asked for. It happens between prompts only.
func (s *Server) applyFree() {
	s.mu.Lock()
	todo := s.free
	s.free = freeRequest{}
	s.mu.Unlock()
	if todo.models || todo.memory {
		s.memory.clear()
	}
	if todo.memory {
		s.cache.clear()
	}
}
