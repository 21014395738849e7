package gpu

import (
	"comfyfleet/models"
	"context"
	"time"
)

// defsLimit bounds /object_info: megabytes on installs with many nodes, seconds to make.
const defsLimit = 2 * time.Minute

// probe judges the engine's health until the session ends.
func (s *session) probe() {
	cfg := s.w.m.cfg.Probe
	tick := time.NewTicker(cfg.Every)
	defer tick.Stop()
	misses := 0
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
		began := s.w.m.cfg.Now()
		ctx, cancel := context.WithTimeout(s.ctx, cfg.Timeout)
		info, err := s.engine.Info(ctx)
		cancel()
		if s.ctx.Err() != nil {
			return
		}
		if err == nil {
			misses = 0
			s.healthy(info)
			continue
		}
		s.mu.Lock()
		heard := s.lastEvent.After(began.Add(-cfg.Every)) && s.connected
		s.mu.Unlock()
		if heard {
			continue // it works on a prompt and has no time for us
		}
		if misses++; misses >= cfg.Misses {
			s.w.fault(s, ending{cause: models.CauseUnreachable, now: true, detail: "did not answer " + err.Error()})
			return
		}
	}
}

// healthy takes what a good probe told.
func (s *session) healthy(info EngineInfo) {
	foreign := s.foreign()
	idleFor := time.Duration(0)
	s.w.do(func() {
		w := s.w
		if w.sess != s {
			return
		}
		w.info = info
		if w.child != nil {
			w.rss = w.child.RSS()
		}
		if !s.local {
			w.foreign = foreign
		}
		if w.idle != nil && len(w.runs) == 0 && w.foreign == "" && !w.freed {
			idleFor = w.m.cfg.Now().Sub(*w.idle)
		}
	})
	if after := s.w.m.cfg.FreeAfter; after > 0 && s.local && idleFor >= after {
		s.free(false)
	}
}

// foreign says in plain words what an attached engine runs for somebody else. Its process is not ours alone.
func (s *session) foreign() string {
	if s.local {
		return ""
	}
	ctx, cancel := s.call()
	defer cancel()
	q, err := s.engine.Queue(ctx)
	if err != nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, item := range q.Running {
		if s.runs[item.PromptID] == nil {
			return "runs a prompt of somebody else"
		}
	}
	return ""
}

// free unloads the engine's models; memory drops its node cache too.
func (s *session) free(memory bool) error {
	ctx, cancel := s.call()
	defer cancel()
	if err := s.engine.Free(ctx, memory); err != nil {
		return err
	}
	s.w.do(func() {
		if s.w.sess == s {
			s.w.resident, s.w.freed = nil, true
			s.w.publish()
		}
	})
	return nil
}

// readDefs reads the engine's node definitions once.
func (s *session) readDefs() {
	ctx, cancel := context.WithTimeout(s.ctx, defsLimit)
	defer cancel()
	raw, err := s.engine.NodeDefs(ctx)
	if err != nil {
		if s.ctx.Err() == nil {
			s.w.log.Warn("read node definitions", "error", err)
		}
		return
	}
	s.w.m.learned(s.w, raw)
}
