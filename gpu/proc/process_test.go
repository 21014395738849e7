package proc

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestStopAsksThenTheExitIsKnown(t *testing.T) {
	both(t, func(t *testing.T, shim bool) {
		s := spec(t, shim, "print=up", "wait")
		p := mustStart(t, s)
		awaitLog(t, s, "up")
		require.Positive(t, p.RSS())
		require.Equal(t, Exit{}, p.Exit(), "it still runs")

		e, err := p.Stop(t.Context())
		require.NoError(t, err)
		require.Equal(t, 0, e.Code)
		require.Empty(t, e.Signal)
		require.True(t, e.Seen)
		require.WithinDuration(t, time.Now(), e.At, time.Minute)
		require.Zero(t, p.RSS())
		awaitLog(t, s, "Stopped server")

		again, err := p.Stop(t.Context())
		require.NoError(t, err, "stopping what has ended is no error")
		require.Equal(t, e, again)
	})
}

func TestAnExitCodeIsReported(t *testing.T) {
	both(t, func(t *testing.T, shim bool) {
		p := mustStart(t, spec(t, shim, "exit=3"))
		e := awaitDone(t, p)
		require.Equal(t, 3, e.Code)
		require.True(t, e.Seen)
	})
}

func TestWhoeverIgnoresTheStopSignalIsKilledWithEverythingItStarted(t *testing.T) {
	both(t, func(t *testing.T, shim bool) {
		file := filepath.Join(t.TempDir(), "child")
		s := spec(t, shim, "stubborn", "child="+file, "print=up", "wait")
		s.StopGrace = 100 * time.Millisecond
		p := mustStart(t, s)
		awaitLog(t, s, "up")
		child := readPID(t, file)
		awaitLog(t, s, "child is up")

		e, err := p.Stop(t.Context())
		require.NoError(t, err)
		require.Equal(t, "SIGKILL", e.Signal)
		require.Equal(t, -1, e.Code)
		gone(t, p.PID())
		gone(t, child)
	})
}

func TestAnEndedContextDoesNotWaitForTheGrace(t *testing.T) {
	s := spec(t, true, "stubborn", "print=up", "wait")
	s.StopGrace = time.Hour
	p := mustStart(t, s)
	awaitLog(t, s, "up")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e, err := p.Stop(ctx)
	require.NoError(t, err)
	require.Equal(t, "SIGKILL", e.Signal)
}

func TestWhatACrashedWorkerLeftBehindIsEnded(t *testing.T) {
	both(t, func(t *testing.T, shim bool) {
		file := filepath.Join(t.TempDir(), "child")
		s := spec(t, shim, "child="+file, "await="+file, "exit=5")
		p := mustStart(t, s)
		child := readPID(t, file)
		e := awaitDone(t, p)
		require.Equal(t, 5, e.Code)
		if entry, err := readEntry(child); err == nil {
			require.True(t, entry.dead(), "Done came before the child of the worker was gone")
		}
	})
}

func TestAWorkerSeesNothingOfOurEnvironment(t *testing.T) {
	t.Setenv("COMFYFLEET_DATABASE_URL", "sqlite:secret")
	t.Setenv("NVIDIA_API_KEY", "secret")
	t.Setenv("NVIDIA_VISIBLE_DEVICES", "0")
	for _, kv := range BaseEnv() {
		require.NotContains(t, kv, "secret")
	}
	require.Contains(t, BaseEnv(), "NVIDIA_VISIBLE_DEVICES=0")

	both(t, func(t *testing.T, shim bool) {
		s := spec(t, shim, "print=up", "wait")
		s.Env = nil // forgotten by the caller
		p := mustStart(t, s)
		awaitLog(t, s, "up")
		raw, err := os.ReadFile(filepath.Join("/proc", itoa(p.PID()), "environ"))
		require.NoError(t, err)
		require.Empty(t, string(raw))
		if p.shim != nil {
			raw, err = os.ReadFile(filepath.Join("/proc", itoa(p.shim.id.PID), "environ"))
			require.NoError(t, err)
			require.NotContains(t, string(raw), "secret")
		}
	})
}

func TestASecondStartOnTheSameStateFileIsRefused(t *testing.T) {
	both(t, func(t *testing.T, shim bool) {
		s := spec(t, shim, "print=up", "wait")
		p := mustStart(t, s)
		_, err := Start(t.Context(), s)
		require.ErrorIs(t, err, ErrRunning)
		awaitLog(t, s, "up") // from here on it hears a stop, also where SIGINT is ignored
		_, err = p.Stop(t.Context())
		require.NoError(t, err)
		s.LogFile += ".second"
		q := mustStart(t, s)
		require.NotEqual(t, p.PID(), q.PID())
		awaitLog(t, s, "up")
	})
}

func TestACommandThatCannotRunIsAnErrorAndLeavesNothing(t *testing.T) {
	both(t, func(t *testing.T, shim bool) {
		s := spec(t, shim)
		s.Argv = []string{filepath.Join(s.Dir, "no-such-program")}
		_, err := Start(t.Context(), s)
		require.ErrorContains(t, err, "no such file")
		require.ErrorContains(t, err, "start gpu0")
		require.NoFileExists(t, s.StateFile)
	})
	t.Run("wrong shim", func(t *testing.T) {
		s := spec(t, true)
		s.Shim = []string{"/bin/true"}
		_, err := Start(t.Context(), s)
		require.ErrorContains(t, err, "without a word")
	})
	t.Run("incomplete", func(t *testing.T) {
		_, err := Start(t.Context(), Spec{Name: "gpu0"})
		require.ErrorContains(t, err, "no command")
	})
}

func TestAHungShimIsGivenUpWithTheContext(t *testing.T) {
	s := spec(t, true)
	s.Shim = []string{os.Args[0], "worker", "print=up", "wait"}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	given := make(chan error, 1)
	go func() {
		_, err := Start(ctx, s)
		given <- err
	}()
	awaitLog(t, s, "up")
	cancel()
	require.ErrorIs(t, <-given, context.Canceled)
}

func TestTheStateFileIsPrivateAndHoldsNoEnvironment(t *testing.T) {
	both(t, func(t *testing.T, shim bool) {
		s := spec(t, shim, "print=up", "wait")
		s.Env = append(BaseEnv(), quick, "MARK=not-to-be-written")
		mustStart(t, s)
		awaitLog(t, s, "up")
		info, err := os.Stat(s.StateFile)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
		raw, err := os.ReadFile(s.StateFile)
		require.NoError(t, err)
		require.NotContains(t, string(raw), "not-to-be-written")
		require.Contains(t, string(raw), `"client":"c1"`)
	})
}

func TestTheShimForwardsSignals(t *testing.T) {
	s := spec(t, true, "print=up", "wait")
	p := mustStart(t, s)
	awaitLog(t, s, "up")
	require.NoError(t, syscall.Kill(p.shim.id.PID, syscall.SIGHUP), "a hang-up means nothing to it")
	require.NoError(t, syscall.Kill(p.shim.id.PID, syscall.SIGINT))
	e := awaitDone(t, p)
	require.Equal(t, Exit{Code: 0, At: e.At, Seen: true}, e)
	awaitLog(t, s, "Stopped server")
}

func TestAWorkerSurvivesItsShim(t *testing.T) {
	s := spec(t, true, "print=up", "wait")
	p := mustStart(t, s)
	awaitLog(t, s, "up")
	require.NoError(t, syscall.Kill(p.shim.id.PID, syscall.SIGKILL))
	require.NoError(t, p.shim.wait(patience))
	require.Positive(t, p.RSS(), "the worker lives on")
	_, err := Start(t.Context(), s)
	require.ErrorIs(t, err, ErrRunning)

	e, err := p.Stop(t.Context())
	require.NoError(t, err)
	require.False(t, e.Seen, "nobody was there to learn its status")
	require.Equal(t, -1, e.Code)
}

func TestTheLogIsRotatedUnderTheWorker(t *testing.T) {
	both(t, func(t *testing.T, shim bool) {
		dir := t.TempDir()
		flooded, more := filepath.Join(dir, "flooded"), filepath.Join(dir, "more")
		s := spec(t, shim, "flood=4000", "mark="+flooded, "await="+more, "print=still here", "wait")
		s.LogLimit, s.LogKeep, s.LogEvery = 4000, 2, 10*time.Millisecond
		p := mustStart(t, s)
		if shim {
			p.Detach() // the shim does it without us
		}
		require.Eventually(t, func() bool {
			_, err := os.Stat(flooded)
			return err == nil && LogSize(s.LogFile+".1") > 0 && LogSize(s.LogFile) <= s.LogLimit
		}, patience, 5*time.Millisecond)
		before := LogSize(s.LogFile)
		require.NoError(t, os.WriteFile(more, nil, 0o600))
		awaitLog(t, s, "still here")
		// A writer that had kept its place would have left a hole as long as the flood.
		require.Less(t, LogSize(s.LogFile), before+1000, "the worker went on at the new end of the log")
	})
}

func TestOnlyTheNewestOldLogsAreKept(t *testing.T) {
	file := logFile(t, "")
	r := rotation{path: file, limit: 10, keep: 2}
	for _, text := range []string{"first, and long enough", "second, long enough too", "third, long enough", "short"} {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		r.apply()
	}
	files, err := filepath.Glob(file + "*")
	require.NoError(t, err)
	require.Equal(t, []string{file, file + ".1", file + ".2"}, files)
	lines, err := Tail(file, 2)
	require.NoError(t, err)
	require.Equal(t, []string{"third, long enough", "short"}, lines)
}

func TestNothingStaysOpenAfterTheEnd(t *testing.T) {
	both(t, func(t *testing.T, shim bool) {
		open := func() int {
			names, err := os.ReadDir("/proc/self/fd")
			require.NoError(t, err)
			return len(names)
		}
		awaitDone(t, mustStart(t, spec(t, shim, "exit=0"))) // what the runtime keeps for itself is open from now on
		before := open()
		for range 3 {
			s := spec(t, shim, "exit=0")
			p := mustStart(t, s)
			awaitDone(t, p)
			p.Detach()
		}
		require.Eventually(t, func() bool { return open() <= before }, patience, 5*time.Millisecond)
	})
}

// A shell that starts a server in the background makes it ignore SIGINT, and children inherit that.
func TestAWorkerHearsSIGINTAlthoughTheServerIgnoresIt(t *testing.T) {
	s := spec(t, true)
	s.Argv = []string{"/bin/sleep", "300"}
	s.Shim = append([]string{"/bin/sh", "-c", `trap "" INT; exec "$0" "$@"`}, testShim()...)
	p := mustStart(t, s)
	e, err := p.Stop(t.Context())
	require.NoError(t, err)
	require.Equal(t, "SIGINT", e.Signal)
}
