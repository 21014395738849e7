package main

import (
	"cmp"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

// fleet is what the server says of its workers, by name.
func (s *testServer) fleet() map[string]models.Worker {
	s.t.Helper()
	var list []models.Worker
	s.runJSON(&list, "workers", "list")
	workers := map[string]models.Worker{}
	for _, w := range list {
		workers[w.Name] = w
	}
	return workers
}

// busy waits until so many workers execute a job and answers them.
func (s *testServer) busy(n int) (workers []models.Worker) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		workers = nil
		for _, w := range s.fleet() {
			if w.Executing != "" {
				workers = append(workers, w)
			}
		}
		if len(workers) >= n {
			return workers
		}
		require.True(s.t, time.Now().Before(deadline), "%d of %d workers are busy", len(workers), n)
	}
}

func testKilledEngines(t *testing.T) {
	s := startServer(t, quick)
	hit := []string{s.submit(waits()), s.submit(waits())}
	for _, id := range hit {
		s.running(id)
	}
	var behind []string
	for i := range 10 {
		behind = append(behind, s.submit(steps(10, 0.01, i)))
	}
	for _, w := range s.busy(2) {
		require.Positive(t, w.PID)
		require.Contains(t, hit, w.ExecutingJobID)
		require.NoError(t, syscall.Kill(w.PID, syscall.SIGKILL))
	}
	s.release("go")
	for _, id := range slices.Concat(hit, behind) {
		job := s.completed(id)
		require.Len(t, job.Outputs, 1)
		if slices.Contains(hit, id) {
			require.Equal(t, 2, job.Attempts)
		} else {
			require.Equal(t, 1, job.Attempts, "only what executed at a kill runs again")
		}
	}
	for name := range s.fleet() {
		s.eventually(func() bool { return s.fleet()[name].Restarts > 0 }, "the end of %s is counted", name)
		require.Equal(t, 1, s.fleet()[name].Restarts, name)
	}
}

func testNoOrphans(t *testing.T) {
	s := startServer(t, quick, "COMFYFLEET_SHUTDOWN_GRACE=200ms")
	first, second := s.submit(steps(100_000, 0.05, 1)), s.submit(steps(100_000, 0.05, 2))
	s.running(first)
	s.running(second)
	require.NotEmpty(t, s.processes())
	s.stop()
	s.requireNoProcesses()

	// What the stop interrupted waits for the next start, and no run was counted against it.
	s.start()
	for _, id := range []string{first, second} {
		require.Contains(t, []string{"queued", "running"}, s.job(id).Status)
		require.Equal(t, 200, s.call("DELETE", "/v1/jobs/"+id, testKey, nil).status)
	}
}

func testKeptEnginesAreAdopted(t *testing.T) {
	s := startServer(t, quick, "COMFYFLEET_ON_SHUTDOWN=keep")
	ids := []string{s.submit(waits()), s.submit(waits())}
	pids := func() (pids []int) {
		for _, w := range s.busy(2) {
			pids = append(pids, w.PID)
		}
		slices.SortFunc(pids, cmp.Compare[int])
		return pids
	}
	before := pids()
	s.stop()
	require.NotEmpty(t, s.processes(), "kept")
	s.start()
	require.Equal(t, before, pids())
	s.release("go")
	for _, id := range ids {
		require.Equal(t, 1, s.completed(id).Attempts)
	}
	require.Len(t, s.started(), len(ids), "executions")

	s.env = append(s.env, "COMFYFLEET_ON_SHUTDOWN=stop")
	s.stop()
	s.start()
	s.stop()
	s.requireNoProcesses()
}

func testFinalStatesStay(t *testing.T) {
	s := startServer(t, quick)
	var ids []string
	for _, graph := range []map[string]any{steps(2, 0, 1), steps(-1, 0, 1), steps(100_000, 0.05, 2)} {
		ids = append(ids, s.submit(graph))
	}
	s.running(ids[2])
	require.Equal(t, 200, s.call("DELETE", "/v1/jobs/"+ids[2], testKey, nil).status)
	var before []jobStatus
	for _, id := range ids {
		before = append(before, s.wait(id, patience))
	}
	require.Equal(t, "completed", before[0].Status)
	require.Equal(t, "graph_rejected", before[1].ErrorCode)
	require.Equal(t, "Cancelled by user", before[2].Error)
	seen := s.started()

	s.kill()
	s.start()
	for i, id := range ids {
		after := s.job(id)
		for j := range after.Outputs {
			require.Equal(t, after.Outputs[j].Size, s.download(after.Outputs[j].URL))
			after.Outputs[j].URL = before[i].Outputs[j].URL // signed anew
		}
		require.Equal(t, before[i], after)
	}
	s.completed(s.submit(steps(2, 0, 3)))
	require.Len(t, s.started(), len(seen)+1, "nothing that had ended ran again")
}
