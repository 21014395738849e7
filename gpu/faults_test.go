package gpu_test

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"comfyfleet/gpu"
	"comfyfleet/gpu/comfy"
	"comfyfleet/gpu/proc"
	"comfyfleet/gpu/proc/proctest"
	"comfyfleet/gpu/sim"
	"comfyfleet/models"
)

// quick takes away the second that the race detector adds to each exit.
const quick = "GORACE=atexit_sleep_ms=0"

// patience bounds every wait for a real process on a busy machine.
const patience = time.Minute

// The test binary is also the simulator, the shim, and a server that is killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "sim":
			os.Exit(sim.Run(context.Background(), os.Args[2:], os.Stdout, os.Stderr))
		case "run-worker":
			os.Exit(proc.ShimMain(os.Args[2:]))
		case "server":
			os.Exit(doomedServer(os.Args[2], os.Args[3]))
		}
	}
	// These tests wait for processes more than they compute.
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	os.Exit(proctest.Main(m.Run))
}

func self(role string) []string { return []string{"/usr/bin/env", quick, os.Args[0], role} }

// fleetConfig is one simulator with test nodes and a journal, under dir.
func fleetConfig(dir string, simArgs ...string) gpu.Config {
	return gpu.Config{
		DataDir: dir, Workers: []gpu.Spec{{Name: "sim0", Kind: models.WorkerSimulated}},
		SimArgv: self("sim"), Shim: self("run-worker"),
		SimArgs:   append([]string{"--test-nodes", "--journal", filepath.Join(dir, "journal"), "--base-directory", filepath.Join(dir, "base")}, simArgs...),
		NewEngine: func(url string) gpu.Engine { return comfy.New(url, comfy.Options{RedialMin: 20 * time.Millisecond}) },
		Backoff:   gpu.Backoff{Base: 20 * time.Millisecond},
		Probe:     gpu.Probe{Every: time.Second}, InterruptLimit: time.Second, ShutdownGrace: time.Second,
		StallAfter: time.Minute, Previews: true,
	}
}

// fleet is a manager over real processes.
type fleet struct {
	*gpu.Manager
	t    *testing.T
	dir  string
	ctx  context.Context
	stop func() // and wait
}

func start(t *testing.T, cfg gpu.Config) *fleet {
	t.Helper()
	m, err := gpu.NewManager(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	f := &fleet{Manager: m, t: t, dir: cfg.DataDir, ctx: ctx}
	f.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			require.NoError(t, err)
		case <-time.After(patience):
			t.Error("the fleet does not stop")
		}
	})
	t.Cleanup(func() {
		f.stop()
		if t.Failed() {
			for _, w := range cfg.Workers {
				endLeftover(t, cfg.DataDir, w.Name)
			}
		}
	})
	m.Start("sim0")
	return f
}

// up starts a fleet and waits until its worker is ready and heard: a prompt waits for the first socket for seconds only.
func up(t *testing.T, cfg gpu.Config) *fleet {
	t.Helper()
	connected, plain := make(chan struct{}), cfg.NewEngine
	tell := sync.OnceFunc(func() { close(connected) })
	cfg.NewEngine = func(url string) gpu.Engine { return listened{plain(url).(*comfy.Client), tell} }
	f := start(t, cfg)
	f.await(models.WorkerReady)
	select {
	case <-connected:
	case <-time.After(patience):
		t.Fatal("the worker's socket is not connected")
	}
	return f
}

// listened is a client that says when the fleet has heard that its socket is connected.
type listened struct {
	*comfy.Client
	connected func()
}

func (l listened) Watch(ctx context.Context, clientID string, sink func(gpu.Event)) error {
	return l.Client.Watch(ctx, clientID, func(e gpu.Event) {
		sink(e)
		if e.Kind == gpu.EventConnected {
			l.connected()
		}
	})
}

func (f *fleet) worker() models.Worker {
	w, _ := f.Worker("sim0")
	return w
}

func (f *fleet) await(s models.WorkerState) models.Worker {
	f.t.Helper()
	require.Eventually(f.t, func() bool { return f.worker().State == s }, patience, 5*time.Millisecond, "the worker does not get %s", s)
	return f.worker()
}

// journal is what the simulator really did: "start <id>", "end <id>" …
func (f *fleet) journal() (lines []string) {
	raw, err := os.ReadFile(filepath.Join(f.dir, "journal"))
	require.NoError(f.t, err)
	for line := range strings.Lines(string(raw)) {
		var e struct {
			Event    string `json:"event"`
			PromptID string `json:"prompt_id"`
		}
		require.NoError(f.t, json.Unmarshal([]byte(line), &e))
		if e.PromptID != "" && e.Event != "cached" {
			lines = append(lines, e.Event+" "+e.PromptID)
		}
	}
	return lines
}

// run is one Execute under way.
type run struct {
	out      chan gpu.Outcome
	staged   chan struct{}
	started  chan struct{}
	mu       sync.Mutex
	progress models.Progress
	previews int
}

func (r *run) Staged(context.Context) error {
	close(r.staged)
	return nil
}
func (r *run) Started(context.Context, time.Time) error {
	close(r.started)
	return nil
}
func (r *run) Progress(p models.Progress, _ models.Phase) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress = p
}
func (r *run) Made([]gpu.NodeOutput) {}
func (r *run) Preview([]byte, string, string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.previews++
}

func (f *fleet) execute(t gpu.Task) *run {
	r := &run{out: make(chan gpu.Outcome, 1), staged: make(chan struct{}), started: make(chan struct{})}
	go func() { r.out <- f.Execute(f.ctx, "sim0", t, r) }()
	return r
}

func (f *fleet) begun(r *run) {
	f.t.Helper()
	f.reached(r, r.started, "begin")
}

// reached waits until a prompt has come so far; it may have ended since.
func (f *fleet) reached(r *run, so <-chan struct{}, far string) {
	f.t.Helper()
	select {
	case <-so:
	case out := <-r.out:
		select {
		case <-so:
			r.out <- out
		default:
			f.t.Fatalf("the prompt did not %s: %+v", far, out)
		}
	case <-time.After(patience):
		f.t.Fatalf("the prompt does not %s", far)
	}
}

func (f *fleet) outcome(r *run) gpu.Outcome {
	f.t.Helper()
	select {
	case out := <-r.out:
		return out
	case <-time.After(patience):
		f.t.Fatal("the prompt does not end")
		return gpu.Outcome{}
	}
}

// succeed runs a short prompt and reads its picture.
func (f *fleet) succeed() {
	f.t.Helper()
	f.await(models.WorkerReady)
	task := steps(3, 0.01)
	out := f.outcome(f.execute(task))
	require.Empty(f.t, out.Cause, out.Detail)
	f.picture(out)
	f.Forget(f.ctx, "sim0", task.AttemptID, task.JobID)
}

func (f *fleet) picture(out gpu.Outcome) {
	f.t.Helper()
	require.Len(f.t, out.Outputs, 1)
	body, size, err := f.OpenOutput(f.ctx, "sim0", *out.Outputs[0].File)
	require.NoError(f.t, err)
	raw, err := io.ReadAll(body)
	require.NoError(f.t, err)
	require.NoError(f.t, body.Close())
	require.EqualValues(f.t, size, len(raw))
	require.Equal(f.t, "\x89PNG", string(raw[:4]))
}

// task is EmptyImage → class → SaveImage. inputs is JSON without braces, "" for none.
func task(class, inputs string) gpu.Task {
	id := uuid.NewString()
	if inputs != "" {
		inputs = "," + inputs
	}
	last := "2"
	if class == "SimPoison" { // it has no output to save
		last = "1"
	}
	return gpu.Task{AttemptID: id, JobID: uuid.NewString(),
		Nodes: map[string]string{"1": "EmptyImage", "2": class, "3": "SaveImage"},
		Graph: json.RawMessage(fmt.Sprintf(`{
			"1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 255}},
			"2": {"class_type": %q, "inputs": {"image": ["1", 0]%s}},
			"3": {"class_type": "SaveImage", "inputs": {"images": [%q, 0], "filename_prefix": "%s/x"}}}`, class, inputs, last, id))}
}

func steps(n int, delay float64) gpu.Task {
	return task("SimSteps", fmt.Sprintf(`"steps": %d, "delay": %g, "preview": true, "seed": %d`, n, delay, time.Now().UnixNano()%1e9))
}

// endless is a task that goes on for longer than any test.
func endless() gpu.Task { return steps(100_000, 0.05) }

// release lets the nodes go on that wait for a file.
func release(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "workers", "sim0", "input", "go"), nil, 0o600))
}

func TestPromptsSucceedWhateverTheSocketDoes(t *testing.T) {
	for _, fault := range []string{"", "ws-drop-after=4", "ws-silent", "ws-duplicate", "ws-late=300ms"} {
		t.Run("fault "+fault, func(t *testing.T) {
			t.Parallel()
			var args []string
			if fault != "" {
				args = []string{"--fault", fault}
			}
			f := up(t, fleetConfig(t.TempDir(), args...))
			a, b := steps(12, 0.05), steps(12, 0.05)
			first := f.execute(a)
			f.begun(first)
			second := f.execute(b)
			out := f.outcome(first)
			require.Empty(t, out.Cause, out.Detail)
			f.picture(out)
			out = f.outcome(second)
			require.Empty(t, out.Cause, out.Detail)
			f.picture(out)
			require.Equal(t, []string{"start " + a.AttemptID, "end " + a.AttemptID, "start " + b.AttemptID, "end " + b.AttemptID}, f.journal())
			if fault == "" {
				require.Equal(t, 3, first.progress.NodesDone)
				require.Positive(t, first.previews)
				require.Equal(t, "SimSteps", out.NodeTimes[1].Class)
				require.Equal(t, 12, out.NodeTimes[1].Steps)
			}
		})
	}
}

func TestWhatANodeDoesToItsWorker(t *testing.T) {
	t.Parallel()
	stall := func(c *gpu.Config) { c.StallAfter = 5 * time.Second }
	for _, c := range []struct {
		class, inputs string
		setup         func(*gpu.Config)
		want          models.Cause
		restarted     bool
	}{
		{class: "SimRaise", inputs: `"kind": "ValueError", "message": "wrong colour"`, want: models.CauseException},
		{class: "SimOOM", want: models.CauseOOM},
		{class: "SimCudaError", want: models.CausePoisoned, restarted: true},
		{class: "SimCrash", inputs: `"kind": "exit"`, want: models.CauseCrashed, restarted: true},
		{class: "SimCrash", inputs: `"kind": "segv"`, want: models.CauseCrashed, restarted: true},
		{class: "SimPoison", want: models.CauseCrashed, restarted: true},
		{class: "SimHang", setup: stall, want: models.CauseStalled, restarted: true},
		{class: "SimZombie", setup: stall, want: models.CauseStalled, restarted: true},
		{class: "NoSuchNode", want: models.CauseRejected},
	} {
		t.Run(c.class+" "+c.inputs, func(t *testing.T) {
			t.Parallel()
			cfg := fleetConfig(t.TempDir())
			if c.setup != nil {
				c.setup(&cfg)
			}
			f := up(t, cfg)
			pid := f.worker().PID
			out := f.outcome(f.execute(task(c.class, c.inputs)))
			require.Equal(t, c.want, out.Cause, out.Detail)
			require.NotEmpty(t, out.Detail)
			require.Equal(t, c.want != models.CauseRejected, out.Started)
			f.succeed()
			require.Equal(t, c.restarted, f.worker().PID != pid)
			if c.restarted {
				require.NotEmpty(t, f.worker().Exits[0].Reason)
			}
		})
	}
}

func TestOutOfMemoryPassesOnAFreedAndOnAFreshWorker(t *testing.T) {
	t.Parallel()
	f := up(t, fleetConfig(t.TempDir()))
	pid := f.worker().PID
	again := task("SimOOM", `"times": 2, "key": "k"`)
	require.Equal(t, models.CauseOOM, f.outcome(f.execute(again)).Cause)
	again.AttemptID, again.FreeFirst = uuid.NewString(), true
	require.Equal(t, models.CauseOOM, f.outcome(f.execute(again)).Cause)
	require.Equal(t, pid, f.worker().PID)
	again.AttemptID, again.FreshProcess = uuid.NewString(), true
	out := f.outcome(f.execute(again))
	require.NotEqual(t, pid, out.PID)
	require.Equal(t, models.CauseOOM, out.Cause, "a fresh process counts anew")
}

func TestAKilledWorkerIsReplacedWithinSeconds(t *testing.T) {
	t.Parallel()
	f := up(t, fleetConfig(t.TempDir()))
	r := f.execute(endless())
	f.begun(r)
	behind := f.execute(steps(3, 0.01))
	require.Eventually(t, func() bool { return f.worker().Staged != "" }, patience, 5*time.Millisecond)
	require.NoError(t, syscall.Kill(f.worker().PID, syscall.SIGKILL))
	out := f.outcome(r)
	require.Equal(t, models.CauseCrashed, out.Cause)
	require.Contains(t, out.Detail, "SIGKILL")
	require.Equal(t, models.CauseTakenBack, f.outcome(behind).Cause)
	f.succeed()
}

func TestCancelInterruptsOrUnqueues(t *testing.T) {
	t.Parallel()
	cfg := fleetConfig(t.TempDir())
	cfg.InterruptLimit = 0 // the default, which a busy machine keeps
	f := up(t, cfg)
	pid := f.worker().PID
	long, staged := endless(), steps(3, 0.01)
	r := f.execute(long)
	f.begun(r)
	behind := f.execute(staged)
	require.Eventually(t, func() bool { return f.worker().Staged == staged.AttemptID }, patience, 5*time.Millisecond)
	f.Stop(staged.AttemptID, models.CauseCanceled)
	require.Equal(t, models.CauseCanceled, f.outcome(behind).Cause)
	f.Stop(long.AttemptID, models.CauseCanceled)
	require.Equal(t, models.CauseCanceled, f.outcome(r).Cause)
	f.succeed()
	require.NotContains(t, f.journal(), "start "+staged.AttemptID)
	require.Equal(t, pid, f.worker().PID)
}

func TestCancelEndsTheProcessThatIgnoresInterrupts(t *testing.T) {
	t.Parallel()
	f := up(t, fleetConfig(t.TempDir()))
	pid := f.worker().PID
	deaf := task("SimSleep", `"seconds": 600, "seed": 1`)
	r := f.execute(deaf)
	require.Eventually(t, func() bool {
		lines, err := f.Log("sim0", 50)
		return err == nil && strings.Contains(strings.Join(lines, "\n"), "SimSleep blocks")
	}, patience, 5*time.Millisecond, "an interrupt before the node begins is obeyed")
	f.Stop(deaf.AttemptID, models.CauseCanceled)
	require.Equal(t, models.CauseCanceled, f.outcome(r).Cause)
	f.succeed()
	require.NotEqual(t, pid, f.worker().PID)
	require.Contains(t, f.worker().Exits[0].Reason, "ignored interrupts for 1s")
}

func TestABrokenHistoryIsReportedAsLostOutputs(t *testing.T) {
	t.Parallel()
	f := up(t, fleetConfig(t.TempDir(), "--fault", "history-500"))
	out := f.outcome(f.execute(steps(3, 0.01)))
	require.Equal(t, models.CauseOutputs, out.Cause, out.Detail)
}

func TestStartsThatGoWrong(t *testing.T) {
	t.Parallel()
	t.Run("an unknown flag is not tried twice", func(t *testing.T) {
		t.Parallel()
		cfg, began := fleetConfig(t.TempDir(), "--no-such-flag"), time.Now()
		cfg.Now = func() time.Time { return began } // however slow the machine is, the engine ends soon after its start
		w := start(t, cfg).await(models.WorkerQuarantined)
		require.Contains(t, w.Reason, "--no-such-flag")
		require.Len(t, w.Exits, 1)
	})
	t.Run("a crash loop ends in quarantine", func(t *testing.T) {
		t.Parallel()
		cfg := fleetConfig(t.TempDir(), "--fault", "exit-at-start=7")
		cfg.Backoff.Ends = 3
		w := start(t, cfg).await(models.WorkerQuarantined)
		require.Contains(t, w.Reason, "exit 7")
		require.Len(t, w.Exits, 3)
	})
	t.Run("a slow start is waited for", func(t *testing.T) {
		t.Parallel()
		f := start(t, fleetConfig(t.TempDir(), "--fault", "slow-start=700ms"))
		f.succeed()
	})
	t.Run("a process that ignores SIGINT is ended all the same", func(t *testing.T) {
		t.Parallel()
		f := up(t, fleetConfig(t.TempDir(), "--fault", "ignore-sigint"))
		pid := f.worker().PID
		f.stop()
		require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)
	})
}

func TestThePromptGoesOnWhileTheServerIsReplaced(t *testing.T) {
	t.Parallel()
	cfg := fleetConfig(t.TempDir())
	cfg.OnShutdown = gpu.ShutdownKeep
	t.Cleanup(func() { endLeftover(t, cfg.DataDir, "sim0") })
	f := up(t, cfg)
	pid := f.worker().PID
	a, b := task("SimWait", ""), steps(3, 0.01)
	first := f.execute(a)
	f.begun(first)
	second := f.execute(b)
	f.reached(second, second.staged, "get to the engine")
	f.stop()
	require.True(t, f.outcome(first).Detached)
	require.True(t, f.outcome(second).Detached)

	cfg.OnShutdown = gpu.ShutdownStop
	f = start(t, cfg)
	a.Resume, a.Started, b.Resume = true, true, true
	first, second = f.execute(a), f.execute(b)
	release(t, cfg.DataDir)
	out := f.outcome(first)
	require.Empty(t, out.Cause, out.Detail)
	require.Equal(t, pid, out.PID)
	f.picture(out)
	require.Empty(t, f.outcome(second).Cause)
	require.Equal(t, []string{"start " + a.AttemptID, "end " + a.AttemptID, "start " + b.AttemptID, "end " + b.AttemptID}, f.journal())
	f.stop()
	require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)
}

// endLeftover ends a worker that a test left behind when it failed half-way.
func endLeftover(t *testing.T, dir, name string) {
	root := filepath.Join(dir, "workers", name)
	require.NoError(t, proc.KillLeftover(context.Background(), proc.Spec{Name: name,
		StateFile: filepath.Join(root, "state.json"), LogFile: filepath.Join(root, "engine.log")}))
}

// doomedServer is a server that runs one prompt and waits to be killed.
func doomedServer(dir, attempt string) int {
	cfg := fleetConfig(dir)
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	m, err := gpu.NewManager(cfg)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go m.Run(context.Background())
	m.Start("sim0")
	for {
		if w, _ := m.Worker("sim0"); w.State == models.WorkerReady {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	r := &run{staged: make(chan struct{}), started: make(chan struct{})}
	go func() {
		<-r.started
		fmt.Println("started")
	}()
	m.Execute(context.Background(), "sim0", doomedTask(attempt), r)
	select {}
}

func doomedTask(attempt string) gpu.Task {
	t := task("SimWait", "")
	t.Graph = json.RawMessage(strings.ReplaceAll(string(t.Graph), t.AttemptID, attempt))
	t.AttemptID = attempt
	return t
}

func TestAKilledServerLosesNoPrompt(t *testing.T) {
	t.Parallel()
	dir, attempt := t.TempDir(), uuid.NewString()
	t.Cleanup(func() { endLeftover(t, dir, "sim0") })
	argv := append(self("server"), dir, attempt)
	server := exec.Command(argv[0], argv[1:]...)
	stdout, err := server.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, server.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "started\n", line)
	require.NoError(t, server.Process.Kill())
	require.Error(t, server.Wait(), "it was killed")

	f := start(t, fleetConfig(dir))
	again := doomedTask(attempt)
	again.Resume, again.Started = true, true
	r := f.execute(again)
	release(t, dir)
	out := f.outcome(r)
	require.Empty(t, out.Cause, out.Detail)
	f.picture(out)
	require.Equal(t, []string{"start " + attempt, "end " + attempt}, f.journal(), "it ran once")
	require.True(t, f.worker().Adopted)
}
