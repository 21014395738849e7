package gpu

import (
	"context"
	"io"
	"math"
	"sync"
	"time"
)

const (
	// sweepEvery is how often an engine is asked for prompts that nobody claims, while there are any.
	sweepEvery = 2 * time.Second
	// callLimit bounds one HTTP call to an engine; it hangs for seconds now and then (protocol §3).
	callLimit = 15 * time.Second
	// drainWait bounds the wait for a session's goroutines; all their calls end with its context.
	drainWait = 20 * time.Second
)

// session is the time in which one engine process answers. Its goroutines hold the socket, probe the engine's health
// and clear away prompts that nobody owns; all end with it.
type session struct {
	w        *worker
	engine   Engine
	clientID string
	pid      int
	local    bool
	began    time.Time

	ctx    context.Context // ends with the session
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	ending ending     // valid once ctx has ended
	head   *execution // which prompt executed at the end, as far as one can know; valid once ctx has ended

	// jobs and outdated belong to the worker's goroutine.
	jobs     int
	outdated bool // runs with an older command line

	mu        sync.Mutex
	runs      map[string]*execution // by prompt id, from before it is sent
	connected bool
	once      chan struct{} // closed when the socket was connected for the first time
	rewatch   context.CancelFunc
	lastEvent time.Time
	lone      map[string]bool // prompts seen in the engine that nobody claimed
	unclaimed chan struct{}   // wakes the sweeper
}

func newSession(w *worker, engine Engine) *session {
	s := &session{w: w, engine: engine, clientID: w.clientID, local: w.spec.local(), began: w.m.cfg.Now(), runs: map[string]*execution{},
		once: make(chan struct{}), lone: map[string]bool{}, unclaimed: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if w.child != nil {
		s.pid = w.child.PID()
	}
	if w.adopted {
		s.unclaimed <- struct{}{}
		_, hash, err := w.m.cfg.command(w.spec, w.dirs, 0)
		s.outdated = err == nil && hash != w.child.Meta()[metaCommand]
	}
	return s
}

func (s *session) begin() {
	for _, f := range []func(){s.watch, s.probe, s.readDefs} {
		s.tasks.Go(f)
	}
	if s.local {
		s.tasks.Go(s.sweep)
	}
}

// finish ends the session and tells its prompts why.
func (s *session) finish(e ending) {
	s.mu.Lock()
	s.head = s.firstLocked() // now: the first to leave would make the second look like it
	s.mu.Unlock()
	s.ending = e
	s.cancel()
}

// firstLocked is the prompt that executes, or was sent first; nil when none was sent.
func (s *session) firstLocked() (first *execution) {
	best := int64(math.MaxInt64)
	for _, x := range s.runs {
		if x.begun.Load() {
			return x
		}
		if sent := x.sentNS.Load(); sent != 0 && sent < best {
			first, best = x, sent
		}
	}
	return first
}

// wait returns when the session's goroutines have ended, answering calls meanwhile: they may be in one.
func (s *session) wait(calls <-chan func()) {
	done := make(chan struct{})
	go func() {
		s.tasks.Wait()
		close(done)
	}()
	limit := time.NewTimer(drainWait)
	defer limit.Stop()
	for {
		select {
		case f := <-calls:
			f()
		case <-done:
			closeEngine(s.engine)
			return
		case <-limit.C:
			s.w.log.Error("an engine call does not end")
			return
		}
	}
}

// closeEngine gives back an engine client's connections, if it holds any.
func closeEngine(e Engine) {
	if c, ok := e.(io.Closer); ok {
		_ = c.Close() // nothing was being written
	}
}

// call bounds one HTTP call to the engine.
func (s *session) call() (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.ctx, callLimit)
}

// register makes x hear its events. It comes before the prompt is sent: frames may overtake the answer.
func (s *session) register(x *execution) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs[x.task.AttemptID] = x
	delete(s.lone, x.task.AttemptID)
}

func (s *session) unregister(x *execution) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.runs, x.task.AttemptID)
}

// nudge makes every prompt look at the engine.
func (s *session) nudge() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.runs {
		x.box.nudge()
	}
}

// watch holds the socket. A silent one is replaced by cancelling its context (refresh).
func (s *session) watch() {
	for s.ctx.Err() == nil {
		ctx, cancel := context.WithCancel(s.ctx)
		s.mu.Lock()
		s.rewatch = cancel
		s.mu.Unlock()
		err := s.engine.Watch(ctx, s.clientID, s.sink)
		again := ctx.Err() != nil
		cancel()
		if s.ctx.Err() != nil {
			return
		}
		if !again {
			s.w.log.Warn("the engine's socket ended", "error", err)
		}
		pause := time.NewTimer(time.Second)
		select {
		case <-s.ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

// refresh closes the socket and opens it anew: a reconnect that overlapped an older one stays silent for ever.
func (s *session) refresh() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rewatch != nil {
		s.rewatch()
	}
}

// sink takes one event of the socket to the prompt that it belongs to. It never blocks: an engine whose reader is slow
// stalls for everybody.
func (s *session) sink(e Event) {
	if e.At.IsZero() {
		e.At = s.w.m.cfg.Now()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastEvent = e.At
	switch e.Kind {
	case EventConnected:
		if !s.connected {
			s.connected = true
			select {
			case <-s.once:
			default:
				close(s.once)
			}
		}
	case EventDisconnected:
		s.connected = false
	case EventStatus:
		return
	}
	if e.Kind == EventConnected || e.Kind == EventDisconnected {
		for _, x := range s.runs {
			x.box.nudge() // what happened while nobody listened is not told again
		}
		return
	}
	if x := s.owner(e); x != nil {
		x.box.put(e)
	} else if e.Kind == EventStart && e.PromptID != "" {
		s.unowns(e.PromptID)
	}
}

// unowns has a prompt cleared away that nobody claims. s.mu is held.
func (s *session) unowns(id string) {
	if !s.local {
		return // it may be somebody else's
	}
	s.lone[id] = true
	select {
	case s.unclaimed <- struct{}{}:
	default:
	}
}

// blocked looks at what runs before a prompt of ours: one that nobody claims would hold it up for as long as it takes,
// and that it began may not have been heard.
func (s *session) blocked(q Queue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, item := range q.Running {
		if s.runs[item.PromptID] == nil {
			s.unowns(item.PromptID)
		}
	}
}

// owner is whose event e is. Events without a prompt id belong to the prompt that executes.
func (s *session) owner(e Event) *execution {
	if e.PromptID != "" {
		return s.runs[e.PromptID]
	}
	for _, x := range s.runs {
		if x.begun.Load() {
			return x
		}
	}
	return nil
}
