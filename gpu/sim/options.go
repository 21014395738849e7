package sim

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

const (
	// Version is what the simulator says that ComfyUI's version is: the one whose behaviour it copies.
	Version = "0.33.0"

	defaultLoadTime  = 1500 * time.Millisecond
	defaultStepTime  = 80 * time.Millisecond
	defaultMaxUpload = 100 << 20 // ComfyUI's --max-upload-size default
	defaultVRAM      = 45 << 30  // what an L40S reports as usable
)

// CachePolicy says what node outputs are kept for later prompts.
type CachePolicy string

const (
	CacheRAM     CachePolicy = "ram"     // as much as fits (ComfyUI's default)
	CacheClassic CachePolicy = "classic" // what the last prompt used
	CacheNone    CachePolicy = "none"    // nothing
)

// Options configure a Server. The zero value is a working simulator in a temporary directory.
type Options struct {
	// Args is the command line that /system_stats shows.
	Args []string
	// BaseDir holds input, output, temp, user and models. Empty means a temporary directory that Close removes.
	BaseDir string
	// InputDir, OutputDir, TempDir and UserDir override the places under BaseDir. As with ComfyUI, TempDir is the
	// parent: files go to TempDir/temp, which is emptied at the start and removed by Close.
	InputDir, OutputDir, TempDir, UserDir string

	// Speed divides every simulated duration. 0 means 1.
	Speed float64
	// LoadTime is taken by each model file that is not resident, StepTime by each sampler step of a still picture.
	LoadTime, StepTime time.Duration
	// Models are the model files that exist, as folder/name. Empty means that any name is accepted.
	Models []string
	// VRAM is the size of the pretended card in bytes. 0 means 45 GiB.
	VRAM int64

	// Cache is the cache policy, CacheRAM when empty. CacheEntries bounds the kept node outputs, 0 means 512.
	Cache        CachePolicy
	CacheEntries int
	// Previews is the server-wide --preview-method: sampler previews are sent unless it is none or empty, or a prompt
	// asks otherwise.
	Previews        string
	DisableMetadata bool
	// MaxUpload bounds every request body, in bytes. 0 means 100 MiB.
	MaxUpload int64

	// TestNodes adds the Sim* classes.
	TestNodes bool
	// Faults make it fail on purpose.
	Faults []Fault
	// Journal names the append-only file of what was executed. Empty means none.
	Journal string
	// Log receives ComfyUI-like log lines. Nil discards them.
	Log io.Writer
	// Die ends the process when a node or fault says so: how is exit, kill, abort or segv. Nil does it for real.
	Die func(how string, code int)
}

// dirs are the directories of a server, absolute.
type dirs struct {
	base, input, output, temp, user, models string
	owned                                   bool // base is temporary and ours to remove
}

func (o *Options) fill() {
	o.Speed = cmp.Or(o.Speed, 1)
	o.LoadTime = cmp.Or(o.LoadTime, defaultLoadTime)
	o.StepTime = cmp.Or(o.StepTime, defaultStepTime)
	o.VRAM = cmp.Or(o.VRAM, defaultVRAM)
	o.MaxUpload = cmp.Or(o.MaxUpload, defaultMaxUpload)
	o.Cache = cmp.Or(o.Cache, CacheRAM)
	o.CacheEntries = cmp.Or(o.CacheEntries, 512)
	o.Previews = cmp.Or(o.Previews, "none")
	if o.Log == nil {
		o.Log = io.Discard
	}
	if o.Die == nil {
		o.Die = die
	}
}

// makeDirs creates the directories and empties temp, as ComfyUI does at start.
func (o *Options) makeDirs() (d dirs, err error) {
	d.base = o.BaseDir
	if d.base == "" {
		if d.base, err = os.MkdirTemp("", "comfyfleet-sim-"); err != nil {
			return d, fmt.Errorf("temporary base directory: %w", err)
		}
		d.owned = true
	}
	if d.base, err = filepath.Abs(d.base); err != nil {
		return d, fmt.Errorf("base directory: %w", err)
	}
	d.input = cmp.Or(o.InputDir, filepath.Join(d.base, "input"))
	d.output = cmp.Or(o.OutputDir, filepath.Join(d.base, "output"))
	d.temp = filepath.Join(cmp.Or(o.TempDir, d.base), "temp")
	d.user = cmp.Or(o.UserDir, filepath.Join(d.base, "user"))
	d.models = filepath.Join(d.base, "models")
	if err := os.RemoveAll(d.temp); err != nil {
		return d, fmt.Errorf("empty temp directory: %w", err)
	}
	for _, p := range []*string{&d.input, &d.output, &d.temp, &d.user} {
		if *p, err = filepath.Abs(*p); err != nil {
			return d, fmt.Errorf("directory %s: %w", *p, err)
		}
		if err := os.MkdirAll(*p, 0o755); err != nil {
			return d, fmt.Errorf("directory: %w", err)
		}
	}
	return d, nil
}

// byType is the directory that a file type names.
func (d dirs) byType(kind string) (string, bool) {
	switch kind {
	case "output":
		return d.output, true
	case "input":
		return d.input, true
	case "temp":
		return d.temp, true
	}
	return "", false
}
