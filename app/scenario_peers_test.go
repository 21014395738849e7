package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// TestWhereOtherServicesBreak has one row for each way in which a service of this kind was seen to fail.
func TestWhereOtherServicesBreak(t *testing.T) {
	var rows errgroup.Group // as in the matrix of faults, they wait more than they compute
	rows.SetLimit(3)
	for _, row := range []struct {
		failure string
		test    func(t *testing.T)
	}{
		{"a dropped WebSocket fails the job and hangs the next ones", testDroppedSocket},
		{"a job that is over at once never ends", testInstantJobs},
		{"a cancelled queued job still runs", testCancelledNeverRuns},
		{"outputs in subfolders or under other keys vanish", testOutputsAnywhere},
		{"large outputs are held in memory", testLargeOutputs},
		{"an engine that dies takes its jobs with it", testKilledEngines},
		{"SIGTERM leaves engines behind", testNoOrphans},
		{"an engine that was left running is forgotten", testKeptEnginesAreAdopted},
		{"an unknown node is an error 500, a failed one says nothing", testNodeMessages},
		{"the same prompt twice returns nothing", testSamePromptTwice},
		{"credentials are echoed", testCredentialsStay},
		{"a webhook gets one try, and a redirect counts as delivered", testWebhooksArrive},
		{"a media URL reaches the private network", testPrivateNetwork},
		{"anybody can set a job's result", testNobodySetsResults},
		{"a restart changes what a job came to", testFinalStatesStay},
	} {
		rows.Go(func() error {
			t.Run(row.failure, row.test)
			return nil
		})
	}
	require.NoError(t, rows.Wait())
}

// quick are simulators whose only delays are those of the graphs, and which write down what they executed.
const quick = "COMFYFLEET_SIM_ARGS=--test-nodes --journal journal.jsonl"

// executed is a line of a simulator's journal.
type executed struct {
	Worker   string    `json:"-"`
	At       time.Time `json:"t"`
	PID      int       `json:"pid"`
	Event    string    `json:"event"` // start, cached, end, interrupted, error
	PromptID string    `json:"prompt_id"`
}

// journal is what all simulators have executed, in the order of each.
func (s *testServer) journal() (all []executed) {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.dir, "workers", "*", "journal.jsonl"))
	require.NoError(s.t, err)
	require.NotEmpty(s.t, files, "no simulator kept a journal")
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(s.t, err)
		for line := range strings.Lines(string(raw)) {
			e := executed{Worker: filepath.Base(filepath.Dir(file))}
			require.NoError(s.t, json.Unmarshal([]byte(line), &e), line)
			all = append(all, e)
		}
	}
	return all
}

// started are the prompts that began, once for each time.
func (s *testServer) started() (prompts []string) {
	s.t.Helper()
	for _, e := range s.journal() {
		if e.Event == "start" {
			prompts = append(prompts, e.PromptID)
		}
	}
	return prompts
}

func steps(n int, delay float64, seed int) map[string]any {
	return map[string]any{"workflow": stepsGraph(n, delay, seed)}
}

// waits is a job that goes on when the test releases "go", and hears no interrupt before.
func waits() map[string]any { return node("SimWait", "") }

// release lets the nodes go on that wait for that file, and those that come to it later: in all workers that were ever
// started, and in the attached engine.
func (s *testServer) release(file string) {
	s.t.Helper()
	inputs, err := filepath.Glob(filepath.Join(s.dir, "workers", "*", "input"))
	require.NoError(s.t, err)
	if s.engineDir != "" {
		inputs = append(inputs, filepath.Join(s.engineDir, "input"))
	}
	require.NotEmpty(s.t, inputs, "no worker was ever started")
	for _, dir := range inputs {
		require.NoError(s.t, os.WriteFile(filepath.Join(dir, file), nil, 0o600))
	}
}

func testDroppedSocket(t *testing.T) {
	for _, fault := range []string{"ws-drop-after=5", "ws-silent"} {
		t.Run(fault, func(t *testing.T) {
			s := startServer(t, "COMFYFLEET_WORKERS=sim:1", quick+" --fault "+fault)
			var ids []string
			for i := range 4 {
				ids = append(ids, s.submit(steps(20, 0.01, i)))
			}
			for _, id := range ids {
				require.Equal(t, 1, s.completed(id).Attempts, "runs of job %s", id)
			}
			require.Len(t, s.started(), len(ids), "executions")
			require.Equal(t, 200, s.call("GET", "/readyz", "", nil).status)
		})
	}
}

func testInstantJobs(t *testing.T) {
	s := startServer(t, "COMFYFLEET_WORKERS=sim:1", quick)
	for range 15 { // all but the first come out of the engine's cache before its answer to the submission is read
		job := s.completed(s.submit(steps(1, 0, 1)))
		require.Len(t, job.Outputs, 1)
		require.Equal(t, job.NodesTotal, job.NodesDone)
	}
}

func testCancelledNeverRuns(t *testing.T) {
	s := startServer(t, "COMFYFLEET_WORKERS=sim:1", quick)
	long := s.submit(waits())
	s.running(long)
	staged, waiting := s.submit(steps(1, 0, 2)), s.submit(steps(1, 0, 3))
	s.until(staged, "staged", patience, func(j jobStatus) bool { return j.Phase == "staged" })
	for _, id := range []string{staged, waiting} {
		a := s.call("DELETE", "/v1/jobs/"+id, testKey, nil)
		require.Equal(t, 200, a.status, "%s", a.body)
	}
	after := s.submit(steps(1, 0, 4))
	s.release("go")
	prompts := []string{s.completed(long).PromptID, s.completed(after).PromptID}
	for _, id := range []string{staged, waiting} {
		job := s.job(id)
		require.Equal(t, "failed", job.Status)
		require.Equal(t, "Cancelled by user", job.Error)
		require.Zero(t, job.Attempts)
	}
	require.Equal(t, prompts, s.started(), "what the engine executed")
}

func testOutputsAnywhere(t *testing.T) {
	s := startServer(t, "COMFYFLEET_WORKERS=sim:1", quick)
	kinds := []string{"gifs", "videos", "images", "audio", "3d", "files", "text"}
	graph := map[string]any{}
	for i, kind := range kinds {
		graph[strconv.Itoa(i+1)] = map[string]any{"class_type": "SimOutput", "inputs": map[string]any{
			"kind": kind, "count": 2, "bytes": 1000 + i, "filename_prefix": "deep/er/" + kind, "seed": 1}}
	}
	job := s.completed(s.submit(map[string]any{"workflow": graph}))
	require.Len(t, job.Outputs, 2*len(kinds))
	names := map[string]bool{}
	for _, o := range job.Outputs {
		node, err := strconv.Atoi(o.NodeID)
		require.NoError(t, err)
		kind := kinds[node-1]
		names[o.Filename] = true
		body := s.call("GET", strings.TrimPrefix(o.URL, s.base), "", nil).body
		require.Len(t, body, int(o.Size))
		if kind == "text" {
			require.Regexp(t, `^text_output_7(_2)?\.txt$`, o.Filename)
			require.Contains(t, string(body), "of seed 1")
			continue
		}
		require.Len(t, body, 1000+node-1, o.Filename)
		require.Regexp(t, "^"+job.JobID[:8]+"_"+regexp.QuoteMeta(kind)+`_\d+\.\w+$`, o.Filename)
	}
	require.Len(t, names, len(job.Outputs), "names are told apart")
}

func testLargeOutputs(t *testing.T) {
	count, size := 4, 100<<20
	if testing.Short() {
		count, size = 2, 60<<20
	}
	s := startServer(t, "COMFYFLEET_WORKERS=sim:1", quick)
	large := func(bytes int) map[string]any {
		return map[string]any{"workflow": json.RawMessage(fmt.Sprintf(
			`{"1":{"class_type":"SimOutput","inputs":{"kind":"videos","count":%d,"bytes":%d,"filename_prefix":"large","seed":1}}}`, count, bytes))}
	}
	s.completed(s.submit(large(1000)))
	before := s.peakMemory()

	job := s.completed(s.submit(large(size)))
	require.Len(t, job.Outputs, count)
	for _, o := range job.Outputs {
		require.EqualValues(t, size, o.Size)
	}
	require.EqualValues(t, size, s.download(job.Outputs[0].URL))
	// Every output at once, in base64.
	require.Greater(t, s.download(s.base+"/v1/jobs/"+job.JobID), int64(count*size)/3*4)
	grown := s.peakMemory() - before
	t.Logf("peak memory grew by %d MiB for %d outputs of %d MiB", grown>>20, count, size>>20)
	require.Less(t, grown, int64(size), "the server's peak memory grew by an output or more")
}

// peakMemory is the most that the server's process ever had in memory, in bytes.
func (s *testServer) peakMemory() int64 {
	s.t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		skip(s.t, "no /proc to read memory from")
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(raw)
	require.NotNil(s.t, m, "%s", raw)
	kb, err := strconv.ParseInt(string(m[1]), 10, 64)
	require.NoError(s.t, err)
	return kb << 10
}

// download reads what is at an address and answers how much it was.
func (s *testServer) download(address string) int64 {
	s.t.Helper()
	n, err := s.read(address)
	require.NoError(s.t, err)
	return n
}

// read is download for a goroutine of a test.
func (s *testServer) read(address string) (int64, error) {
	req, err := http.NewRequestWithContext(s.t.Context(), "GET", address, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+testKey)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("answered %s", resp.Status)
	}
	return io.Copy(io.Discard, resp.Body)
}

func testNodeMessages(t *testing.T) {
	s := startServer(t, "COMFYFLEET_WORKERS=sim:1", quick)
	raise := func(class string) map[string]any {
		return map[string]any{"workflow": json.RawMessage(`{
			"1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 0}},
			"7": {"class_type": "` + class + `", "inputs": {"image": ["1", 0], "kind": "RuntimeError", "message": "the weights do not fit"}}}`)}
	}
	job := s.wait(s.submit(raise("SimRaise")), patience)
	require.Equal(t, "failed", job.Status)
	require.Equal(t, "node_exception", job.ErrorCode)
	require.Contains(t, job.Error, "SimRaise")
	require.Contains(t, job.Error, "the weights do not fit")
	require.NotEmpty(t, job.ErrorLogTail)
	require.Equal(t, 1, job.Attempts, "a node's exception is not tried again")

	s.untilNodesAreKnown()
	a := s.call("POST", "/v1/jobs", testKey, raise("SimRaised"))
	require.Equal(t, 422, a.status, "%s", a.body)
	p := a.problem(t)
	require.Contains(t, p.Detail, "SimRaised")
	require.Equal(t, "SimRaised", p.NodeErrors["7"].ClassType, "%s", a.body)
}

func testSamePromptTwice(t *testing.T) {
	s := startServer(t, "COMFYFLEET_WORKERS=sim:1", quick)
	for range 2 { // the second time every node is cached, and the engine would name the first run's files
		first, again := s.completed(s.submit(steps(3, 0, 1))), s.completed(s.submit(steps(3, 0, 1)))
		require.Len(t, again.Outputs, len(first.Outputs))
		require.NotEmpty(t, again.Outputs)
		for i := range again.Outputs {
			require.NotEqual(t, first.Outputs[i].OutputID, again.Outputs[i].OutputID)
			require.Equal(t, s.download(first.Outputs[i].URL), s.download(again.Outputs[i].URL))
		}
	}
}

func testNobodySetsResults(t *testing.T) {
	s := startServer(t, "COMFYFLEET_WORKERS=sim:1", quick)
	id := s.submit(steps(1, 0, 1))
	s.completed(id)
	var description struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	s.call("GET", "/openapi.json", "", nil).json(t, &description)
	require.Contains(t, description.Paths, "/v1/jobs")
	var writes []string
	for path, methods := range description.Paths {
		for _, method := range []string{"post", "put", "patch", "delete"} {
			if _, ok := methods[method]; ok {
				writes = append(writes, method+" "+path)
			}
		}
	}
	slices.Sort(writes)
	require.Equal(t, []string{"delete /v1/jobs/{id}", "post /v1/jobs"}, writes, "all that changes anything")
	for _, path := range []string{"", "/result", "/status", "/progress", "/callback", "/webhook"} {
		for _, method := range []string{"POST", "PUT", "PATCH"} {
			a := s.call(method, "/v1/jobs/"+id+path, "", `{"status":"failed","progress":0}`)
			require.Contains(t, []int{401, 404, 405}, a.status, "%s %s", method, path)
		}
	}
	require.Equal(t, "completed", s.job(id).Status)
}
