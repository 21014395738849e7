package gpu

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"comfyfleet/gpu/proc"
	"comfyfleet/models"
)

// Names under which a process's state file keeps what an adopting server needs.
const (
	metaClientID = "client_id"
	metaURL      = "url"
	metaCommand  = "command" // hash of the command line without its port
)

// stopGrace is how long an engine may take after SIGINT: ComfyUI leaves within 1.3 s unless a node blocks it.
const stopGrace = 5 * time.Second

// child is the engine process of a local worker. *proc.Process is the real one.
type child interface {
	PID() int
	Done() <-chan struct{}
	Exit() proc.Exit
	Stop(ctx context.Context) (proc.Exit, error)
	Kill()
	RSS() int64
	Meta() map[string]string
	Detach()
}

// starter starts, finds and clears away engine processes. procStarter is the real one.
type starter interface {
	Start(ctx context.Context, s proc.Spec) (child, error)
	// Adopt answers running when the process lives; c without running says how it ended; nil when there was none.
	Adopt(s proc.Spec) (c child, running bool, err error)
	KillLeftover(ctx context.Context, s proc.Spec) error
	FreePort() (int, error)
}

type procStarter struct{}

func (procStarter) Start(ctx context.Context, s proc.Spec) (child, error) {
	p, err := proc.Start(ctx, s)
	if err != nil {
		return nil, err // not a nil *proc.Process in an interface
	}
	return p, nil
}

func (procStarter) Adopt(s proc.Spec) (child, bool, error) {
	p, ok, err := proc.Adopt(s)
	if p == nil {
		return nil, false, err
	}
	return p, ok, err
}

func (procStarter) KillLeftover(ctx context.Context, s proc.Spec) error {
	return proc.KillLeftover(ctx, s)
}

func (procStarter) FreePort() (int, error) { return proc.FreePort() }

// dirs are a worker's own directories. Two ComfyUI processes must share none of them: they overwrite each other's
// outputs and delete each other's previews.
type dirs struct{ root, input, output, temp, user string }

func workerDirs(dataDir, name string) dirs {
	root := filepath.Join(dataDir, "workers", name)
	in := func(n string) string { return filepath.Join(root, n) }
	return dirs{root: root, input: in("input"), output: in("output"), temp: in("temp"), user: in("user")}
}

func (d dirs) make() error {
	// --temp-directory X uses X/temp and deletes it at start; the others must exist.
	for _, p := range []string{d.input, d.output, d.temp, d.user} {
		if err := os.MkdirAll(p, 0o700); err != nil {
			return err
		}
	}
	return nil
}

// of is the directory that a file reference's type means, "" for an unknown one.
func (d dirs) of(fileType string) string {
	switch fileType {
	case "", "output":
		return d.output
	case "temp":
		return filepath.Join(d.temp, "temp")
	case "input":
		return d.input
	}
	return ""
}

func (d dirs) stateFile() string { return filepath.Join(d.root, "state.json") }
func (d dirs) logFile() string   { return filepath.Join(d.root, "engine.log") }

// where is the part of a process's Spec by which it is found again.
func (d dirs) where(name string) proc.Spec {
	return proc.Spec{Name: name, StateFile: d.stateFile(), LogFile: d.logFile(), StopGrace: stopGrace}
}

// command is the whole command line of a local worker on a port, and what it is without the port.
func (c Config) command(s Spec, d dirs, port int) (argv []string, hash string, err error) {
	flags := []string{"--listen", "127.0.0.1", "--input-directory", d.input, "--output-directory", d.output,
		"--temp-directory", d.temp, "--user-directory", d.user,
		"--database-url", "sqlite:///" + filepath.Join(d.user, "comfyui.db"),
		"--disable-auto-launch", "--disable-api-nodes", "--preview-method", "auto"}
	if s.Kind == models.WorkerSimulated {
		argv = append(append(append(argv, c.SimArgv...), flags...), c.SimArgs...)
	} else {
		argv = append([]string{c.ComfyUI.Python, filepath.Join(c.ComfyUI.Dir, "main.py")}, flags...)
		extra, err := c.extraModels(d)
		if err != nil {
			return nil, "", err
		}
		argv = append(append(argv, extra...), c.ComfyUI.Args...)
	}
	sum := sha256.Sum256([]byte(strings.Join(argv, "\x00")))
	return append(argv, "--port", strconv.Itoa(port)), hex.EncodeToString(sum[:8]), nil
}

// modelFolders are the folder kinds of ComfyUI that hold model files.
var modelFolders = []string{"audio_encoders", "checkpoints", "clip", "clip_vision", "configs", "controlnet", "diffusers",
	"diffusion_models", "embeddings", "gligen", "hypernetworks", "loras", "model_patches", "photomaker", "style_models",
	"text_encoders", "unet", "upscale_models", "vae", "vae_approx"}

// extraModels makes ComfyUI look into the shared models directory. --models-directory came only in 2026-07; the paths
// file works with every version.
func (c Config) extraModels(d dirs) ([]string, error) {
	if c.ComfyUI.ModelsDir == "" || c.ComfyUI.ModelsDir == filepath.Join(c.ComfyUI.Dir, "models") {
		return nil, nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "comfyfleet:\n  base_path: %q\n  is_default: true\n", c.ComfyUI.ModelsDir)
	for _, f := range modelFolders {
		fmt.Fprintf(&b, "  %s: %s\n", f, f)
	}
	file := filepath.Join(d.root, "models.yaml")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		return nil, err
	}
	return []string{"--extra-model-paths-config", file}, nil
}

// environment is all that the engine gets to see of ours: no keys, passwords or database addresses.
func (c Config) environment(s Spec, card *models.Card) []string {
	env := []string{"PYTHONUNBUFFERED=1"}
	for _, kv := range proc.BaseEnv() {
		if !strings.HasPrefix(kv, "CUDA_VISIBLE_DEVICES=") {
			env = append(env, kv)
		}
	}
	if s.Kind != models.WorkerManaged {
		return env
	}
	device := strconv.Itoa(s.Index)
	if card != nil && card.UUID != "" {
		device = card.UUID // an index means another card once one has failed
	}
	return append(env, "CUDA_VISIBLE_DEVICES="+device, "CUDA_DEVICE_ORDER=PCI_BUS_ID")
}

// launch starts the engine of a local worker on a new port.
func (w *worker) launch(ctx context.Context) (child, error) {
	if err := w.dirs.make(); err != nil {
		return nil, err
	}
	// What is left of an earlier process would hold the card's memory and the state file.
	if err := w.m.starter.KillLeftover(ctx, w.dirs.where(w.spec.Name)); err != nil {
		return nil, err
	}
	port, err := w.m.starter.FreePort()
	if err != nil {
		return nil, err
	}
	argv, hash, err := w.m.cfg.command(w.spec, w.dirs, port)
	if err != nil {
		return nil, err
	}
	s := w.dirs.where(w.spec.Name)
	s.Dir, s.Argv, s.Env, s.Port, s.Shim = w.dirs.root, argv, w.m.cfg.environment(w.spec, w.card), port, w.m.cfg.Shim
	if w.spec.Kind == models.WorkerManaged {
		s.Dir = w.m.cfg.ComfyUI.Dir // custom nodes look for files beside main.py
	}
	s.Meta = map[string]string{metaClientID: w.m.cfg.NewID(), metaURL: "http://127.0.0.1:" + strconv.Itoa(port), metaCommand: hash}
	return w.m.starter.Start(ctx, s)
}
