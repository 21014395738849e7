package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/gpu/proc"
	"comfyfleet/gpu/proc/proctest"
)

// binary is the real program, built once for all scenario tests, with the race detector when the tests have it.
var binary string

func TestMain(m *testing.M) { os.Exit(proctest.Main(func() int { return buildAndRun(m) })) }

func buildAndRun(m *testing.M) (code int) {
	dir, err := os.MkdirTemp("", "comfyfleet-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "comfyfleet")
	args := []string{"build", "-o", binary}
	if raceEnabled {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, ".")...)
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return 1
	}
	return m.Run()
}

// skip skips a test for want of something on the machine; under CI_STRICT, where everything is installed, it fails.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI_STRICT") != "" {
		t.Fatal("must not be skipped here: ", why)
	}
	t.Skip(why)
}

// testKey is the bootstrap key of test servers.
const testKey = "cfk_scenario-test-key-0123456789"

// testServer is one `comfyfleet serve` as a child process.
type testServer struct {
	t    *testing.T
	dir  string
	env  []string
	cmd  *exec.Cmd
	base string
	log  *lockedBuffer
	done chan struct{}
	// binary is the program that start and run run.
	binary string
	// engine is the command of an attached engine, engineDir its base directory and owned its process, if the worker is one.
	engine    []string
	engineDir string
	owned     *exec.Cmd
}

// newServer prepares a server on a data directory of its own; env adds or overrides settings. start starts it.
func newServer(t *testing.T, env ...string) *testServer {
	t.Helper()
	s := &testServer{t: t, dir: t.TempDir(), log: &lockedBuffer{}, binary: binary}
	s.env = append(os.Environ(), "GORACE=atexit_sleep_ms=0",
		"COMFYFLEET_DATA_DIR="+s.dir, "COMFYFLEET_LISTEN=127.0.0.1:0", "COMFYFLEET_BOOTSTRAP_KEY="+testKey,
		"COMFYFLEET_ADMIN_EMAIL=admin@example.test", "COMFYFLEET_ADMIN_PASSWORD=correct horse battery",
		"COMFYFLEET_WORKERS=sim:2", "COMFYFLEET_SIM_ARGS=--speed 50 --test-nodes", "COMFYFLEET_LOG_FORMAT=json", "COMFYFLEET_LOG_LEVEL=debug",
		"COMFYFLEET_RATE_SUBMIT=off", "COMFYFLEET_RATE_STATUS=off", "COMFYFLEET_RATE_MANAGE=off")
	s.env = append(s.env, env...)
	t.Cleanup(func() {
		s.stop()
		if !t.Failed() {
			s.requireNoProcesses()
			return
		}
		s.endWorkers()
		t.Logf("log of the server (its end):\n%s", tail(s.log.String(), 16<<10))
	})
	return s
}

// startServer is newServer and start.
func startServer(t *testing.T, env ...string) *testServer {
	t.Helper()
	s := newServer(t, env...)
	s.start()
	return s
}

// start runs the server and waits until it answers, commands too.
func (s *testServer) start() {
	s.t.Helper()
	s.cmd = exec.Command(s.binary, "serve")
	s.cmd.Env = s.env
	stderr, err := s.cmd.StderrPipe()
	require.NoError(s.t, err)
	require.NoError(s.t, s.cmd.Start())
	address := make(chan string, 1)
	done := make(chan struct{})
	s.done = done
	go func(cmd *exec.Cmd) {
		defer close(done)
		lines := bufio.NewScanner(stderr)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			s.log.Write(append(lines.Bytes(), '\n'))
			var entry struct{ Msg, Address string }
			if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "listening" {
				select {
				case address <- entry.Address:
				default:
				}
			}
		}
		_ = cmd.Wait()
	}(s.cmd)
	select {
	case a := <-address:
		s.base = "http://" + a
	case <-done:
		s.t.Fatalf("the server ended at start:\n%s", tail(s.log.String(), 8<<10))
	case <-time.After(patience):
		s.t.Fatalf("the server did not listen within %v:\n%s", patience, tail(s.log.String(), 8<<10))
	}
	s.workers()
}

// kill ends the server as a power cut would.
func (s *testServer) kill() {
	s.t.Helper()
	require.NoError(s.t, s.cmd.Process.Kill())
	<-s.done
}

// stop ends the server as an operator does and waits for it.
func (s *testServer) stop() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	select {
	case <-s.done:
		return
	default:
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(patience):
		s.t.Errorf("the server did not stop within %v", patience)
		_ = s.cmd.Process.Kill()
		<-s.done
	}
}

// run runs another command of the program beside the server. Its error has what the command wrote to standard error.
func (s *testServer) run(args ...string) (stdout string, err error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.binary, args...)
	cmd.Env = s.env
	cmd.Dir = s.t.TempDir() // what a command leaves where it runs goes with the test
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("comfyfleet %s: %w\n%s", strings.Join(args, " "), err, errOut.String())
	}
	return out.String(), nil
}

// runJSON runs a command that must succeed and decodes what it prints with --json.
func (s *testServer) runJSON(into any, args ...string) {
	s.t.Helper()
	out, err := s.run(append(args, "--json")...)
	require.NoError(s.t, err)
	require.NoError(s.t, json.Unmarshal([]byte(out), into), "comfyfleet %s printed: %s", strings.Join(args, " "), out)
}

// processes are the living workers and their parents: every process whose command line names the data directory.
func (s *testServer) processes() []int {
	s.t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(s.t, err)
	if len(files) == 0 {
		skip(s.t, "no /proc to find processes in")
	}
	var pids []int
	for _, file := range files {
		line, err := os.ReadFile(file) // fails, or is empty, for a process that has ended meanwhile
		if err == nil && bytes.Contains(line, []byte(s.dir)) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			require.NoError(s.t, err)
			pids = append(pids, pid)
		}
	}
	return pids
}

// requireNoProcesses waits until no worker is left.
func (s *testServer) requireNoProcesses() {
	s.t.Helper()
	s.eventually(func() bool { return len(s.processes()) == 0 }, "workers outlived their server")
}

// endWorkers ends what a failed test left: "keep", and a server that was killed, leave their workers running.
func (s *testServer) endWorkers() {
	files, _ := filepath.Glob(filepath.Join(s.dir, "workers", "*", "state.json"))
	for _, file := range files {
		dir := filepath.Dir(file)
		if err := proc.KillLeftover(context.Background(), proc.Spec{Name: filepath.Base(dir), StateFile: file, LogFile: filepath.Join(dir, "engine.log")}); err != nil {
			s.t.Log(err)
		}
	}
}

// answer is an HTTP answer with its body read.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) json(t *testing.T, into any) {
	t.Helper()
	require.NoError(t, json.Unmarshal(a.body, into), "body: %s", a.body)
}

// problem is an error answer.
type problem struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
	Errors []struct {
		Field  string `json:"field"`
		Detail string `json:"detail"`
	} `json:"errors"`
	NodeErrors map[string]struct {
		ClassType string `json:"class_type"`
		Errors    []struct {
			Type    string `json:"type"`
			Message string `json:"message"`
			Details string `json:"details"`
		} `json:"errors"`
	} `json:"node_errors"`
}

func (a answer) problem(t *testing.T) (p problem) {
	t.Helper()
	require.Equal(t, "application/problem+json", a.header.Get("Content-Type"), "%s", a.body)
	a.json(t, &p)
	return p
}

// call sends one request with a key ("" for none). body is nil, a string, or something to encode as JSON.
func (s *testServer) call(method, path, key string, body any) answer {
	s.t.Helper()
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		require.NoError(s.t, err)
		r = bytes.NewReader(raw)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.base+path, r)
	require.NoError(s.t, err)
	if r != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(s.t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(s.t, err)
	return answer{resp.StatusCode, resp.Header, raw}
}

// jobStatus is the part of a status that scenario tests look at.
type jobStatus struct {
	JobID        string          `json:"job_id"`
	Status       string          `json:"status"`
	Progress     int             `json:"progress"`
	Value        int             `json:"progress_value"`
	NodesDone    int             `json:"nodes_done"`
	NodesTotal   int             `json:"nodes_total"`
	PromptID     string          `json:"prompt_id"`
	Attempts     int             `json:"attempts"`
	Error        string          `json:"error"`
	ErrorCode    string          `json:"error_code"`
	NodeErrors   json.RawMessage `json:"node_errors"`
	Simulated    bool            `json:"simulated"`
	ErrorLogTail []string        `json:"error_log_tail"`
	Phase        string          `json:"phase"`
	Outputs      []outputStatus  `json:"outputs"`
}

// outputStatus is one output of a job.
type outputStatus struct {
	OutputID string `json:"output_id"`
	Filename string `json:"filename"`
	Type     string `json:"type"`
	NodeID   string `json:"node_id"`
	Size     int64  `json:"size_bytes"`
	SHA256   string `json:"sha256"`
	Data     []byte `json:"data"`
	URL      string `json:"url"`
}

// patience is how long a test waits for one thing on a machine that has others to do, and may do nothing at all for
// seconds. Only a test that fails takes so long.
const patience = 3 * time.Minute

func (j jobStatus) final() bool { return j.Status == "completed" || j.Status == "failed" }

// submit submits a graph and returns the job's id.
func (s *testServer) submit(request any) string {
	s.t.Helper()
	a := s.call("POST", "/v1/jobs", testKey, request)
	require.Equal(s.t, 200, a.status, "%s", a.body)
	var made jobStatus
	a.json(s.t, &made)
	return made.JobID
}

// job is a job's status without its outputs' data.
func (s *testServer) job(id string) (job jobStatus) {
	s.t.Helper()
	a := s.call("GET", "/v1/jobs/"+id+"?data=none", testKey, nil)
	require.Equal(s.t, 200, a.status, "%s", a.body)
	a.json(s.t, &job)
	return job
}

// wait waits until a job is final.
func (s *testServer) wait(id string, limit time.Duration) jobStatus {
	s.t.Helper()
	return s.until(id, "final", limit, jobStatus.final)
}

// until polls a job until it is as wanted. It asks in the test's own goroutine, where a failed request ends the test.
func (s *testServer) until(id, what string, limit time.Duration, wanted func(jobStatus) bool) jobStatus {
	s.t.Helper()
	deadline, look := time.Now().Add(limit), time.NewTicker(20*time.Millisecond)
	defer look.Stop()
	for {
		job := s.job(id)
		if wanted(job) {
			return job
		}
		require.True(s.t, time.Now().Before(deadline), "job %s is not %s: %+v", id, what, job)
		<-look.C
	}
}

// untilNodesAreKnown waits until the first worker's definitions of nodes have come to the server, which checks graphs
// against them from then on. They are read beside the first job.
func (s *testServer) untilNodesAreKnown() {
	s.t.Helper()
	deadline, look := time.Now().Add(patience), time.NewTicker(50*time.Millisecond)
	defer look.Stop()
	unknown := map[string]any{"workflow": json.RawMessage(`{"1":{"class_type":"Nothing","inputs":{}}}`)}
	for s.call("POST", "/v1/jobs", testKey, unknown).status != http.StatusUnprocessableEntity {
		require.True(s.t, time.Now().Before(deadline), "no worker's node definitions came")
		<-look.C
	}
}

// running waits until a job executes.
func (s *testServer) running(id string) jobStatus {
	s.t.Helper()
	return s.until(id, "running", patience, func(j jobStatus) bool { return j.Status == "running" })
}

// eventually polls in the test's own goroutine.
func (s *testServer) eventually(done func() bool, what string, args ...any) {
	s.t.Helper()
	deadline, look := time.Now().Add(patience), time.NewTicker(20*time.Millisecond)
	defer look.Stop()
	for !done() {
		require.True(s.t, time.Now().Before(deadline), fmt.Sprintf(what, args...))
		<-look.C
	}
}

// completed waits for a job's good end.
func (s *testServer) completed(id string) jobStatus {
	s.t.Helper()
	job := s.wait(id, patience)
	require.Equal(s.t, "completed", job.Status, "%+v", job)
	return job
}

// lockedBuffer collects a child's log while a test reads it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}
