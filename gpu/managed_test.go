package gpu_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/gpu"
	"comfyfleet/models"
)

// cards is a machine with cards of these UUIDs that read the same all the time.
type cards []string

func (c cards) Cards() (list []models.Card, err error) {
	for i, id := range c {
		list = append(list, models.Card{Index: i, UUID: id, Name: "NVIDIA L40S", MemoryTotal: 48 << 30})
	}
	return list, nil
}

func (c cards) Read(string) (models.Telemetry, error) {
	return models.Telemetry{At: time.Now(), GPUUtil: 50, Temperature: 60}, nil
}

// comfyDir is a directory that looks like ComfyUI's, and a Python that runs the simulator in place of its main.py and
// writes down how it was called. script is put before that.
func comfyDir(t *testing.T, script string) gpu.ComfyUI {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "Comfy UI") // a space, as on many machines
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "custom_nodes"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.py"), []byte("# ComfyUI\n"), 0o644))
	python := filepath.Join(dir, "python")
	launcher := `#!/bin/sh
if [ "$1" = -c ]; then echo; exit 0; fi
main="$1"; shift
[ "$main" = "$PWD/main.py" ] || { echo "not in ComfyUI's directory: $PWD" >&2; exit 9; }
if [ "$1" != --help ]; then
  printf '%s\n' "$@" > "$PWD/argv.$CUDA_VISIBLE_DEVICES"
  env > "$PWD/env.$CUDA_VISIBLE_DEVICES"
fi
` + script + fmt.Sprintf("\nexec /usr/bin/env %s %q sim \"$@\"\n", quick, os.Args[0])
	require.NoError(t, os.WriteFile(python, []byte(launcher), 0o755))
	return gpu.ComfyUI{Dir: dir, Python: python}
}

func managedConfig(t *testing.T, c gpu.ComfyUI) gpu.Config {
	cfg := fleetConfig(t.TempDir())
	cfg.ComfyUI, cfg.SimArgs = c, nil
	cfg.Workers = []gpu.Spec{{Name: "gpu0", Kind: models.WorkerManaged}, {Name: "gpu1", Kind: models.WorkerManaged, Index: 1}}
	cfg.Cards = cards{"GPU-aaaa", "GPU-bbbb"}
	return cfg
}

// ready waits until a worker is.
func ready(t *testing.T, f *fleet, name string) models.Worker {
	t.Helper()
	f.Start(name)
	require.Eventually(t, func() bool { w, _ := f.Worker(name); return w.State == models.WorkerReady }, patience, 5*time.Millisecond, "%s does not get ready", name)
	w, _ := f.Worker(name)
	return w
}

func TestManagedWorkersStartWithDirectoriesAndACardOfTheirOwn(t *testing.T) {
	t.Setenv("COMFYFLEET_ADMIN_PASSWORD", "not for engines")
	t.Setenv("CUDA_VISIBLE_DEVICES", "7")
	c := comfyDir(t, "")
	c.Args = []string{"--use-sage-attention", "--reserve-vram", "1.5"}
	c.ModelsDir = t.TempDir()
	cfg := managedConfig(t, c)
	require.NoError(t, cfg.Preflight(t.Context()))
	f := start(t, cfg)
	ports := map[string]bool{}
	for i, uuid := range []string{"GPU-aaaa", "GPU-bbbb"} {
		name := fmt.Sprintf("gpu%d", i)
		w := ready(t, f, name)
		require.Equal(t, uuid, w.Card.UUID)
		require.NotNil(t, w.Telemetry)
		require.True(t, w.EngineSimulated, "it says so itself")
		argv := lines(t, filepath.Join(c.Dir, "argv."+uuid))
		home := filepath.Join(cfg.DataDir, "workers", name)
		for flag, value := range map[string]string{
			"--listen": "127.0.0.1", "--input-directory": filepath.Join(home, "input"), "--output-directory": filepath.Join(home, "output"),
			"--temp-directory": filepath.Join(home, "temp"), "--user-directory": filepath.Join(home, "user"),
			"--database-url": "sqlite:///" + filepath.Join(home, "user", "comfyui.db"), "--extra-model-paths-config": filepath.Join(home, "models.yaml"),
			"--reserve-vram": "1.5", "--use-sage-attention": "--reserve-vram",
		} {
			require.Equal(t, value, after(t, argv, flag))
		}
		ports[after(t, argv, "--port")] = true
		paths, err := os.ReadFile(filepath.Join(home, "models.yaml"))
		require.NoError(t, err)
		require.Contains(t, string(paths), c.ModelsDir)
		env := lines(t, filepath.Join(c.Dir, "env."+uuid))
		require.Contains(t, env, "CUDA_VISIBLE_DEVICES="+uuid)
		require.NotContains(t, strings.Join(env, "\n"), "COMFYFLEET_")
	}
	require.Len(t, ports, 2)
}

func TestTheSizesOfResidentModelsAreThoseOfTheirFiles(t *testing.T) {
	c := comfyDir(t, "")
	c.ModelsDir = t.TempDir()
	for file, size := range map[string]int{
		filepath.Join(c.Dir, "models", "vae", "deep", "a.safetensors"): 10, filepath.Join(c.ModelsDir, "loras", "b.safetensors"): 20,
		filepath.Join(c.ModelsDir, "secret.safetensors"): 30,
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, make([]byte, size), 0o644))
	}
	c.Args = []string{"--test-nodes"}
	f := start(t, managedConfig(t, c))
	ready(t, f, "gpu0")
	prompt := steps(2, 0)
	prompt.ModelFiles = []string{"deep/a.safetensors", "b.safetensors", "../secret.safetensors", "absent.safetensors"}
	out := f.Execute(f.ctx, "gpu0", prompt, &run{staged: make(chan struct{}), started: make(chan struct{})})
	require.Empty(t, out.Cause, out.Detail)
	w, _ := f.Worker("gpu0")
	var sizes []int64
	for _, m := range w.Models {
		sizes = append(sizes, m.Size)
	}
	require.Equal(t, []int64{10, 20, 0, 0}, sizes)
}

func lines(t *testing.T, file string) []string {
	t.Helper()
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	return strings.Split(string(raw), "\n")
}

// after is the word that follows flag.
func after(t *testing.T, argv []string, flag string) string {
	t.Helper()
	for i, arg := range argv[:len(argv)-1] {
		if arg == flag {
			return argv[i+1]
		}
	}
	t.Fatalf("no %s in %q", flag, argv)
	return ""
}

func TestAPortTakenByAnotherProgramIsNoCrash(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	_, port, err := net.SplitHostPort(taken.Addr().String())
	require.NoError(t, err)
	// The first start finds its port taken; the last flag wins.
	cfg := managedConfig(t, comfyDir(t, `if [ ! -e "$PWD/once" ]; then : > "$PWD/once"; set -- "$@" --port `+port+`; fi`))
	cfg.Backoff.Ends = 1
	w := ready(t, start(t, cfg), "gpu0")
	require.Len(t, w.Exits, 1)
	require.Contains(t, w.Exits[0].Reason, "took its port")
	require.Equal(t, 1, w.Exits[0].Code)
}

func TestPreflightSaysWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*gpu.ComfyUI)
		want   []string
	}{
		"no directory":    {func(c *gpu.ComfyUI) { c.Dir += "x" }, []string{"there is no directory"}},
		"a file":          {func(c *gpu.ComfyUI) { c.Dir = c.Python }, []string{"is no directory"}},
		"no main.py":      {func(c *gpu.ComfyUI) { os.Remove(filepath.Join(c.Dir, "main.py")) }, []string{"has no main.py"}},
		"no custom nodes": {func(c *gpu.ComfyUI) { os.Remove(filepath.Join(c.Dir, "custom_nodes")) }, []string{"has no custom_nodes"}},
		"no Python":       {func(c *gpu.ComfyUI) { c.Python += "x" }, []string{"there is no Python"}},
		"not executable":  {func(c *gpu.ComfyUI) { c.Python = filepath.Join(c.Dir, "main.py") }, []string{"is not executable"}},
		"no models": {func(c *gpu.ComfyUI) { c.ModelsDir, c.Python = "/no/such/models", "no-such-python" },
			[]string{"models directory /no/such/models", "there is no Python no-such-python"}},
		"our flag":        {func(c *gpu.ComfyUI) { c.Args = []string{"--listen=0.0.0.0", "--cpu", "--por", "80"} }, []string{"argument --listen is", "argument --por is"}},
		"an unknown flag": {func(c *gpu.ComfyUI) { c.Args = []string{"--use-sage-attention", "--use-magic=1"} }, []string{"does not know the argument --use-magic"}},
		"no torch": {func(c *gpu.ComfyUI) { replace(t, c.Python, `then echo; exit 0`, `then echo torch,yaml; exit 0`) },
			[]string{"has no torch, yaml: is it the one of"}},
		"broken Python": {func(c *gpu.ComfyUI) {
			replace(t, c.Python, `then echo; exit 0`, `then echo first >&2; echo broken >&2; exit 1`)
		},
			[]string{"does not work: exit status 1: broken"}},
		"broken main.py": {func(c *gpu.ComfyUI) { replace(t, c.Python, "\nexec ", "\necho 'SyntaxError: no' >&2; exit 1\nexec ") },
			[]string{"main.py --help: exit status 1: SyntaxError: no"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			comfy := comfyDir(t, "")
			c.change(&comfy)
			cfg := managedConfig(t, comfy)
			err := cfg.Preflight(t.Context())
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
			cfg.Workers = fleetConfig("").Workers
			require.NoError(t, cfg.Preflight(context.Background()), "without managed workers nothing is asked")
		})
	}
}

func replace(t *testing.T, file, from, to string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(raw), from)
	require.NoError(t, os.WriteFile(file, []byte(strings.Replace(string(raw), from, to, 1)), 0o755))
}
