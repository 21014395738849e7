package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

// TestALongJobGoesOnWhileTheServerIsReplaced replaces the server four times under one job, in an orderly way and by
// kill -9, in the end by a program at another path, as an upgrade does: the prompt stays the same one, its progress goes
// on from what was shown last, and the engine ran it once.
func TestALongJobGoesOnWhileTheServerIsReplaced(t *testing.T) {
	s := startServer(t, quick, "COMFYFLEET_ON_SHUTDOWN=keep")
	const links = 97 // each about a hundredth of the graph
	id, released := s.submit(chain(links)), 0
	further := func() {
		released++
		require.LessOrEqual(t, released, links, "the job is not further on: %+v", s.job(id))
		s.release(strconv.Itoa(released))
	}
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	on := func(shown int) jobStatus {
		for further(); ; further() { // a link that ended while the server had no socket yet is told with the next one
			for range 100 {
				if j := s.job(id); j.Status == "running" && j.Progress > shown {
					return j
				}
				<-look.C
			}
		}
	}
	first := on(s.running(id).Progress)
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
		return on(max(least, after.Progress)).Progress
	}
	s.stop()
	earlier := next(first.Progress)
	for range 2 {
		shown := on(earlier).Progress
		s.kill() // at once: what was shown a moment ago must not be taken back
		earlier = next(shown)
	}
	s.stop()
	s.moveBinary()
	next(earlier)
	for released < links {
		further()
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

// chain is a job whose nodes wait one after the other, each for the release of its number: how far it has got is for the
// test to say, however long a server takes to start.
func chain(links int) map[string]any {
	link := func(n int) []any { return []any{strconv.Itoa(n), 0} }
	graph := map[string]any{
		"0": map[string]any{"class_type": "EmptyImage", "inputs": map[string]any{"width": 16, "height": 16, "batch_size": 1, "color": 0}},
	}
	for n := 1; n <= links; n++ {
		graph[strconv.Itoa(n)] = map[string]any{"class_type": "SimWait", "inputs": map[string]any{"image": link(n - 1), "file": strconv.Itoa(n)}}
	}
	graph[strconv.Itoa(links+1)] = map[string]any{"class_type": "SaveImage", "inputs": map[string]any{"images": link(links), "filename_prefix": "chain"}}
	return map[string]any{"workflow": graph}
}

// moveBinary has the next server run from another path.
func (s *testServer) moveBinary() {
	s.t.Helper()
	raw, err := os.ReadFile(s.binary)
	require.NoError(s.t, err)
	s.binary = filepath.Join(s.t.TempDir(), "comfyfleet-2")
	require.NoError(s.t, os.WriteFile(s.binary, raw, 0o755))
}
