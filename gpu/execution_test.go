package gpu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/gpu/proc"
	"comfyfleet/models"
)

func TestExecuteFollowsAPromptToItsHistory(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		require.Equal(t, models.WorkerReady, r.worker().State)
		r.engine.with(func(e *fakeEngine) {
			e.submitHook = func(string) {
				require.NotNil(t, e.sink, "the socket is there before the prompt is sent")
			}
		})
		f := r.execute(Task{AttemptID: "a", LoaderNodes: []string{"1"}, ModelFiles: []string{"m.safetensors"}})
		require.Equal(t, []string{"staged", "started"}, f.seen())
		w := r.worker()
		require.Equal(t, models.WorkerBusy, w.State)
		require.Equal(t, "a", w.Executing)
		require.Equal(t, "job-a", w.ExecutingJobID)
		r.engine.emit(Event{Kind: EventNode, PromptID: "a", Node: "1"})
		r.pass(time.Second)
		require.Equal(t, models.PhaseLoading, f.phase)
		r.engine.emit(Event{Kind: EventNode, PromptID: "a", Node: "2"})
		r.engine.emit(Event{Kind: EventPreview, Node: "2"})
		r.engine.emit(Event{Kind: EventExecuted, PromptID: "a", Node: "2", Outputs: success.Outputs})
		r.pass(time.Second)
		require.Equal(t, models.PhaseExecuting, f.phase)
		require.Equal(t, success.Outputs, f.made)
		require.Equal(t, "2", f.preview)
		r.engine.finish(success)
		out := r.outcome(f, 0)
		require.Empty(t, out.Cause)
		require.True(t, out.Started)
		require.Equal(t, success.Outputs, out.Outputs)
		require.EqualValues(t, 1000, out.LoadMS)
		require.EqualValues(t, 1000, out.ExecMS)
		require.Equal(t, 101, out.PID)
		require.Equal(t, 4, f.last.NodesDone)
		require.Equal(t, 99, f.last.Percent)
		w = r.worker()
		require.Equal(t, models.WorkerReady, w.State)
		require.Equal(t, 1, w.JobsDone)
		require.Equal(t, "m.safetensors", w.Models[0].File)
		require.NotNil(t, w.IdleSince)
		var kinds []models.SpanKind
		for _, s := range r.m.Spans("sim0", time.Time{}) {
			kinds = append(kinds, s.Kind)
		}
		require.Equal(t, []models.SpanKind{models.SpanIdle, models.SpanLoading, models.SpanSampling, models.SpanIdle}, kinds)
	})
}

func TestASilentSocketDelaysAnEndByTwoSecondsAtMost(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		r.engine.with(func(e *fakeEngine) { e.silent = true })
		f := r.execute(Task{AttemptID: "a"})
		r.pass(3 * time.Second)
		require.Equal(t, []string{"staged", "started"}, f.seen(), "the queue shows that it runs")
		r.pass(30 * time.Second)
		r.engine.finish(success)
		require.Empty(t, r.outcome(f, 2*time.Second).Cause)
	})
}

func TestAPromptThatEndsBeforeAnybodyLooksIsFound(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		r.engine.with(func(e *fakeEngine) { e.silent = true })
		f := r.execute(Task{AttemptID: "a"})
		r.engine.finish(success)
		out := r.outcome(f, 2*time.Second)
		require.Empty(t, out.Cause)
		require.Equal(t, []string{"staged", "started"}, f.seen())
	})
}

func TestSuccessWithoutTheLastEventIsCollectedSoon(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		f := r.execute(Task{AttemptID: "a"})
		r.engine.emit(Event{Kind: EventSuccess, PromptID: "a"})
		r.pass(100 * time.Millisecond)
		require.Empty(t, f.out, "success is said before the history exists")
		r.engine.with(func(e *fakeEngine) { e.silent = true })
		r.engine.finish(success)
		require.Empty(t, r.outcome(f, 600*time.Millisecond).Cause)
	})
}

func TestWhatHistorySaysIsTheEnd(t *testing.T) {
	raise := func(kind, message string) History {
		return History{Exception: &Exception{NodeID: "2", NodeType: "KSampler", Type: kind, Message: message}}
	}
	for name, c := range map[string]struct {
		h    History
		want models.Cause
	}{
		"exception":          {raise("ValueError", "bad\n"), models.CauseException},
		"out of memory":      {raise("torch.OutOfMemoryError", "no room"), models.CauseOOM},
		"out of memory text": {raise("RuntimeError", "CUDA error: out of memory"), models.CauseOOM},
		"poisoned":           {raise("RuntimeError", "CUDA error: an illegal memory access was encountered"), models.CausePoisoned},
		"interrupted":        {History{Interrupted: true}, models.CauseVanished},
		"no reason":          {History{}, models.CauseException},
	} {
		t.Run(name, func(t *testing.T) {
			inRig(t, nil, func(r *rig) {
				f := r.execute(Task{AttemptID: "a"})
				r.engine.finish(c.h)
				out := r.outcome(f, 0)
				require.Equal(t, c.want, out.Cause)
				require.True(t, out.Started)
				require.NotEmpty(t, out.Detail)
				require.Equal(t, c.h.Exception, out.Exception)
				r.pass(3 * time.Second)
				require.Equal(t, models.WorkerReady, r.worker().State)
				if c.want == models.CauseOOM {
					require.Contains(t, r.engine.calls(), "free true")
				}
				restarted := 1
				if c.want == models.CausePoisoned {
					restarted = 2
				}
				require.Equal(t, restarted, r.starter.count())
			})
		})
	}
}

func TestAnExceptionEventAloneIsNoEnd(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		f := r.execute(Task{AttemptID: "a"})
		r.engine.emit(Event{Kind: EventException, PromptID: "a", Exception: &Exception{Type: "ExecutionBlocked"}})
		r.pass(10 * time.Second)
		require.Empty(t, f.out)
		r.engine.finish(success)
		require.Empty(t, r.outcome(f, 0).Cause)
	})
}

func TestARefusedGraphNamesItsNodes(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		r.engine.with(func(e *fakeEngine) {
			e.submitErr = &Rejection{Type: "missing_node_type", Message: "no", NodeErrors: []byte(`{"1":{}}`)}
		})
		out := r.outcome(r.execute(Task{AttemptID: "a"}), 0)
		require.Equal(t, models.CauseRejected, out.Cause)
		require.False(t, out.Started)
		require.JSONEq(t, `{"1":{}}`, string(out.NodeErrors))
		require.Equal(t, models.WorkerReady, r.worker().State)
	})
}

func TestASubmitThatFailedIsLookedUpAndNeverRepeated(t *testing.T) {
	unsure := fmt.Errorf("%w: timeout", ErrUnreachable)
	inRig(t, nil, func(r *rig) {
		r.engine.with(func(e *fakeEngine) { e.submitErr = unsure })
		f := r.execute(Task{AttemptID: "a"})
		r.pass(time.Second)
		require.Equal(t, []string{"staged", "started"}, f.seen(), "it had arrived")
		r.engine.finish(success)
		require.Empty(t, r.outcome(f, 0).Cause)

		r.engine.with(func(e *fakeEngine) { e.loseSubmit = true })
		out := r.outcome(r.execute(Task{AttemptID: "b"}), 5*time.Second)
		require.Equal(t, models.CauseUnreachable, out.Cause)
		require.False(t, out.Started)
		require.Equal(t, []string{"submit a", "run a", "submit b"}, r.engine.calls())
	})
}

func TestAPromptThatIsNowhereHasVanished(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		f := r.execute(Task{AttemptID: "a"})
		r.engine.with(func(e *fakeEngine) { e.running = "" })
		out := r.outcome(f, 3*time.Second)
		require.Equal(t, models.CauseVanished, out.Cause)
		require.True(t, out.Started)
	})
}

func TestAHistoryThatCannotBeReadEndsThePrompt(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		r.engine.with(func(e *fakeEngine) { e.historyErr = brokenHistory{errors.New("500")} })
		f := r.execute(Task{AttemptID: "a"})
		r.pass(10 * time.Second)
		require.Empty(t, f.out, "it still runs")
		r.engine.finish(success)
		require.Equal(t, models.CauseOutputs, r.outcome(f, 5*time.Second).Cause)
	})
}

func TestAPromptWithoutProgressEndsItsWorker(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		f := r.execute(Task{AttemptID: "a"})
		behind := r.execute(Task{AttemptID: "b"})
		r.engine.emit(Event{Kind: EventNode, PromptID: "a", Node: "2"})
		r.pass(9 * time.Minute)
		require.Empty(t, f.out)
		require.Equal(t, 2, r.engine.socketCount(), "a silent socket is opened anew before anything is ended")
		out := r.outcome(f, 2*time.Minute)
		require.Equal(t, models.CauseStalled, out.Cause)
		require.True(t, out.Started)
		require.Contains(t, out.Detail, "node 2 (KSampler)")
		require.Equal(t, models.CauseTakenBack, r.outcome(behind, 0).Cause)
		require.Contains(t, r.starter.notes(), "kill", "what hangs is not asked politely")
		r.pass(3 * time.Second)
		require.Equal(t, models.WorkerReady, r.worker().State)
		require.Equal(t, "job-a", r.worker().Exits[0].JobID)
	})
}

// A suspended host wakes up with an old last event and a prompt that runs: nobody was silent.
func TestTheTimeThatTheHostSleptIsNoSilenceOfTheEngine(t *testing.T) {
	var slept atomic.Int64
	setup := func(_ *rig, c *Config) {
		c.Now = func() time.Time { return time.Now().Add(time.Duration(slept.Load())) }
	}
	inRig(t, setup, func(r *rig) {
		f := r.execute(Task{AttemptID: "a"})
		r.engine.emit(Event{Kind: EventNode, PromptID: "a", Node: "2"})
		r.pass(8 * time.Minute)
		slept.Store(int64(12 * time.Hour))
		r.pass(time.Minute)
		require.Empty(t, f.out, "nine minutes of silence")
		require.Equal(t, models.CauseStalled, r.outcome(f, 2*time.Minute).Cause, "eleven minutes")
	})
}

func TestAPromptThatNobodyClaimsIsClearedAlthoughItsStartWasNotHeard(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		r.engine.with(func(e *fakeEngine) { e.running = "nobody's" })
		f := r.execute(Task{AttemptID: "a"})
		r.pass(time.Minute)
		require.Contains(t, r.engine.calls(), "interrupt nobody's")
		require.Equal(t, []string{"staged", "started"}, f.seen())
		r.engine.finish(success)
		require.Empty(t, r.outcome(f, 0).Cause)
	})
}

func TestAStuckQueueIsAZombie(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		f := r.execute(Task{AttemptID: "a"})
		require.Equal(t, models.CauseZombie, r.outcome(f, 11*time.Minute).Cause)
		r.pass(3 * time.Second)
		r.engine.with(func(e *fakeEngine) { e.dead = true })
		f = r.execute(Task{AttemptID: "b"})
		out := r.outcome(f, 2*time.Minute)
		require.False(t, out.Started, "it never executed")
		require.Equal(t, 2, r.worker().Restarts)
	})
}

func TestACrashCountsForThePromptThatExecuted(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		a, b := r.execute(Task{AttemptID: "a"}), r.execute(Task{AttemptID: "b"})
		require.Equal(t, "b", r.worker().Staged)
		r.starter.last().end(proc.Exit{Code: -1, Signal: "SIGSEGV"})
		out := r.outcome(a, 0)
		require.Equal(t, models.CauseCrashed, out.Cause)
		require.True(t, out.Started)
		require.Contains(t, out.Detail, "SIGSEGV")
		out = r.outcome(b, 0)
		require.Equal(t, models.CauseTakenBack, out.Cause)
		require.False(t, out.Started)
		require.Equal(t, models.WorkerBackoff, r.worker().State)
		r.pass(2 * time.Second)
		require.Equal(t, models.WorkerReady, r.worker().State)
	})
}

func TestACrashBeforeAnyEventCountsForTheFirstPrompt(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		r.engine.with(func(e *fakeEngine) { e.silent = true })
		f := r.execute(Task{AttemptID: "a"})
		require.Equal(t, []string{"staged"}, f.seen())
		r.starter.last().end(proc.Exit{Code: 3})
		out := r.outcome(f, 0)
		require.Equal(t, models.CauseCrashed, out.Cause)
		require.True(t, out.Started, "else a prompt that kills its engine at once would run for ever")
		require.Equal(t, []string{"staged", "started"}, f.seen())
	})
}

func TestCancelRepeatsALostInterrupt(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		f := r.execute(Task{AttemptID: "a"})
		r.engine.with(func(e *fakeEngine) { e.deaf = 3 })
		r.m.Stop("a", models.CauseCanceled)
		require.Equal(t, models.CauseCanceled, r.outcome(f, 3*time.Second).Cause)
		require.Equal(t, 1, r.starter.count())
	})
}

func TestCancelRestartsAnEngineThatDoesNotObey(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		a, b := r.execute(Task{AttemptID: "a"}), r.execute(Task{AttemptID: "b"})
		r.engine.with(func(e *fakeEngine) { e.deaf = -1 })
		r.m.Stop("a", models.CauseCanceled)
		r.pass(9 * time.Second)
		require.Empty(t, a.out, "the worker is busy until the engine is idle of it")
		require.Equal(t, models.CauseCanceled, r.outcome(a, 3*time.Second).Cause)
		require.Equal(t, models.CauseTakenBack, r.outcome(b, 0).Cause)
		r.pass(2 * time.Second)
		require.Equal(t, 2, r.starter.count())
	})
}

func TestAnEngineThatIsSlowToAnswerIsGivenTheTimeToObey(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		f := r.execute(Task{AttemptID: "a"})
		r.engine.with(func(e *fakeEngine) { e.slow = 6 * time.Second })
		r.m.Stop("a", models.CauseCanceled) // the look and the interrupt take longer than the limit
		require.Equal(t, models.CauseCanceled, r.outcome(f, time.Minute).Cause)
		require.Equal(t, 1, r.starter.count())
		require.NotContains(t, r.starter.notes(), "kill")
	})
}

// chatter has the engine send an event about a prompt every 50 ms, as samplers do, until silence is called.
func (r *rig) chatter(id string) (silence func()) {
	quiet, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				r.engine.emit(Event{Kind: EventSteps, PromptID: id, Node: "3", Value: 1, Max: 100})
			case <-quiet:
				return
			}
		}
	}()
	return func() { close(quiet); <-done }
}

func TestAPromptThatGoesOnTalkingIsStoppedAsWell(t *testing.T) {
	t.Run("cancelled", func(t *testing.T) {
		inRig(t, nil, func(r *rig) {
			f := r.execute(Task{AttemptID: "a"})
			defer r.chatter("a")()
			r.engine.with(func(e *fakeEngine) { e.deaf = 3 })
			r.m.Stop("a", models.CauseCanceled)
			require.Equal(t, models.CauseCanceled, r.outcome(f, 3*time.Second).Cause)
		})
	})
	t.Run("when the server stops", func(t *testing.T) {
		inRig(t, nil, func(r *rig) {
			f := r.execute(Task{AttemptID: "a"})
			defer r.chatter("a")()
			r.stop()
			r.pass(9 * time.Second)
			require.Empty(t, f.out, "it has the grace")
			require.Equal(t, models.CauseServerStop, r.outcome(f, 2*time.Second).Cause)
			require.Contains(t, r.engine.calls(), "interrupt a")
		})
	})
}

func TestACancelledStagedPromptNeverRuns(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		a, b := r.execute(Task{AttemptID: "a"}), r.execute(Task{AttemptID: "b"})
		r.m.Stop("b", models.CauseCanceled)
		out := r.outcome(b, time.Second)
		require.Equal(t, models.CauseCanceled, out.Cause)
		require.False(t, out.Started)
		r.engine.finish(success)
		require.Empty(t, r.outcome(a, 0).Cause)
		require.NotContains(t, r.engine.calls(), "run b")
	})
}

func TestOnlyAPromptThatHasNotBegunIsTakenBack(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		a, b := r.execute(Task{AttemptID: "a"}), r.execute(Task{AttemptID: "b"})
		r.m.Stop("a", models.CauseTakenBack)
		r.m.Stop("b", models.CauseTakenBack)
		require.Equal(t, models.CauseTakenBack, r.outcome(b, time.Second).Cause)
		r.pass(5 * time.Second)
		require.Empty(t, a.out)
		r.engine.finish(success)
		require.Empty(t, r.outcome(a, 0).Cause)
	})
}

func TestATakeBackThatCameTooLateLetsThePromptFinish(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		r.engine.with(func(e *fakeEngine) { e.silent = true })
		f := r.execute(Task{AttemptID: "a"})
		r.m.Stop("a", models.CauseTakenBack) // it runs, and nobody has said so
		r.pass(5 * time.Second)
		require.NotContains(t, r.engine.calls(), "interrupt a")
		r.engine.finish(success)
		require.Empty(t, r.outcome(f, 2*time.Second).Cause)
	})
}

func TestADeadlineInterruptsOrUnqueues(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		soon := time.Now().Add(5 * time.Second)
		a, b := r.execute(Task{AttemptID: "a", DeadlineAt: &soon}), r.execute(Task{AttemptID: "b", DeadlineAt: &soon})
		r.pass(4 * time.Second)
		require.Empty(t, a.out)
		out := r.outcome(a, 2*time.Second)
		require.Equal(t, models.CauseDeadline, out.Cause)
		require.True(t, out.Started)
		require.Equal(t, models.CauseDeadline, r.outcome(b, time.Second).Cause)
	})
}

func TestAFencedPromptIsNotSentAndAFencedStartIsInterrupted(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		out := r.outcome(r.execute(Task{AttemptID: "a", Fence: func(context.Context) error { return models.ErrFenced }}), 0)
		require.Equal(t, models.CauseCanceled, out.Cause)
		require.Empty(t, r.engine.calls())

		f := &flight{out: make(chan Outcome, 1), err: models.ErrFenced}
		go func() { f.out <- r.m.Execute(r.ctx, "sim0", Task{AttemptID: "b", JobID: "j", Nodes: graphNodes}, f) }()
		require.Equal(t, models.CauseCanceled, r.outcome(f, 2*time.Second).Cause)
		require.Contains(t, r.engine.calls(), "interrupt b")
	})
}

func TestInputFilesAreThereBeforeThePromptAndGoneAfterIt(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		w := r.m.byName["sim0"]
		file := filepath.Join(w.dirs.input, "job", "0.png")
		r.engine.with(func(e *fakeEngine) { e.submitHook = func(string) { require.FileExists(t, file) } })
		f := r.execute(Task{AttemptID: "a", JobID: "job", Media: []Media{{File: "0.png", Open: pixels}}})
		made := filepath.Join(w.dirs.output, "a")
		require.NoError(t, os.MkdirAll(made, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(made, "x.png"), []byte("out"), 0o600))
		r.engine.finish(success)
		require.Empty(t, r.outcome(f, 0).Cause)
		body, size, err := r.m.OpenOutput(r.ctx, "sim0", FileRef{Filename: "x.png", Subfolder: "a", Type: "output"})
		require.NoError(t, err)
		require.EqualValues(t, 3, size)
		require.NoError(t, body.Close())
		ref := FileRef{Filename: "x.png", Subfolder: "a", Type: "output"}
		stamp := r.m.OutputStamp("sim0", ref)
		require.NotEmpty(t, stamp)
		require.Equal(t, stamp, r.m.OutputStamp("sim0", ref))
		require.NoError(t, os.WriteFile(filepath.Join(made, "x.png"), []byte("out again"), 0o600))
		require.NotEqual(t, stamp, r.m.OutputStamp("sim0", ref))
		require.Empty(t, r.m.OutputStamp("sim0", FileRef{Filename: "y.png", Subfolder: "a", Type: "output"}))
		r.m.Forget(r.ctx, "sim0", "a", "job")
		require.NoDirExists(t, made)
		require.NoDirExists(t, filepath.Dir(file))
		require.Contains(t, r.engine.calls(), "forget a")
	})
}

func TestAStorageFailureIsOursAndNotTheTenants(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		open := func(context.Context) (io.ReadCloser, error) { return nil, errors.New("gone") }
		out := r.outcome(r.execute(Task{AttemptID: "a", Media: []Media{{File: "0.png", Open: open}}}), 0)
		require.Equal(t, models.CauseInternal, out.Cause)
		require.Empty(t, r.engine.calls())
	})
}

func TestOutputsOutsideTheWorkersDirectoryAreRefused(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		w := r.m.byName["sim0"]
		secret := filepath.Join(w.dirs.root, "secret")
		require.NoError(t, os.WriteFile(secret, []byte("s"), 0o600))
		require.NoError(t, os.Symlink(secret, filepath.Join(w.dirs.output, "link")))
		for _, f := range []FileRef{
			{Filename: "secret", Subfolder: ".."}, {Filename: "../secret"}, {Filename: "link"},
			{Filename: "passwd", Subfolder: "/etc"}, {Filename: "x", Type: "models"}, {Filename: ""},
		} {
			_, _, err := openBeneath(w.dirs.of(f.Type), f)
			require.Error(t, err, "%+v", f)
		}
		for _, name := range []string{"", ".", "..", "../output", "a/b"} {
			require.Error(t, removeBeneath(w.dirs.output, name), name)
		}
		require.FileExists(t, secret)
	})
}

func TestAFreshProcessIsStartedOnlyWhenTheOldOneWasUsed(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		f := r.execute(Task{AttemptID: "a", FreshProcess: true})
		require.Equal(t, 1, r.starter.count())
		r.engine.finish(success)
		r.outcome(f, 0)
		f = r.execute(Task{AttemptID: "b", FreshProcess: true})
		r.pass(time.Second)
		require.Equal(t, 2, r.starter.count())
		require.Equal(t, []string{"staged", "started"}, f.seen())
		r.engine.finish(success)
		require.Empty(t, r.outcome(f, 0).Cause)
		require.Zero(t, r.worker().Restarts, "it was asked for")

		f = r.execute(Task{AttemptID: "c", FreeFirst: true})
		require.Equal(t, []string{"free true", "submit c", "run c"}, r.engine.calls()[len(r.engine.calls())-3:])
		r.engine.finish(success)
		r.outcome(f, 0)
	})
}

func pixels(context.Context) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader("pixels")), nil
}
