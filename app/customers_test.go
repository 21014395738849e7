package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// customers submit the jobs of a storm, a few at a time. Each repeats a request that got no answer, with its own
// idempotency key: it cannot know whether the server had accepted it.
type customers struct {
	t    *testing.T
	load storm
	base atomic.Value // of the server that runs now
	todo chan int
	done sync.WaitGroup

	mu     sync.Mutex
	ids    []string
	failed error
}

func newCustomers(t *testing.T, s *testServer, load storm) *customers {
	c := &customers{t: t, load: load, todo: make(chan int, load.jobs)}
	c.base.Store(s.base)
	for i := range load.jobs {
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

// stormFile is the size of the file that every job of a storm makes beside its picture, which is small enough to be no file.
const stormFile = 20_000

// job is the body of job i.
func (c *customers) job(i int) map[string]any {
	var graph map[string]any
	if err := json.Unmarshal(stepsGraph(c.load.steps+i%(c.load.steps+1), c.load.delay, i), &graph); err != nil {
		panic(err) // it is ours
	}
	graph["4"] = map[string]any{"class_type": "SimOutput",
		"inputs": map[string]any{"kind": "files", "count": 1, "bytes": stormFile, "filename_prefix": "file", "seed": i}}
	return map[string]any{"workflow": graph}
}

// submit sends job i until the server answers. An error is an answer that is none of a dying server's.
func (c *customers) submit(ctx context.Context, i int) (id string, err error) {
	body, err := json.Marshal(c.job(i))
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
	require.Equal(c.t, c.load.jobs, c.count())
	return c.ids
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
