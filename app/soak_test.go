package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/models"
	"comfyfleet/models/store"
)

// soakScale multiplies what the soak tests do; `make soak` sets it to 10.
func soakScale() int {
	if n, err := strconv.Atoi(os.Getenv("SOAK_SCALE")); err == nil && n > 0 {
		return n
	}
	return 1
}

// storm is how much is done to a service under load.
type storm struct {
	jobs, workers int
	// early are the kills of the server while jobs are submitted, late those while they run, strikes the kills of workers.
	// Every late one and every strike hits a prompt that executes.
	early, late, strikes int
	steps                int     // of the shortest job; the longest has twice as many
	delay                float64 // of a step, in seconds
}

// storms: a tenth of the executing time in the ordinary tests, all of it in `make soak`.
func storms() storm {
	if soakScale() == 1 {
		return storm{jobs: 200, workers: 4, early: 3, late: 3, strikes: 2, steps: 10, delay: 0.025}
	}
	return storm{jobs: 300, workers: 4, early: 3, late: 12, strikes: 10, steps: 20, delay: 0.05}
}

// TestNoKillLosesAJobOrRunsItAgain kills the server without warning, in the middle of submissions and again and again while
// jobs run, and kills workers between. Whatever was accepted completes; nothing runs again but what a dead worker had in
// hand; in the end nothing is left running. It counts from the engines' own journals as well as from the database.
func TestNoKillLosesAJobOrRunsItAgain(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice, load := rand.New(rand.NewPCG(seed, 0)), storms()
	s := startServer(t, "COMFYFLEET_WORKERS=sim:"+strconv.Itoa(load.workers), quick, "COMFYFLEET_LOG_LEVEL=info")
	c := newCustomers(t, s, load)
	again := func() {
		s.start()
		c.base.Store(s.base)
	}
	for _, accepted := range moments(dice, load.early, load.jobs*9/10) {
		s.eventually(func() bool { return c.count() >= accepted }, "%d jobs accepted", accepted)
		s.kill()
		again()
	}
	ids := c.wait()
	dead := map[int]bool{} // processes of workers that were killed; true for those that executed a job
	struck := map[string]bool{}
	servers, strikes := load.late, load.strikes
	for _, ended := range moments(dice, servers+strikes, load.jobs*6/10) {
		s.eventually(func() bool { return s.ended() >= ended }, "%d prompts ended", ended)
		if strikes == 0 || servers > 0 && dice.IntN(2) == 0 {
			servers--
			for hit := false; !hit; again() {
				s.eventually(func() bool { return len(s.executing()) > 0 }, "something executes")
				s.kill()
				hit = len(s.executing()) > 0
			}
		} else {
			strikes--
			s.strike(dead, struck)
		}
	}

	for _, id := range ids {
		job := s.completed(id)
		require.Len(t, job.Outputs, 2)
		sizes := []int64{s.download(job.Outputs[0].URL), s.download(job.Outputs[1].URL)}
		slices.Sort(sizes)
		require.Positive(t, sizes[0])
		require.Less(t, sizes[0], int64(models.MaxSmallOutput))
		require.EqualValues(t, stormFile, sizes[1])
	}
	require.ElementsMatch(t, ids, s.all(), "accepted jobs and no others")
	s.stop()
	s.requireNoProcesses()
	s.requireOneExecution(ids, dead)
}

// moments are n counts up to most, one in each nth part of it, in random places.
func moments(dice *rand.Rand, n, most int) (list []int) {
	for i := range n {
		list = append(list, most*i/n+dice.IntN(max(1, most/n)))
	}
	return list
}

// strike kills workers until one was in the middle of a prompt of a job that was not struck before: three strikes would
// fail it. A look and a kill are two things, so that the journal has to confirm that it hit.
func (s *testServer) strike(dead map[int]bool, struck map[string]bool) {
	s.t.Helper()
	s.eventually(func() bool {
		workers := s.workers()
		i := slices.IndexFunc(workers, func(w models.Worker) bool { return w.ExecutingJobID != "" && w.PID != 0 && !struck[w.ExecutingJobID] })
		if i < 0 {
			return false
		}
		w := workers[i]
		if syscall.Kill(w.PID, syscall.SIGKILL) != nil {
			return false // it has ended by itself since the look
		}
		struck[w.ExecutingJobID], struck[w.StagedJobID] = true, true
		s.eventually(func() bool { return syscall.Kill(w.PID, 0) != nil }, "process %d ends", w.PID)
		last := s.lastByProcess()[w.PID]
		dead[w.PID] = last.Event == "start"
		return dead[w.PID]
	}, "a worker is killed in the middle of a prompt")
}

// events are the journals' entries of one kind.
func (s *testServer) events(kind string) []executed {
	s.t.Helper()
	return slices.DeleteFunc(s.journal(), func(e executed) bool { return e.Event != kind })
}

// ended is how many prompts have ended well. It is asked often, so that it only counts.
func (s *testServer) ended() (n int) {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.dir, "workers", "*", "journal.jsonl"))
	require.NoError(s.t, err)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(s.t, err)
		n += bytes.Count(raw, []byte(`"event":"end"`))
	}
	return n
}

// lastByProcess are the journals' last entries of each process, which executes one prompt after the other.
func (s *testServer) lastByProcess() map[int]executed {
	s.t.Helper()
	last := map[int]executed{}
	for _, e := range s.journal() {
		if e.Event != "cached" { // it comes after its start
			last[e.PID] = e
		}
	}
	return last
}

// executing are the starts of prompts that have not ended, nor died with their process.
func (s *testServer) executing() (open []executed) {
	s.t.Helper()
	for pid, e := range s.lastByProcess() {
		if e.Event == "start" && syscall.Kill(pid, 0) == nil {
			open = append(open, e)
		}
	}
	return open
}

// requireOneExecution compares the journals with the stopped server's records: an engine began no prompt twice; every
// prompt that was begun is the one that succeeded for its job, or was lost with a dead worker, in the middle or done and
// not yet fetched; and none was begun when its job had its outputs.
func (s *testServer) requireOneExecution(ids []string, dead map[int]bool) {
	s.t.Helper()
	attempts := map[string]models.Attempt{}  // by prompt
	succeeded := map[string]models.Attempt{} // by job
	s.withStore(func(st *store.Store) {
		for _, id := range ids {
			list, err := st.Attempts(s.t.Context(), id)
			require.NoError(s.t, err)
			for _, a := range list {
				attempts[a.ID] = a
				if a.State == models.AttemptSucceeded {
					require.Empty(s.t, succeeded[id].ID, "job %s succeeded twice", id)
					succeeded[id] = a
				}
			}
		}
		require.NoError(s.t, st.VerifyCounters(s.t.Context()))
	})
	require.Len(s.t, succeeded, len(ids), "jobs that succeeded")
	begun := map[string]bool{}
	lost := map[int]int{} // prompts by dead process
	for _, e := range s.events("start") {
		a, known := attempts[e.PromptID]
		require.True(s.t, known, "a prompt of no attempt: %+v", e)
		require.False(s.t, begun[e.PromptID], "begun twice: %+v", a)
		begun[e.PromptID] = true
		require.False(s.t, e.At.After(*succeeded[a.JobID].EndedAt), "begun after the outputs were there: %+v", a)
		if a.State != models.AttemptSucceeded {
			_, killed := dead[e.PID]
			require.True(s.t, killed, "executed for nothing: %+v", a)
			lost[e.PID]++
		}
	}
	for id, a := range succeeded {
		require.True(s.t, begun[a.ID], "job %s was never executed", id)
	}
	for pid, hit := range dead {
		// At most the prompt that it executed, and the one before if that was not fetched.
		require.LessOrEqual(s.t, lost[pid], 2, "prompts lost with process %d", pid)
		require.True(s.t, !hit || lost[pid] > 0, "process %d died in the middle of a prompt, yet none was lost", pid)
	}
	s.t.Logf("%d jobs, %d prompts begun, %d attempts, lost by worker: %v", len(ids), len(begun), len(attempts), lost)
}
