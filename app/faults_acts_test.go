package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

// What the rows of the fault matrix do to a worker and its server, and how they see what became of it.

func (s *testServer) firstWorker() models.Worker {
	s.t.Helper()
	return s.workers()[0]
}

// workers asks the running server over its socket, which opens beside the port that start waits for.
func (s *testServer) workers() (list []models.Worker) {
	s.t.Helper()
	s.eventually(func() bool {
		raw, err := callControl(s.t.Context(), s.dir, "workers.list", workerArgs{})
		return err == nil && json.Unmarshal(raw, &list) == nil
	}, "the workers are listed")
	return list
}

// untilWorker waits until the first worker is in a state and so many of its processes have ended.
func (s *testServer) untilWorker(state models.WorkerState, exits int) (w models.Worker) {
	s.t.Helper()
	deadline, look := time.Now().Add(patience), time.NewTicker(20*time.Millisecond)
	defer look.Stop()
	for {
		if w = s.firstWorker(); w.State == state && len(w.Exits) >= exits {
			return w
		}
		require.True(s.t, time.Now().Before(deadline), "the worker is not %s after %d ends: %+v", state, exits, w)
		<-look.C
	}
}

// logged waits for a line of the first worker's log.
func (s *testServer) logged(line string) {
	s.t.Helper()
	s.eventually(func() bool {
		raw, err := callControl(s.t.Context(), s.dir, "workers.logs", workerArgs{Name: s.firstWorker().Name, Lines: 50})
		return err == nil && bytes.Contains(raw, []byte(line))
	}, "the worker logs %q", line)
}

func signalWorker(sig syscall.Signal) func(s *testServer, id string) {
	return func(s *testServer, _ string) { require.NoError(s.t, syscall.Kill(s.firstWorker().PID, sig)) }
}

// released lets the job of waits go on after act.
func released(act func(s *testServer, id string)) func(s *testServer, id string) {
	return func(s *testServer, id string) {
		act(s, id)
		s.release("go")
	}
}

// interruptEngine does what somebody with ComfyUI's own page could do.
func interruptEngine(s *testServer, _ string) {
	resp, err := http.Post(s.firstWorker().URL+"/interrupt", "application/json", nil)
	require.NoError(s.t, err)
	resp.Body.Close()
}

// cancelIn cancels a job in a phase.
func cancelIn(phase models.Phase) func(s *testServer, id string) {
	return func(s *testServer, id string) {
		s.until(id, string(phase), patience, func(j jobStatus) bool { return j.Phase == string(phase) })
		s.cancel(id)
	}
}

// cancelAsleep waits for the node that hears no interrupt: one that comes before it ends the prompt.
func cancelAsleep(s *testServer, id string) {
	s.logged("SimSleep blocks")
	s.cancel(id)
}

func (s *testServer) cancel(id string) {
	s.t.Helper()
	require.Equal(s.t, 200, s.call("DELETE", "/v1/jobs/"+id, testKey, nil).status)
}

// restartWorker is the operator's verb, on a process that has to be killed.
func restartWorker(s *testServer, _ string) {
	w := s.firstWorker()
	_, err := callControl(s.t.Context(), s.dir, "workers.act", workerArgs{Name: w.Name, Verb: "restart"})
	require.NoError(s.t, err)
	s.eventually(func() bool { return len(s.firstWorker().Exits) == 1 }, "its process ends")
	require.ErrorIs(s.t, syscall.Kill(w.PID, 0), syscall.ESRCH)
	require.Equal(s.t, "SIGKILL", s.firstWorker().Exits[0].Signal)
}

// attach makes the server's worker an engine that the test runs.
func (s *testServer) attach(fault string) {
	s.engineDir = s.t.TempDir()
	s.engine = []string{"sim", "--listen", "127.0.0.1", "--base-directory", s.engineDir, "--test-nodes"}
	if fault != "" {
		s.engine = append(s.engine, "--fault", fault)
	}
	s.env = append(s.env, "COMFYFLEET_WORKERS=attached:"+s.startEngine("0"))
	s.t.Cleanup(s.killEngine)
}

// startEngine starts the attached engine, waits until it listens and answers its address.
func (s *testServer) startEngine(port string) (address string) {
	s.t.Helper()
	s.owned = exec.Command(s.binary, append(s.engine, "--port", port)...)
	stderr, err := s.owned.StderrPipe()
	require.NoError(s.t, err)
	require.NoError(s.t, s.owned.Start())
	found := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if _, a, ok := strings.Cut(lines.Text(), "To see the GUI go to: "); ok {
				found <- a
			}
		}
	}()
	select {
	case address = <-found:
	case <-time.After(patience):
		s.t.Fatal("the attached engine does not listen")
	}
	return address
}

func (s *testServer) killEngine() {
	_ = s.owned.Process.Kill() // it may have ended
	_ = s.owned.Wait()
}

// restartEngine is what the owner of an attached engine does to it.
func (s *testServer) restartEngine(string) {
	address, err := url.Parse(s.firstWorker().URL)
	require.NoError(s.t, err)
	s.killEngine()
	s.startEngine(address.Port())
}

// replaced kills the server; the next one takes its worker over.
func (s *testServer) replaced(string) {
	pid := s.firstWorker().PID
	s.kill()
	s.start()
	require.Equal(s.t, pid, s.untilWorker(models.WorkerBusy, 0).PID)
}

// stopped ends the server before the job has ended, and starts it again.
func (s *testServer) stopped(string) {
	s.stop()
	s.requireNoProcesses()
	s.start()
}
