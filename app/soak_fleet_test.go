package main

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

// kept is what the pools of connections, to the database and of clients, may hold more than before whatever the load was: two files
// for each of eight readers. What each job or each of 64 workers left would be far more.
const kept = 16

// TestAFullHouseLeavesNothingBehind runs many workers at once, then none: what the server holds is what it held before.
// In the end it stops them all in the middle of work.
func TestAFullHouseLeavesNothingBehind(t *testing.T) {
	workers, jobs := 7, 200
	if soakScale() > 1 {
		workers, jobs = 64, 2000
	}
	s := plainServer(t, "COMFYFLEET_WORKERS=sim:"+strconv.Itoa(workers), quick, "COMFYFLEET_SCALE_DOWN_AFTER=1s",
		"COMFYFLEET_SHUTDOWN_GRACE=100ms", "COMFYFLEET_LOG_LEVEL=info")
	s.crowd(workers, workers) // what is opened once and kept is there from here
	goroutines, files := s.lowest("go_goroutines"), s.lowest("process_open_fds")
	most := s.crowd(workers, jobs)
	t.Logf("%d workers, %d jobs: %d goroutines and %d files before; at most %d and %d", workers, jobs, goroutines, files, most[0], most[1])
	require.Greater(t, most[0], goroutines+workers, "the workers were not there")
	s.eventually(func() bool {
		return s.held("go_goroutines") <= goroutines+kept && s.held("process_open_fds") <= files+kept
	}, "goroutines and files return to %d and %d", goroutines, files)

	s.flood(2*workers, 10000)
	s.eventually(func() bool { return s.up() == workers }, "all workers are up again")
	s.stop()
	s.requireNoProcesses()
}

// crowd runs so many short jobs on all workers and waits until every worker has been stopped for want of work. It answers
// the most goroutines and files that it saw.
func (s *testServer) crowd(workers, jobs int) (most [2]int) {
	s.t.Helper()
	// They hold the workers until all are up, however long a machine takes to start so many.
	long := s.flood(2*workers, 10000)
	s.eventually(func() bool { return s.up() == workers }, "all %d workers are up", workers)
	ids := s.flood(jobs, 2)
	for i, name := range []string{"go_goroutines", "process_open_fds"} {
		most[i] = s.held(name)
	}
	for _, id := range long {
		s.cancel(id)
	}
	for _, id := range ids {
		require.Len(s.t, s.completed(id).Outputs, 1)
	}
	s.eventually(func() bool { return s.up() == 0 }, "all workers stop")
	return most
}

// flood submits n jobs of so many steps of 20 ms, no two alike: an engine answers a graph that it knows at once.
func (s *testServer) flood(n, length int) (ids []string) {
	s.t.Helper()
	for range n {
		ids = append(ids, s.submit(steps(length, 0.02, rand.IntN(1<<30))))
	}
	return ids
}

// up is how many workers have a process.
func (s *testServer) up() (n int) {
	s.t.Helper()
	for _, w := range s.workers() {
		if w.State != models.WorkerStopped {
			n++
		}
	}
	return n
}

// lowest is the least that a gauge shows in some seconds without load: work of the house comes and goes.
func (s *testServer) lowest(gauge string) (value int) {
	s.t.Helper()
	look := time.NewTicker(200 * time.Millisecond)
	defer look.Stop()
	value = s.held(gauge)
	for range 15 {
		<-look.C
		value = min(value, s.held(gauge))
	}
	return value
}

// held is the value of a gauge of the server's process.
func (s *testServer) held(gauge string) int {
	s.t.Helper()
	a := s.call("GET", "/metrics", "", nil)
	lines := bufio.NewScanner(bytes.NewReader(a.body))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), gauge+" "); ok {
			n, err := strconv.ParseFloat(value, 64)
			require.NoError(s.t, err)
			return int(n)
		}
	}
	s.t.Fatal(fmt.Sprintf("no gauge %s in %s", gauge, a.body))
	return 0
}
