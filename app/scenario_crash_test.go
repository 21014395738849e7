package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/models"
	"comfyfleet/models/store"
)

// crashJobs is how many jobs are on their way while the server is killed again and again.
const crashJobs = 200

// TestKillingTheServerLosesNoJobAndRunsNoneTwice kills the server without warning at random moments: while jobs are
// submitted, while they run, and once together with a worker. Whatever was accepted completes, and the engines' own
// journals say that nothing was executed twice but what the dead worker had in hand.
func TestKillingTheServerLosesNoJobAndRunsNoneTwice(t *testing.T) {
	s := startServer(t, "COMFYFLEET_WORKERS=sim:4", quick, "COMFYFLEET_LOG_LEVEL=info")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))

	c := newCustomers(t, s)
	crash := func() {
		s.kill()
		s.start()
		c.base.Store(s.base)
	}
	for _, accepted := range moments(dice, 4, crashJobs-20) {
		s.eventually(func() bool { return c.count() >= accepted }, "%d jobs accepted", accepted)
		crash()
	}
	ids := c.wait()
	var deadPID int
	for i, ended := range moments(dice, 4, crashJobs-40) {
		s.eventually(func() bool { return len(s.events("end")) >= ended }, "%d prompts ended", ended)
		if i == 1 {
			deadPID = s.busy(1)[0].PID
			require.Positive(t, deadPID)
			require.NoError(t, syscall.Kill(deadPID, syscall.SIGKILL))
		}
		crash()
	}

	for _, id := range ids {
		job := s.completed(id)
		require.Len(t, job.Outputs, 1)
		require.Positive(t, s.download(job.Outputs[0].URL))
	}
	require.ElementsMatch(t, ids, s.all(), "accepted jobs and no others")
	require.Contains(t, s.log.String(), "attempts of an earlier server are looked up", "no kill hit a job")
	s.stop()
	s.requireNoProcesses()
	requireOneExecution(t, s, ids, deadPID)
}

// moments are n rising counts up to most, in random places.
func moments(dice *rand.Rand, n, most int) []int {
	var list []int
	for range n {
		list = append(list, 1+dice.IntN(most))
	}
	slices.Sort(list)
	return list
}

// eventually polls in the test's own goroutine.
func (s *testServer) eventually(done func() bool, what string, args ...any) {
	s.t.Helper()
	deadline, look := time.Now().Add(patience), time.NewTicker(5*time.Millisecond)
	defer look.Stop()
	for !done() {
		require.True(s.t, time.Now().Before(deadline), what, args)
		<-look.C
	}
}

// events are the journals' entries of one kind.
func (s *testServer) events(kind string) []executed {
	s.t.Helper()
	return slices.DeleteFunc(s.journal(), func(e executed) bool { return e.Event != kind })
}

// all are the ids of all jobs in the list, page by page.
func (s *testServer) all() (ids []string) {
	s.t.Helper()
	for cursor := ""; ; {
		a := s.call("GET", "/v1/jobs?limit=100&cursor="+cursor, testKey, nil)
		require.Equal(s.t, 200, a.status, "%s", a.body)
		var page struct {
			Jobs []jobStatus `json:"jobs"`
			Next string      `json:"next_cursor"`
		}
		a.json(s.t, &page)
		for _, j := range page.Jobs {
			ids = append(ids, j.JobID)
		}
		if cursor = page.Next; cursor == "" {
			return ids
		}
	}
}

// customers submit crashJobs jobs, a few at a time. Each repeats a request that got no answer, with its own
// idempotency key: it cannot know whether the server had accepted it.
type customers struct {
	t    *testing.T
	base atomic.Value // of the server that runs now
	todo chan int
	done sync.WaitGroup

	mu     sync.Mutex
	ids    []string
	failed error
}

func newCustomers(t *testing.T, s *testServer) *customers {
	c := &customers{t: t, todo: make(chan int, crashJobs)}
	c.base.Store(s.base)
	for i := range crashJobs {
		c.todo <- i
	}
	close(c.todo)
	ctx, cancel := context.WithCancel(context.Background())
	for range 3 {
		c.done.Go(func() {
			for i := range c.todo {
				id, err := c.submit(ctx, i)
				c.mu.Lock()
				if err == nil {
					c.ids = append(c.ids, id)
				} else if c.failed == nil {
					c.failed = err
				}
				c.mu.Unlock()
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		c.done.Wait()
	})
	return c
}

// submit sends job i until the server answers. An error is an answer that is none of a dying server's.
func (c *customers) submit(ctx context.Context, i int) (id string, err error) {
	body, err := json.Marshal(steps(3+i%8, 0.03, i))
	if err != nil {
		return "", err
	}
	pause := time.NewTicker(30 * time.Millisecond)
	defer pause.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, "POST", c.base.Load().(string)+"/v1/jobs", bytes.NewReader(body))
		if err != nil {
			return "", err
		}
		req.Header.Set("Authorization", "Bearer "+testKey)
		req.Header.Set("Idempotency-Key", fmt.Sprint("job ", i))
		if resp, err := http.DefaultClient.Do(req); err == nil {
			raw, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			var made jobStatus
			switch {
			case err != nil: // cut off
			case resp.StatusCode != http.StatusOK:
				return "", fmt.Errorf("job %d: %s: %s", i, resp.Status, raw)
			default:
				err := json.Unmarshal(raw, &made)
				return made.JobID, err
			}
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// count is how many jobs were accepted so far.
func (c *customers) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	require.NoError(c.t, c.failed)
	return len(c.ids)
}

// wait answers the ids of all jobs once each was accepted.
func (c *customers) wait() []string {
	c.t.Helper()
	c.done.Wait()
	require.Equal(c.t, crashJobs, c.count())
	return c.ids
}

// requireOneExecution compares the journals with the stopped server's records: an engine began no prompt twice, and every
// prompt that was begun is the one that succeeded for its job, or was lost with the dead worker: in the middle, or done
// and not yet fetched.
func requireOneExecution(t *testing.T, s *testServer, ids []string, deadPID int) {
	t.Helper()
	attempts := map[string]models.Attempt{} // by prompt
	s.withStore(func(st *store.Store) {
		for _, id := range ids {
			list, err := st.Attempts(t.Context(), id)
			require.NoError(t, err)
			for _, a := range list {
				attempts[a.ID] = a
			}
		}
	})
	succeeded, begun := map[string]int{}, map[string]bool{}
	for _, e := range s.events("start") {
		a, known := attempts[e.PromptID]
		require.True(t, known, "a prompt of no attempt: %+v", e)
		require.False(t, begun[e.PromptID], "begun twice: %+v", a)
		begun[e.PromptID] = true
		if a.State == models.AttemptSucceeded {
			succeeded[a.JobID]++
		} else {
			require.Equal(t, deadPID, e.PID, "executed for nothing: %+v", a)
		}
	}
	for _, id := range ids {
		require.Equal(t, 1, succeeded[id], "executions of job %s that count", id)
	}
}
