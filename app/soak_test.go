package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
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

// TestEveryAcceptedJobEndsOnce kills the server again and again, in the middle of submissions too, while jobs wait and
// run. Every job that was answered with 200 ends with its outputs, and no prompt is executed twice.
func TestEveryAcceptedJobEndsOnce(t *testing.T) {
	s := newServer(t, "COMFYFLEET_WORKERS=sim:4", quick, "COMFYFLEET_LISTEN="+freeAddress(t))
	s.start()
	const jobs, kills = 200, 6
	c := submitAll(s, jobs, 8)
	for range kills {
		s.hit(c)
		s.kill()
		s.start()
	}
	ids := c.wait()
	executed := s.executions(ids)
	for id, n := range executed {
		require.Equal(t, 1, n, "executions of job %s, which no worker lost", id)
	}
	s.stop()
	s.requireNoProcesses()
}

// TestJobsOutliveServersAndWorkers kills both. A job runs again only when its worker died while it ran.
func TestJobsOutliveServersAndWorkers(t *testing.T) {
	s := newServer(t, "COMFYFLEET_WORKERS=sim:4", quick, "COMFYFLEET_LISTEN="+freeAddress(t))
	s.start()
	jobs, kills := 30*soakScale(), max(1, soakScale()/2)
	c := submitAll(s, jobs, 4)
	struck := map[string]bool{} // jobs that ran on a worker that was killed
	for range kills {
		s.hit(c)
		s.kill()
		s.start()
		s.hit(c)
		workers := s.busy(1)
		w := workers[rand.IntN(len(workers))]
		require.NoError(t, syscall.Kill(w.PID, syscall.SIGKILL))
		struck[w.ExecutingJobID] = true
		struck[w.StagedJobID] = true
	}
	ids := c.wait()
	again := 0
	for id, n := range s.executions(ids) {
		if n > 1 {
			again++
			// The worker may have gone on to the next prompt between the look and the kill; that is its only job more.
			require.LessOrEqual(t, n, 1+kills, "job %s", id)
		}
	}
	require.LessOrEqual(t, again, 2*kills, "each kill strikes one prompt that runs")
	s.stop()
	s.requireNoProcesses()
}

// submissions are jobs that clients submit and retry until they are answered.
type submissions struct {
	s    *testServer
	done sync.WaitGroup
	mu   sync.Mutex
	ids  []string
	sent atomic.Int64
}

// submitAll submits n jobs from so many clients, each under its own Idempotency-Key, retrying whatever breaks.
func submitAll(s *testServer, n, clients int) *submissions {
	c := &submissions{s: s}
	base := s.base // the address is fixed over restarts
	var next atomic.Int64
	for range clients {
		c.done.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				if id := c.submit(base, int(i)); id != "" {
					c.mu.Lock()
					c.ids = append(c.ids, id)
					c.mu.Unlock()
				}
			}
		})
	}
	return c
}

// submit sends job i until somebody answers 200.
func (c *submissions) submit(base string, i int) string {
	body, _ := json.Marshal(steps(5, 0.02, i))
	deadline := time.Now().Add(2 * patience)
	for time.Now().Before(deadline) {
		req, err := http.NewRequest(http.MethodPost, base+"/v1/jobs", bytes.NewReader(body))
		if err != nil {
			c.s.t.Error(err)
			return ""
		}
		req.Header.Set("Authorization", "Bearer "+testKey)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", fmt.Sprint("job ", i))
		c.sent.Add(1)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			<-time.After(20 * time.Millisecond) // nobody listens while the server starts
			continue
		}
		var made jobStatus
		err = json.NewDecoder(resp.Body).Decode(&made)
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK && err == nil {
			return made.JobID
		}
	}
	c.s.t.Errorf("job %d was not accepted", i)
	return ""
}

// wait ends when every job was accepted and has completed with its outputs.
func (c *submissions) wait() []string {
	c.s.t.Helper()
	c.done.Wait()
	seen := map[string]bool{}
	for _, id := range c.ids {
		require.False(c.s.t, seen[id], "two requests were answered with job %s", id)
		seen[id] = true
		job := c.s.completed(id)
		require.Len(c.s.t, job.Outputs, 1, "outputs of job %s", id)
		require.NotZero(c.s.t, c.s.download(job.Outputs[0].URL))
	}
	return c.ids
}

// hit waits until something runs and requests are under way, then for a random moment: where a kill lands is chance.
func (s *testServer) hit(c *submissions) {
	s.t.Helper()
	before := c.sent.Load()
	require.Eventually(s.t, func() bool {
		a := s.call("GET", "/v1/jobs?status=running&limit=1", testKey, nil)
		return a.status == 200 && bytes.Contains(a.body, []byte(`"running"`)) || c.sent.Load() > before+20
	}, patience, 5*time.Millisecond)
	<-time.After(time.Duration(rand.IntN(300)) * time.Millisecond)
}

// executions counts, from the simulators' journals, how often each job was really executed. No prompt may be executed
// twice, and no job may have two attempts that succeeded.
func (s *testServer) executions(ids []string) map[string]int {
	s.t.Helper()
	times := map[string]int{}
	for _, prompt := range s.started() {
		times[prompt]++
		require.Equal(s.t, 1, times[prompt], "executions of prompt %s", prompt)
	}
	byJob := map[string]int{}
	s.withStore(func(st *store.Store) {
		for _, id := range ids {
			attempts, err := st.Attempts(s.t.Context(), id)
			require.NoError(s.t, err)
			succeeded := 0
			for _, a := range attempts {
				byJob[id] += times[a.ID]
				if a.State == models.AttemptSucceeded {
					succeeded++
				}
			}
			require.Equal(s.t, 1, succeeded, "attempts of job %s that succeeded", id)
			require.Positive(s.t, byJob[id], "executions of job %s", id)
		}
		require.NoError(s.t, st.VerifyCounters(s.t.Context()))
	})
	return byJob
}

// freeAddress is an address that a server can listen on, again and again.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}
