package gpu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"comfyfleet/gpu/proc"
	"comfyfleet/models"
)

// fakeEngine is an engine in memory that does what a test says. It runs one prompt after the other like ComfyUI, ends
// them only when told to, and forgets everything when it is restarted.
type fakeEngine struct {
	mu      sync.Mutex
	running string
	node    string // that executes, with which a new socket is greeted
	pending []string
	history map[string]*History
	sink    func(Event)
	log     []string // calls that change something, in order

	down         bool          // HTTP does not answer
	slow         time.Duration // that History and Interrupt take
	silent       bool          // the socket says nothing
	deaf         int           // interrupts that are lost; -1 all
	dead         bool          // the worker thread takes no more prompts
	submitErr    error         // what Submit answers
	loseSubmit   bool          // with submitErr: the prompt did not arrive
	submitHook   func(id string)
	historyErr   error
	watches      int
	clientIDs    map[string]bool
	viewed       FileRef
	renameUpload string
}

type brokenHistory struct{ error }

func (brokenHistory) HistoryBroken() bool { return true }

func newFakeEngine() *fakeEngine {
	return &fakeEngine{history: map[string]*History{}, clientIDs: map[string]bool{}}
}

func (e *fakeEngine) restart() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running, e.pending, e.history, e.dead = "", nil, map[string]*History{}, false
	e.log = append(e.log, "restart")
}

// with changes the engine's behaviour.
func (e *fakeEngine) with(f func(*fakeEngine)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(e)
}

func (e *fakeEngine) calls() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.log)
}

func (e *fakeEngine) socketCount() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.watches
}

func (e *fakeEngine) emitLocked(ev Event) {
	if ev.Kind == EventNode {
		e.node = ev.Node
	}
	if e.sink != nil && !e.silent {
		ev.At = time.Now()
		e.sink(ev)
	}
}

func (e *fakeEngine) emit(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.emitLocked(ev)
}

func (e *fakeEngine) nextLocked() {
	if e.running == "" && len(e.pending) > 0 && !e.dead {
		e.running, e.node, e.pending = e.pending[0], "", e.pending[1:]
		e.log = append(e.log, "run "+e.running)
		e.emitLocked(Event{Kind: EventStart, PromptID: e.running})
	}
}

// finish ends the running prompt with h, and tells so.
func (e *fakeEngine) finish(h History) {
	e.mu.Lock()
	defer e.mu.Unlock()
	id := e.running
	h.PromptID = id
	if h.Success {
		e.emitLocked(Event{Kind: EventSuccess, PromptID: id})
	}
	e.history[id], e.running = &h, ""
	e.emitLocked(Event{Kind: EventEnd, PromptID: id})
	e.nextLocked()
}

func (e *fakeEngine) http() error {
	if e.down {
		return fmt.Errorf("%w: refused", ErrUnreachable)
	}
	return nil
}

func (e *fakeEngine) Info(context.Context) (EngineInfo, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return EngineInfo{Version: "fake", VRAMTotal: 1 << 30}, e.http()
}

func (e *fakeEngine) NodeDefs(context.Context) (json.RawMessage, error) {
	return json.RawMessage(`{"A":{}}`), nil
}

func (e *fakeEngine) Submit(_ context.Context, p Prompt) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.submitHook != nil {
		e.submitHook(p.ID)
	}
	e.log = append(e.log, "submit "+p.ID)
	var rejected *Rejection
	if !errors.As(e.submitErr, &rejected) && !e.loseSubmit {
		e.pending = append(e.pending, p.ID)
		e.nextLocked()
	}
	return e.submitErr
}

func (e *fakeEngine) Queue(context.Context) (Queue, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var q Queue
	if e.running != "" {
		q.Running = []QueueItem{{PromptID: e.running}}
	}
	for _, id := range e.pending {
		q.Pending = append(q.Pending, QueueItem{PromptID: id})
	}
	return q, e.http()
}

// dawdle takes the lock after the time that a slow engine takes.
func (e *fakeEngine) dawdle() {
	e.mu.Lock()
	slow := e.slow
	e.mu.Unlock()
	time.Sleep(slow)
	e.mu.Lock()
}

func (e *fakeEngine) History(_ context.Context, id string) (*History, error) {
	e.dawdle()
	defer e.mu.Unlock()
	if err := e.http(); err != nil {
		return nil, err
	}
	if e.historyErr != nil {
		return nil, e.historyErr
	}
	return e.history[id], nil
}

func (e *fakeEngine) Forget(_ context.Context, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.history, id)
	e.log = append(e.log, "forget "+id)
	return nil
}

func (e *fakeEngine) Unqueue(_ context.Context, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.log = append(e.log, "unqueue "+id)
	e.pending = slices.DeleteFunc(e.pending, func(p string) bool { return p == id })
	return e.http()
}

func (e *fakeEngine) Interrupt(_ context.Context, id string) error {
	e.dawdle()
	defer e.mu.Unlock()
	e.log = append(e.log, "interrupt "+id)
	if e.deaf != 0 {
		e.deaf--
		return e.http()
	}
	if e.running == id {
		e.history[id], e.running = &History{PromptID: id, Interrupted: true}, ""
		e.emitLocked(Event{Kind: EventInterrupted, PromptID: id})
		e.emitLocked(Event{Kind: EventEnd, PromptID: id})
		e.nextLocked()
	}
	return e.http()
}

func (e *fakeEngine) Free(_ context.Context, memory bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.log = append(e.log, fmt.Sprint("free ", memory))
	return nil
}

func (e *fakeEngine) Upload(_ context.Context, sub, name string, r io.Reader) (string, error) {
	raw, err := io.ReadAll(r)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.log = append(e.log, fmt.Sprintf("upload %s/%s %s", sub, name, raw))
	if e.renameUpload != "" {
		name = e.renameUpload
	}
	return sub + "/" + name, err
}

func (e *fakeEngine) View(_ context.Context, f FileRef) (io.ReadCloser, int64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.viewed = f
	return io.NopCloser(strings.NewReader("viewed")), -1, nil
}

func (e *fakeEngine) Watch(ctx context.Context, clientID string, sink func(Event)) error {
	e.mu.Lock()
	e.sink = sink
	e.watches++
	e.clientIDs[clientID] = true
	sink(Event{Kind: EventConnected})
	if e.running != "" && e.node != "" {
		sink(Event{Kind: EventNode, Node: e.node}) // without the prompt's id, as ComfyUI does
	}
	e.mu.Unlock()
	<-ctx.Done()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sink = nil
	sink(Event{Kind: EventDisconnected})
	return ctx.Err()
}

// fakeChild is an engine process that ends when told to.
type fakeChild struct {
	pid  int
	meta map[string]string
	done chan struct{}
	once sync.Once
	exit proc.Exit
	rss  int64
	note func(string)
}

func (c *fakeChild) end(e proc.Exit) {
	c.once.Do(func() {
		c.exit = e
		c.exit.Seen = true
		close(c.done)
	})
}

func (c *fakeChild) PID() int                { return c.pid }
func (c *fakeChild) Done() <-chan struct{}   { return c.done }
func (c *fakeChild) Exit() proc.Exit         { return c.exit }
func (c *fakeChild) RSS() int64              { return c.rss }
func (c *fakeChild) Meta() map[string]string { return c.meta }
func (c *fakeChild) Detach()                 { c.note("detach") }
func (c *fakeChild) Kill() {
	c.note("kill")
	c.end(proc.Exit{Code: -1, Signal: "SIGKILL"})
}

func (c *fakeChild) Stop(context.Context) (proc.Exit, error) {
	c.note("stop")
	c.end(proc.Exit{})
	return c.exit, nil
}

// fakeStarter starts fakeChildren.
type fakeStarter struct {
	mu       sync.Mutex
	engine   *fakeEngine
	starts   int
	children []*fakeChild
	specs    []proc.Spec
	log      []string
	// onStart runs with each new child; adoptable is what an earlier server left.
	onStart   func(n int, c *fakeChild)
	adoptable *fakeChild
	running   bool
	killed    []string
}

func (s *fakeStarter) note(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, text)
}

func (s *fakeStarter) Start(_ context.Context, spec proc.Spec) (child, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.starts++
	c := &fakeChild{pid: 100 + s.starts, meta: maps.Clone(spec.Meta), done: make(chan struct{}), note: s.note}
	s.children, s.specs = append(s.children, c), append(s.specs, spec)
	if s.starts > 1 {
		s.engine.restart()
	}
	if s.onStart != nil {
		s.onStart(s.starts, c)
	}
	return c, nil
}

func (s *fakeStarter) Adopt(spec proc.Spec) (child, bool, error) {
	if s.adoptable == nil || !strings.Contains(spec.StateFile, "sim0") {
		return nil, false, nil
	}
	return s.adoptable, s.running, nil
}

func (s *fakeStarter) KillLeftover(_ context.Context, spec proc.Spec) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.killed = append(s.killed, spec.Name)
	return nil
}

func (s *fakeStarter) FreePort() (int, error) { return 4242, nil }

func (s *fakeStarter) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.starts
}

func (s *fakeStarter) notes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

func (s *fakeStarter) last() *fakeChild {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.children[len(s.children)-1]
}

// rig is a manager with one simulated worker on a fake engine, inside a synctest bubble.
type rig struct {
	t       *testing.T
	m       *Manager
	engine  *fakeEngine
	starter *fakeStarter
	stop    context.CancelFunc
	ended   chan error
	ctx     context.Context
	stopped bool // the server is told to stop before it starts
}

// inRig runs test in a bubble, with the worker started and ready unless setup says otherwise.
func inRig(t *testing.T, setup func(r *rig, c *Config), test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, engine: newFakeEngine(), ended: make(chan error, 1)}
		r.starter = &fakeStarter{engine: r.engine}
		n := 0
		cfg := Config{DataDir: t.TempDir(), Workers: []Spec{{Name: "sim0", Kind: models.WorkerSimulated}}, SimArgv: []string{"sim"},
			NewEngine: func(string) Engine { return r.engine },
			NewID:     func() string { n++; return fmt.Sprint("client", n) }}
		if setup != nil {
			setup(r, &cfg)
		}
		m, err := NewManager(cfg)
		if err != nil {
			t.Fatal(err)
		}
		m.starter, r.m = r.starter, m
		r.ctx, r.stop = context.WithCancel(context.Background())
		if r.stopped {
			r.stop()
		}
		go func() { r.ended <- m.Run(r.ctx) }()
		m.Start(cfg.Workers[0].Name)
		r.settle()
		defer func() {
			r.stop()
			if err := <-r.ended; err != nil {
				t.Error(err)
			}
		}()
		test(r)
	})
}

// settle lets everything happen that needs no time, and the first probe of a start.
func (r *rig) settle() {
	time.Sleep(time.Millisecond) // bubble time: everybody else is waiting by then
	synctest.Wait()
}

// pass lets d of bubble time pass.
func (r *rig) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (r *rig) worker() models.Worker { return r.m.Workers()[0] }

// flight is one Execute under way.
type flight struct {
	out     chan Outcome
	mu      sync.Mutex
	notes   []string
	last    models.Progress
	phase   models.Phase
	at      time.Time
	err     error // what Staged and Started answer
	preview string
	made    []NodeOutput
}

func (f *flight) note(s string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.notes = append(f.notes, s)
	return f.err
}

func (f *flight) seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.notes)
}

func (f *flight) Staged(context.Context) error { return f.note("staged") }
func (f *flight) Started(_ context.Context, at time.Time) error {
	f.at = at
	return f.note("started")
}
func (f *flight) Progress(p models.Progress, phase models.Phase) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last, f.phase = p, phase
}
func (f *flight) Made(outputs []NodeOutput) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.made = append(f.made, outputs...)
}
func (f *flight) Preview(_ []byte, _, node string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.preview = node
}

func (r *rig) execute(t Task) *flight {
	if t.Nodes == nil {
		t.Nodes = graphNodes
	}
	if t.JobID == "" {
		t.JobID = "job-" + t.AttemptID
	}
	f := &flight{out: make(chan Outcome, 1)}
	go func() { f.out <- r.m.Execute(r.ctx, r.worker().Name, t, f) }()
	synctest.Wait()
	return f
}

// outcome waits for the end of f, at most limit of bubble time.
func (r *rig) outcome(f *flight, limit time.Duration) Outcome {
	r.t.Helper()
	synctest.Wait()
	select {
	case out := <-f.out:
		synctest.Wait()
		return out
	case <-time.After(limit + 10*time.Millisecond):
		r.t.Fatalf("no outcome within %v", limit)
		return Outcome{}
	}
}

var success = History{Success: true, Outputs: []NodeOutput{{Node: "4", Key: "images", File: &FileRef{Filename: "a.png", Type: "output"}}}}
