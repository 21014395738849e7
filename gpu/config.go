package gpu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"comfyfleet/models"
)

// OnShutdown says what becomes of the workers when the server stops.
type OnShutdown string

const (
	// ShutdownStop lets prompts finish for the grace, interrupts what is left and stops the processes.
	ShutdownStop OnShutdown = "stop"
	// ShutdownKeep leaves processes and prompts running for the next server.
	ShutdownKeep OnShutdown = "keep"
)

// Records keep what outlives a server about its workers.
type Records interface {
	Load(ctx context.Context) ([]models.WorkerRecord, error)
	// Save keeps stored node definitions when the record has none.
	Save(ctx context.Context, r models.WorkerRecord) error
}

// Cards reads this machine's cards. gpu/nvidia implements it.
type Cards interface {
	Cards() ([]models.Card, error)
	// Read is one reading of the card with this UUID.
	Read(uuid string) (models.Telemetry, error)
}

// Backoff says when a worker that ended unasked starts again, and when it no longer does.
type Backoff struct {
	// Base is the first wait; it doubles with each end up to Max, and starts over when a prompt has finished.
	Base, Max time.Duration
	// Ends within Within, none of them after a finished prompt, put a local worker into quarantine.
	Ends   int
	Within time.Duration
}

// Probe says how the health of an engine is judged. Engines hang for seconds in garbage collection and in CUDA calls:
// never end one on a single slow answer (protocol §3).
type Probe struct {
	Every, Timeout time.Duration
	// Misses in a row, without any event between them, make the engine unreachable.
	Misses int
}

// defaultPython runs ComfyUI when no other is named.
const defaultPython = "python3"

// Config is what a Manager needs. Zero values get the defaults named; DataDir, Workers and NewEngine have none.
type Config struct {
	// DataDir gets "workers/<name>/…": state, log, input, output, temp and user files of each local worker.
	DataDir string
	Workers []Spec
	// ComfyUI is how managed workers are started.
	ComfyUI ComfyUI
	// SimArgv is the argv prefix of the simulator (its own program and "sim"), SimArgs what is added at the end.
	SimArgv, SimArgs []string
	// Shim is the argv prefix of the hidden command that stays a worker's parent; empty for none (see gpu/proc).
	Shim []string
	// NewEngine makes the client of the engine at a base URL.
	NewEngine func(url string) Engine
	// Cards is nil where there is no driver: no telemetry.
	Cards   Cards
	Records Records // nil: wishes are forgotten with the server
	// OnNodeDefs hears of new node definitions; nil for nobody. It must not block.
	OnNodeDefs func(raw json.RawMessage, version string)

	OnShutdown    OnShutdown    // stop
	ShutdownGrace time.Duration // how long prompts may go on after a stop; 10 s
	// StartTimeout is how long a starting engine may be silent in its log; 2 min.
	StartTimeout time.Duration
	// StallAfter is how long an executing prompt may be without an event before its worker is ended; 10 min.
	StallAfter time.Duration
	// InterruptLimit is how long an engine may ignore interrupts before it is restarted; 10 s.
	InterruptLimit time.Duration
	// ResumeGrace is how long prompts of an earlier server wait to be claimed before they are interrupted; 30 s.
	ResumeGrace time.Duration
	// FreeAfter unloads the models of a worker that was idle for so long; 0 never.
	FreeAfter time.Duration
	// RecycleRSS (bytes) and RecycleJobs restart a local worker between prompts; 0 never.
	RecycleRSS  int64
	RecycleJobs int
	Previews    bool
	Backoff     Backoff // 1 s to 1 min, 5 ends within 10 min
	Probe       Probe   // every 5 s, 10 s each, 4 misses

	Log   *slog.Logger
	Now   func() time.Time
	NewID func() string
}

// ComfyUI is how managed workers are started.
type ComfyUI struct {
	Dir    string
	Python string // "python3" when empty
	Args   []string
	// ModelsDir is searched before ComfyUI's own models directory; "" for none.
	ModelsDir string
}

func (c *Config) complete() error {
	var problems []error
	if c.DataDir == "" {
		problems = append(problems, errors.New("no data directory"))
	}
	if c.NewEngine == nil {
		problems = append(problems, errors.New("no engine client"))
	}
	switch c.OnShutdown {
	case "":
		c.OnShutdown = ShutdownStop
	case ShutdownStop, ShutdownKeep:
	default:
		problems = append(problems, fmt.Errorf("on shutdown: %q is neither stop nor keep", c.OnShutdown))
	}
	for i, s := range c.Workers {
		switch {
		case named(c.Workers[:i], s.Name):
			problems = append(problems, fmt.Errorf("two workers are called %s", s.Name))
		case s.Kind == models.WorkerManaged && c.ComfyUI.Dir == "":
			problems = append(problems, fmt.Errorf("%s: no ComfyUI directory", s.Name))
		case s.Kind == models.WorkerSimulated && len(c.SimArgv) == 0:
			problems = append(problems, fmt.Errorf("%s: no simulator command", s.Name))
		}
	}
	// Workers run in directories of their own: relative paths would mean something else there.
	for _, p := range []*string{&c.DataDir, &c.ComfyUI.Dir, &c.ComfyUI.ModelsDir} {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			problems = append(problems, err)
		}
		*p = abs
	}
	if strings.ContainsRune(c.ComfyUI.Python, filepath.Separator) {
		abs, err := filepath.Abs(c.ComfyUI.Python)
		if err != nil {
			problems = append(problems, err)
		}
		c.ComfyUI.Python = abs
	}
	c.defaults()
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	return nil
}

func (c *Config) defaults() {
	set := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	set(&c.ShutdownGrace, 10*time.Second)
	set(&c.StartTimeout, 2*time.Minute)
	set(&c.StallAfter, 10*time.Minute)
	set(&c.InterruptLimit, 10*time.Second)
	set(&c.ResumeGrace, 30*time.Second)
	set(&c.Backoff.Base, time.Second)
	set(&c.Backoff.Max, time.Minute)
	set(&c.Backoff.Within, 10*time.Minute)
	set(&c.Probe.Every, 5*time.Second)
	set(&c.Probe.Timeout, 10*time.Second)
	if c.Backoff.Ends <= 0 {
		c.Backoff.Ends = 5
	}
	if c.Probe.Misses <= 0 {
		c.Probe.Misses = 4
	}
	if c.ComfyUI.Python == "" {
		c.ComfyUI.Python = defaultPython
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.NewID == nil {
		c.NewID = uuid.NewString
	}
}
