package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestALongJobGoesOnWhileTheServerIsReplaced replaces the server twice under one job, in an orderly way and by kill -9:
// the prompt stays the same one, its progress goes on from what was shown last, and the engine ran it once.
func TestALongJobGoesOnWhileTheServerIsReplaced(t *testing.T) {
	s := startServer(t, quick, "COMFYFLEET_ON_SHUTDOWN=keep")
	id := s.submit(steps(600, 0.02, 1)) // 12 s, of which each gives about 3 percent
	on := func(percent int) jobStatus {
		return s.until(id, "further on", patience, func(j jobStatus) bool { return j.Status == "running" && j.Progress >= percent })
	}
	first := on(35)
	again := func(least int) {
		t.Helper()
		require.NotEmpty(t, s.processes(), "the engine goes on")
		s.start()
		after := s.job(id)
		require.Equal(t, "running", after.Status)
		require.Equal(t, first.PromptID, after.PromptID)
		require.GreaterOrEqual(t, after.Progress, least)
	}
	s.stop()
	again(first.Progress)
	for more := 5; more <= 15; more += 5 {
		shown := on(first.Progress + more).Progress
		s.kill() // at once: what was shown a moment ago must not be taken back
		again(shown)
	}
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
