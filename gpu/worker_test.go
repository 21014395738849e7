package gpu

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/gpu/proc"
	"comfyfleet/models"
)

// memoryRecords are Records in memory.
type memoryRecords struct {
	mu   sync.Mutex
	byID map[string]models.WorkerRecord
}

func (m *memoryRecords) Load(context.Context) (out []models.WorkerRecord, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.byID {
		out = append(out, r)
	}
	return out, nil
}

func (m *memoryRecords) Save(_ context.Context, r models.WorkerRecord) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.NodeDefs == nil {
		r.NodeDefs, r.NodeDefsAt = m.byID[r.Name].NodeDefs, m.byID[r.Name].NodeDefsAt
	}
	m.byID[r.Name] = r
	return nil
}

func (m *memoryRecords) of(name string) models.WorkerRecord {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.byID[name]
}

func TestAWorkerStartsOnDemandAndStopsWhenReleased(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		require.Equal(t, models.WorkerReady, r.worker().State)
		require.Equal(t, "http://127.0.0.1:4242", r.worker().URL)
		r.m.Release("sim0")
		r.settle()
		w := r.worker()
		require.Equal(t, models.WorkerStopped, w.State)
		require.Zero(t, w.PID)
		require.Equal(t, "idle", w.Exits[0].Reason)
		r.m.Start("sim0")
		r.settle()
		require.Equal(t, models.WorkerReady, r.worker().State)
		require.Zero(t, r.worker().Restarts)

		f := r.execute(Task{AttemptID: "a"})
		r.m.Release("sim0")
		r.settle()
		require.Equal(t, models.WorkerBusy, r.worker().State, "a release never costs a prompt")
		r.engine.finish(success)
		require.Empty(t, r.outcome(f, 0).Cause)
		require.Equal(t, models.WorkerReady, r.worker().State)
	})
}

func TestWorkersShareNoDirectoryAndSeeNoSecret(t *testing.T) {
	t.Setenv("CUDA_VISIBLE_DEVICES", "7")
	t.Setenv("COMFYFLEET_DATABASE_URL", "secret")
	inRig(t, func(r *rig, c *Config) {
		c.Workers = []Spec{managed(1), managed(0)}
		c.ComfyUI = ComfyUI{Dir: "/opt/comfy", Args: []string{"--lowvram"}, ModelsDir: "/models"}
		c.Cards = fakeCards{}
	}, func(r *rig) {
		spec := r.starter.specs[0]
		require.Equal(t, []string{"python3", "/opt/comfy/main.py"}, spec.Argv[:2])
		require.Equal(t, []string{"--lowvram", "--port", "4242"}, spec.Argv[len(spec.Argv)-3:])
		require.Equal(t, "/opt/comfy", spec.Dir)
		require.Contains(t, spec.Env, "CUDA_VISIBLE_DEVICES=GPU-one")
		require.NotContains(t, spec.Env, "CUDA_VISIBLE_DEVICES=7")
		require.NotContains(t, spec.Env, "COMFYFLEET_DATABASE_URL=secret")
		yaml, err := os.ReadFile(filepath.Join(r.m.byName["gpu1"].dirs.root, "models.yaml"))
		require.NoError(t, err)
		require.Contains(t, string(yaml), `base_path: "/models"`)
		require.Equal(t, "GPU-one", r.m.Workers()[0].Card.UUID)
		r.pass(3 * time.Second)
		require.Equal(t, 42, r.m.Workers()[0].Telemetry.Temperature)
		require.Len(t, r.m.Telemetry("gpu1", time.Time{}), 4)
		require.Empty(t, r.m.Telemetry("sim7", time.Time{}))
		for _, a := range spec.Argv {
			require.NotContains(t, a, "gpu0")
		}
	})
}

type fakeCards struct{}

func (fakeCards) Cards() ([]models.Card, error) {
	return []models.Card{{Index: 0, UUID: "GPU-zero"}, {Index: 1, UUID: "GPU-one"}}, nil
}

func (fakeCards) Read(string) (models.Telemetry, error) {
	return models.Telemetry{At: time.Now(), Temperature: 42}, nil
}

func TestACrashLoopEndsInQuarantineUntilAnOperatorActs(t *testing.T) {
	records := &memoryRecords{byID: map[string]models.WorkerRecord{}}
	inRig(t, func(r *rig, c *Config) {
		c.Records = records
		r.starter.onStart = func(n int, ch *fakeChild) {
			if n <= 5 {
				ch.end(proc.Exit{Code: 1})
			}
		}
		r.engine.down = true
	}, func(r *rig) {
		require.Equal(t, models.WorkerBackoff, r.worker().State)
		require.NotNil(t, r.worker().NextStartAt)
		r.pass(time.Minute)
		w := r.worker()
		require.Equal(t, models.WorkerQuarantined, w.State)
		require.Contains(t, w.Reason, "ended 5 times")
		require.Equal(t, 5, r.starter.count(), "1+2+4+8 s of backoff fit into a minute")
		require.NotEmpty(t, records.of("sim0").Quarantine)
		r.pass(time.Hour)
		require.Equal(t, 5, r.starter.count())
		r.engine.with(func(e *fakeEngine) { e.down = false })
		require.NoError(t, r.m.ClearQuarantine(r.ctx, "sim0"))
		r.settle()
		require.Equal(t, models.WorkerReady, r.worker().State)
		require.Empty(t, records.of("sim0").Quarantine)
	})
}

func TestAFlagThatTheEngineRefusesIsNotTriedAgain(t *testing.T) {
	inRig(t, func(r *rig, c *Config) {
		r.engine.down = true
		r.starter.onStart = func(_ int, ch *fakeChild) {
			spec := r.starter.specs[0]
			if err := os.WriteFile(spec.LogFile, []byte("usage: main.py\nerror: unrecognized arguments: --nope\n"), 0o600); err != nil {
				t.Error(err)
			}
			ch.end(proc.Exit{Code: 2})
		}
	}, func(r *rig) {
		require.Equal(t, models.WorkerQuarantined, r.worker().State)
		require.Contains(t, r.worker().Reason, "unrecognized arguments: --nope")
		require.Equal(t, 1, r.starter.count())
		lines, err := r.m.Log("sim0", 10)
		require.NoError(t, err)
		require.Len(t, lines, 2)
	})
}

func TestAStartMayTakeLongWhileItsLogMoves(t *testing.T) {
	inRig(t, func(r *rig, c *Config) { r.engine.down = true }, func(r *rig) {
		log := r.m.byName["sim0"].dirs.logFile()
		for range 6 {
			r.pass(time.Minute)
			f, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
			require.NoError(t, err)
			_, err = f.WriteString("import node\n")
			require.NoError(t, err)
			require.NoError(t, f.Close())
		}
		require.Equal(t, models.WorkerStarting, r.worker().State)
		r.pass(2*time.Minute + 2*time.Second)
		require.Contains(t, r.worker().Exits[0].Reason, "did not answer within 2m0s")
		require.Contains(t, r.starter.notes(), "kill")
	})
}

func TestAnEngineIsEndedOnlyAfterSeveralMissedProbes(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		f := r.execute(Task{AttemptID: "a"})
		r.engine.with(func(e *fakeEngine) { e.down = true })
		r.pass(14 * time.Second)
		r.engine.with(func(e *fakeEngine) { e.down = false })
		r.pass(5 * time.Second)
		require.Equal(t, 1, r.starter.count())
		r.engine.with(func(e *fakeEngine) { e.down = true })
		for range 30 {
			r.engine.emit(Event{Kind: EventSteps, PromptID: "a", Node: "2", Value: 1, Max: 9})
			r.pass(time.Second)
		}
		require.Equal(t, 1, r.starter.count(), "it works, and has no time to answer")
		out := r.outcome(f, 30*time.Second)
		require.Equal(t, models.CauseUnreachable, out.Cause)
		require.True(t, out.Started)
	})
}

func TestDrainFinishesWhatExecutesAndGivesTheRestBack(t *testing.T) {
	records := &memoryRecords{byID: map[string]models.WorkerRecord{}}
	inRig(t, func(_ *rig, c *Config) { c.Records = records }, func(r *rig) {
		a, b := r.execute(Task{AttemptID: "a"}), r.execute(Task{AttemptID: "b"})
		require.NoError(t, r.m.Drain(r.ctx, "sim0"))
		require.Equal(t, models.WorkerDraining, r.worker().State)
		require.True(t, records.of("sim0").Draining)
		require.Equal(t, models.CauseTakenBack, r.outcome(b, time.Second).Cause)
		require.Equal(t, models.CauseTakenBack, r.outcome(r.execute(Task{AttemptID: "c"}), 0).Cause)
		r.engine.finish(success)
		require.Empty(t, r.outcome(a, 0).Cause)
		require.Equal(t, models.WorkerDraining, r.worker().State, "until resumed")
		require.NoError(t, r.m.Resume(r.ctx, "sim0"))
		r.settle()
		require.Equal(t, models.WorkerReady, r.worker().State)
		require.Equal(t, json.RawMessage(`{"A":{}}`), json.RawMessage(records.of("sim0").NodeDefs), "a wish keeps the node definitions")
		raw, version := r.m.NodeDefs()
		require.JSONEq(t, `{"A":{}}`, string(raw))
		require.NotEmpty(t, version)
	})
}

func TestDisableStopsTheEngineWhenItIsIdle(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		f := r.execute(Task{AttemptID: "a"})
		require.NoError(t, r.m.Disable(r.ctx, "sim0"))
		r.settle()
		require.Equal(t, models.WorkerDraining, r.worker().State)
		r.engine.finish(success)
		require.Empty(t, r.outcome(f, 0).Cause)
		r.settle()
		require.Equal(t, models.WorkerDisabled, r.worker().State)
		r.m.Start("sim0")
		r.settle()
		require.Equal(t, models.WorkerDisabled, r.worker().State)
		require.NoError(t, r.m.Enable(r.ctx, "sim0"))
		r.settle()
		require.Equal(t, models.WorkerReady, r.worker().State)
	})
}

func TestWishesOutliveTheServer(t *testing.T) {
	records := &memoryRecords{byID: map[string]models.WorkerRecord{"sim0": {Name: "sim0", Quarantine: "crash loop"}}}
	inRig(t, func(_ *rig, c *Config) { c.Records = records }, func(r *rig) {
		require.Equal(t, models.WorkerQuarantined, r.worker().State)
		require.Equal(t, "crash loop", r.worker().Reason)
	})
}

func TestRestartByAnOperatorStartsAtOnce(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		f := r.execute(Task{AttemptID: "a"})
		require.NoError(t, r.m.Restart(r.ctx, "sim0"))
		out := r.outcome(f, 0)
		require.Equal(t, models.CauseCrashed, out.Cause)
		require.True(t, out.Started)
		r.settle()
		require.Equal(t, models.WorkerReady, r.worker().State)
		require.Equal(t, 2, r.starter.count())
		require.NoError(t, r.m.Free(r.ctx, "sim0"))
		require.Contains(t, r.engine.calls(), "free true")
		require.ErrorContains(t, r.m.Restart(r.ctx, "gpu9"), "no such worker")
	})
}

func TestAWornProcessIsReplacedBetweenPrompts(t *testing.T) {
	inRig(t, func(_ *rig, c *Config) { c.RecycleJobs, c.RecycleRSS = 2, 100 }, func(r *rig) {
		for _, id := range []string{"a", "b"} {
			f := r.execute(Task{AttemptID: id})
			r.engine.finish(success)
			require.Empty(t, r.outcome(f, 0).Cause)
		}
		r.settle()
		require.Equal(t, 2, r.starter.count())
		require.Equal(t, "restarts after so many jobs", r.worker().Exits[0].Reason)
		r.starter.last().rss = 200
		f := r.execute(Task{AttemptID: "c"})
		r.pass(6 * time.Second)
		r.engine.finish(success)
		require.Empty(t, r.outcome(f, 0).Cause)
		r.settle()
		require.Equal(t, 3, r.starter.count())
	})
}

func TestIdleModelsAreUnloadedOnce(t *testing.T) {
	inRig(t, func(_ *rig, c *Config) { c.FreeAfter = 20 * time.Second }, func(r *rig) {
		r.pass(time.Minute)
		require.Equal(t, []string{"free false"}, r.engine.calls())
	})
}

func TestStopLetsPromptsFinishAndThenInterrupts(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		a, b := r.execute(Task{AttemptID: "a"}), r.execute(Task{AttemptID: "b"})
		r.stop()
		require.Equal(t, models.CauseTakenBack, r.outcome(b, time.Second).Cause)
		r.pass(8 * time.Second)
		require.Empty(t, a.out)
		out := r.outcome(a, 5*time.Second)
		require.Equal(t, models.CauseServerStop, out.Cause)
		require.True(t, out.Started)
		require.Contains(t, r.engine.calls(), "interrupt a")
		require.NoError(t, <-r.ended)
		r.ended <- nil
		require.Equal(t, []string{"stop"}, r.starter.notes())
	})
}

func TestStopWaitsForAPromptThatFinishesInTime(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		f := r.execute(Task{AttemptID: "a"})
		r.stop()
		r.pass(3 * time.Second)
		r.engine.finish(success)
		require.Empty(t, r.outcome(f, 0).Cause)
	})
}

func TestKeepLeavesEngineAndPromptToTheNextServer(t *testing.T) {
	inRig(t, func(_ *rig, c *Config) { c.OnShutdown = ShutdownKeep }, func(r *rig) {
		a, b := r.execute(Task{AttemptID: "a"}), r.execute(Task{AttemptID: "b"})
		r.stop()
		require.True(t, r.outcome(a, 0).Detached)
		require.True(t, r.outcome(b, 0).Detached)
		require.NoError(t, <-r.ended)
		r.ended <- nil
		require.Equal(t, []string{"detach"}, r.starter.notes())
	})
}

func TestChangesWakesOncePerSnapshot(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		wake, cancel := r.m.Changes()
		r.pass(time.Minute)
		require.Empty(t, wake, "probes that bring nothing new wake nobody")
		f := r.execute(Task{AttemptID: "a"})
		require.Len(t, wake, 1)
		<-wake
		r.engine.finish(success)
		r.outcome(f, 0)
		require.Len(t, wake, 1)
		<-wake
		cancel()
		require.NoError(t, r.m.Drain(r.ctx, "sim0"))
		require.Empty(t, wake)
	})
}

func TestNewManagerNamesEveryProblem(t *testing.T) {
	_, err := NewManager(Config{OnShutdown: "hover", Workers: []Spec{managed(0), managed(0), {Name: "sim0", Kind: models.WorkerSimulated}}})
	for _, want := range []string{"no data directory", "no engine client", `"hover"`, "two workers are called gpu0", "no ComfyUI directory", "no simulator command"} {
		require.ErrorContains(t, err, want)
	}
}
