package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

// TestALongJobGoesOnWhileTheServerIsReplaced replaces the server four times under one job, in an orderly way and by
// kill -9, in the end by a program at another path, as an upgrade does: the prompt stays the same one, its progress goes
// on from what was shown last, and the engine ran it once.
func TestALongJobGoesOnWhileTheServerIsReplaced(t *testing.T) {
	s := startServer(t, quick, "COMFYFLEET_ON_SHUTDOWN=keep")
	id := s.submit(steps(900, 0.02, 1)) // 18 s in the node that is a third of the graph
	on := func(percent int) jobStatus {
		return s.until(id, "further on", patience, func(j jobStatus) bool { return j.Status == "running" && j.Progress >= percent })
	}
	first := on(35)
	engine := s.busy(1)[0].PID
	next := func(least int) (percent int) {
		t.Helper()
		require.NotEmpty(t, s.processes(), "the engine goes on")
		s.start()
		after := s.job(id)
		require.Equal(t, "running", after.Status)
		require.Equal(t, first.PromptID, after.PromptID)
		require.GreaterOrEqual(t, after.Progress, least)
		s.eventually(func() bool {
			return slices.ContainsFunc(s.workers(), func(w models.Worker) bool { return w.Adopted && w.PID == engine })
		}, "engine %d is adopted", engine)
		return on(max(least, after.Progress) + 1).Progress
	}
	s.stop()
	earlier := next(first.Progress)
	for range 2 {
		shown := on(earlier + 2).Progress
		s.kill() // at once: what was shown a moment ago must not be taken back
		earlier = next(shown)
	}
	s.stop()
	s.moveBinary()
	next(earlier)
	job := s.completed(id)
	require.Equal(t, 1, job.Attempts)
	require.Equal(t, first.PromptID, job.PromptID)
	require.Equal(t, []string{job.PromptID}, s.started(), "executions")

	s.env = append(s.env, "COMFYFLEET_ON_SHUTDOWN=stop")
	s.stop()
	s.start() // takes over what "keep" left
	s.stop()
	s.requireNoProcesses()
}

// moveBinary has the next server run from another path.
func (s *testServer) moveBinary() {
	s.t.Helper()
	raw, err := os.ReadFile(s.binary)
	require.NoError(s.t, err)
	s.binary = filepath.Join(s.t.TempDir(), "comfyfleet-2")
	require.NoError(s.t, os.WriteFile(s.binary, raw, 0o755))
}
