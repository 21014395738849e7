package gpu

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"comfyfleet/gpu/proc"
	"comfyfleet/models"
)

const (
	// asideLimit bounds one write that a worker does not wait for.
	asideLimit = 30 * time.Second
	// driverLimit bounds the wait for the last reading of the cards: a driver can hang for ever.
	driverLimit = 2 * time.Second
)

// Manager owns the workers of this machine. It is made by NewManager and works while Run does; snapshots may be read at
// any time, what changes a worker waits for Run.
type Manager struct {
	cfg     Config
	starter starter
	workers []*worker // never changes
	byName  map[string]*worker

	stopping chan struct{} // closed when Run was told to end
	asides   sync.WaitGroup
	heat     *thermometer
	awake    *awakeClock

	mu        sync.Mutex
	live      map[string]*execution // by attempt
	followers map[chan struct{}]bool
	defs      nodeDefs
	saving    sync.Mutex
}

// nodeDefs are the newest node definitions of any worker.
type nodeDefs struct {
	raw     json.RawMessage
	version string
	at      time.Time
}

// NewManager checks the configuration and reads the cards. It starts nothing: that is Run's part.
func NewManager(cfg Config) (*Manager, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	m := &Manager{cfg: cfg, starter: procStarter{}, byName: map[string]*worker{}, stopping: make(chan struct{}),
		live: map[string]*execution{}, followers: map[chan struct{}]bool{}}
	var cards []models.Card
	if cfg.Cards != nil {
		var err error
		if cards, err = cfg.Cards.Cards(); err != nil {
			cfg.Log.Warn("read the cards", "error", err)
		}
	}
	m.heat, m.awake = newThermometer(m.cfg), newAwakeClock(m.cfg.Now)
	for _, s := range cfg.Workers {
		var card *models.Card
		if i := slices.IndexFunc(cards, func(c models.Card) bool { return c.Index == s.Index }); s.Kind == models.WorkerManaged && i >= 0 {
			card = &cards[i]
			m.heat.add(s.Name, card.UUID)
		}
		w := newWorker(m, s, card)
		m.workers = append(m.workers, w)
		m.byName[s.Name] = w
	}
	return m, nil
}

// Run works until ctx ends and every worker has been left as OnShutdown says.
func (m *Manager) Run(ctx context.Context) error {
	// A server that is stopped while it starts still has engines of an earlier one to leave as OnShutdown says.
	start, cancel := context.WithTimeout(context.WithoutCancel(ctx), asideLimit)
	err := m.recallWishes(start)
	cancel()
	if err != nil {
		for _, w := range m.workers {
			close(w.gone)
		}
		return err
	}
	m.clearForeign(ctx)
	awake, asleep := context.WithCancel(context.WithoutCancel(ctx)) // prompts are followed beyond ctx
	defer asleep()
	go m.awake.run(awake)
	var all sync.WaitGroup
	for _, w := range m.workers {
		all.Go(func() { w.run(ctx) })
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		m.heat.run(ctx)
	}()
	<-ctx.Done()
	m.wind()
	all.Wait()
	m.asides.Wait()
	select {
	case <-read:
	case <-time.After(driverLimit):
		m.cfg.Log.Warn("the NVIDIA driver does not answer")
	}
	return nil
}

// wind tells every prompt that the server stops.
func (m *Manager) wind() {
	close(m.stopping)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, x := range m.live {
		x.refuse(stopped{models.CauseServerStop})
	}
}

func (m *Manager) isStopping() bool {
	select {
	case <-m.stopping:
		return true
	default:
		return false
	}
}

// recallWishes reads what operators wanted of the workers before this server.
func (m *Manager) recallWishes(ctx context.Context) error {
	if m.cfg.Records == nil {
		return nil
	}
	records, err := m.cfg.Records.Load(ctx)
	if err != nil {
		return fmt.Errorf("load worker records: %w", err)
	}
	for _, r := range records {
		if r.NodeDefs != nil && r.NodeDefsAt != nil {
			m.keepDefs(r.NodeDefs, *r.NodeDefsAt)
		}
		if w := m.byName[r.Name]; w != nil {
			w.wish.disabled, w.wish.drain, w.wish.quarantine = r.Disabled, r.Draining, r.Quarantine
		}
	}
	return nil
}

// clearForeign ends the processes of workers that are no longer configured: nobody else would.
func (m *Manager) clearForeign(ctx context.Context) {
	entries, err := os.ReadDir(filepath.Join(m.cfg.DataDir, "workers"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		m.cfg.Log.Warn("look for workers of an earlier server", "error", err)
	}
	for _, e := range entries {
		if w := m.byName[e.Name()]; !e.IsDir() || (w != nil && w.spec.local()) {
			continue
		}
		d := workerDirs(m.cfg.DataDir, e.Name())
		if err := m.starter.KillLeftover(ctx, proc.Spec{Name: e.Name(), StateFile: d.stateFile(), LogFile: d.logFile(), StopGrace: stopGrace}); err != nil {
			m.cfg.Log.Error("end a worker that is no longer configured", "worker", e.Name(), "error", err)
		}
	}
}

// Workers are snapshots of all workers, in the order of the setting.
func (m *Manager) Workers() []models.Worker {
	out := make([]models.Worker, 0, len(m.workers))
	for _, w := range m.workers {
		out = append(out, m.snapshot(w))
	}
	return out
}

// Worker is one worker's snapshot.
func (m *Manager) Worker(name string) (models.Worker, bool) {
	w := m.byName[name]
	if w == nil {
		return models.Worker{}, false
	}
	return m.snapshot(w), true
}

func (m *Manager) snapshot(w *worker) models.Worker {
	s := *w.snap.Load()
	s.Telemetry = m.heat.newest(w.spec.Name)
	return s
}

// Changes fires when any snapshot changed; many changes may be one wake. cancel ends the subscription.
func (m *Manager) Changes() (wake <-chan struct{}, cancel func()) {
	c := make(chan struct{}, 1)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.followers[c] = true
	return c, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.followers, c)
	}
}

func (m *Manager) changed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.followers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// Execute runs one task on one worker and returns when its end on the engine is certain: the worker keeps its place
// for it until then. The end of ctx is a stop of the server (Config.OnShutdown). A worker that cannot take the task
// answers CauseTakenBack at once.
func (m *Manager) Execute(ctx context.Context, worker string, t Task, o Observer) Outcome {
	w := m.byName[worker]
	if w == nil {
		return Outcome{Cause: models.CauseVanished, Detail: "worker " + worker + " is not configured", Started: t.Started}
	}
	x := newExecution(w, t, o)
	if !m.enter(x) {
		return Outcome{Cause: models.CauseInternal, Detail: "the attempt runs already"}
	}
	defer m.exit(x)
	if refused := w.admit(x); refused != "" {
		if t.Resume {
			return Outcome{Detached: true} // the server stops; the next one follows the prompt
		}
		return Outcome{Cause: models.CauseTakenBack, Detail: refused}
	}
	defer w.dismiss(x)
	return x.run(ctx)
}

func (m *Manager) enter(x *execution) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.live[x.task.AttemptID] != nil {
		return false
	}
	m.live[x.task.AttemptID] = x
	if m.isStopping() {
		x.refuse(stopped{models.CauseServerStop})
	}
	return true
}

func (m *Manager) exit(x *execution) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.live, x.task.AttemptID)
}

// Stop asks for the end of an attempt: CauseCanceled and CauseDeadline interrupt it, CauseTakenBack only takes it out
// of the engine's queue while it has not begun. It returns at once; Execute returns with that cause when the engine is
// seen idle of the prompt. Unknown attempts are ignored: they have ended.
func (m *Manager) Stop(attemptID string, cause models.Cause) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if x := m.live[attemptID]; x != nil {
		x.stop(cause)
	}
}

// NodeDefs are the newest /object_info of any worker, nil when none was ever seen. version changes with them.
func (m *Manager) NodeDefs() (raw json.RawMessage, version string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.defs.raw, m.defs.version
}

// learned keeps the node definitions that a worker's engine told.
func (m *Manager) learned(w *worker, raw json.RawMessage) {
	now := m.cfg.Now().UTC()
	if !m.keepDefs(raw, now) {
		return
	}
	var r models.WorkerRecord
	w.do(func() { r = w.record() })
	r.Name, r.NodeDefs, r.NodeDefsAt = w.spec.Name, raw, &now
	m.aside(func(ctx context.Context) {
		if err := m.save(ctx, r); err != nil {
			w.log.Error("store node definitions", "error", err)
		}
	})
}

// keepDefs takes newer node definitions and reports whether they are new.
func (m *Manager) keepDefs(raw []byte, at time.Time) bool {
	sum := sha256.Sum256(raw)
	version := hex.EncodeToString(sum[:8])
	m.mu.Lock()
	if at.Before(m.defs.at) || version == m.defs.version {
		m.mu.Unlock()
		return false
	}
	m.defs = nodeDefs{raw: raw, version: version, at: at}
	m.mu.Unlock()
	if m.cfg.OnNodeDefs != nil {
		m.cfg.OnNodeDefs(raw, version)
	}
	return true
}

// aside runs a write that nobody waits for; Run does before it returns.
func (m *Manager) aside(f func(ctx context.Context)) {
	m.asides.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), asideLimit)
		defer cancel()
		f(ctx)
	})
}

// save stores a worker's record. One at a time, so that the newest wins.
func (m *Manager) save(ctx context.Context, r models.WorkerRecord) error {
	if m.cfg.Records == nil {
		return nil
	}
	m.saving.Lock()
	defer m.saving.Unlock()
	return m.cfg.Records.Save(ctx, r)
}
