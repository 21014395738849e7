package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"comfyfleet/models"
)

// faultRow is one way in which an attempt ends, and what has to follow from it.
type faultRow struct {
	cause string
	// env overrides settings; the fleet is one simulator with test nodes unless it says otherwise.
	env []string
	// request is submitted; then act, if any, does the damage.
	request map[string]any
	act     func(s *testServer, id string)
	// ahead is submitted before, and runs when request comes; it has to complete in its first attempt.
	ahead map[string]any

	warm     bool   // the worker is ready before the job comes
	early    bool   // act comes at once, not when the job runs
	slow     bool   // it takes most of a minute: an engine that does not answer may only be busy
	attached bool   // the worker is an engine of somebody else, the test
	fault    string // of an attached engine
	job      string // status, with the error code of a failed one
	attempts int    // that began to execute
	worker   models.WorkerState
	exits    int    // of its processes, at least for a worker that is not ready
	reason   string // in the last exit, or in the state without one
}

const (
	impatient = "COMFYFLEET_STALL_AFTER=6s"
	briefStop = "COMFYFLEET_SHUTDOWN_GRACE=100ms"
)

func simFault(name string) []string { return []string{quick + " --fault " + name} }

// node is a graph that runs one test node between a picture and its file. inputs is JSON, "" for none.
func node(class, inputs string) map[string]any {
	if inputs != "" {
		inputs = "," + inputs
	}
	save := "2"
	if class == "SimPoison" { // it has no output to save
		save = "1"
	}
	return map[string]any{"workflow": json.RawMessage(fmt.Sprintf(`{
		"1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 0}},
		"2": {"class_type": %q, "inputs": {"image": ["1", 0]%s}},
		"3": {"class_type": "SaveImage", "inputs": {"images": [%q, 0], "filename_prefix": "x"}}}`, class, inputs, save))}
}

// loading is a graph that loads a model file.
func loading() map[string]any {
	return map[string]any{"workflow": json.RawMessage(`{
		"1": {"class_type": "VAELoader", "inputs": {"vae_name": "ae.safetensors"}},
		"2": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
		"3": {"class_type": "VAEDecode", "inputs": {"samples": ["2", 0], "vae": ["1", 0]}},
		"4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "x"}}}`)}
}

func timed(request map[string]any, seconds int) map[string]any {
	request["timeout_seconds"] = seconds
	return request
}

// faultRows are the causes of the table of what ends an attempt, in its order.
func faultRows() []faultRow {
	// What a stop interrupts runs again to its end: it lasts long enough for a stop to come in its middle.
	long := func() map[string]any { return steps(500, 0.03, 1) }
	return []faultRow{
		{cause: "graph refused", request: steps(-1, 0, 1), job: "failed graph_rejected", worker: "ready"},
		{cause: "node raised", request: node("SimRaise", `"kind": "ValueError"`), job: "failed node_exception", attempts: 1, worker: "ready"},
		{cause: "engine's disk full", env: simFault("disk-full"), request: steps(2, 0, 1), job: "failed node_exception", attempts: 1, worker: "ready"},
		{cause: "out of memory once", request: node("SimOOM", ""), job: "completed", attempts: 2, worker: "ready"},
		{cause: "out of memory twice", request: node("SimOOM", `"times": 2, "lasting": true`), job: "completed", attempts: 3, worker: "ready", exits: 1, reason: "needs a fresh process"},
		{cause: "out of memory always", request: node("SimOOM", `"times": 0`), job: "failed out_of_memory", attempts: 3, worker: "ready", exits: 1, reason: "needs a fresh process"},
		{cause: "process killed", request: waits(), act: released(signalWorker(syscall.SIGKILL)), job: "completed", attempts: 2, worker: "ready", exits: 1, reason: "SIGKILL"},
		{cause: "crash once", request: node("SimCrash", `"kind": "segv", "once": true`), job: "completed", attempts: 2, worker: "ready", exits: 1, reason: "SIGSEGV"},
		{cause: "crash always", request: node("SimCrash", `"kind": "exit"`), job: "failed worker_crashed", attempts: 3, worker: "ready", exits: 3, reason: "exit 3"},
		{cause: "output that is no JSON", request: node("SimPoison", ""), job: "failed worker_crashed", attempts: 3, worker: "ready", exits: 3, reason: "exit 1"},
		{cause: "poisoned CUDA context", request: node("SimCudaError", ""), job: "failed worker_crashed", attempts: 3, worker: "ready", exits: 3, reason: "CUDA error"},
		{cause: "unreachable, refuses", slow: true, env: simFault("deaf-at-step=3"), request: steps(5, 0.02, 1), job: "completed", attempts: 2, worker: "ready", exits: 1, reason: "connection refused"},
		{cause: "unreachable, hangs", slow: true, request: waits(), act: released(signalWorker(syscall.SIGSTOP)), job: "completed", attempts: 2, worker: "ready", exits: 1, reason: "deadline exceeded"},
		{cause: "wedged in start", env: append(simFault("slow-start=1h"), "COMFYFLEET_START_TIMEOUT=1s"), request: steps(2, 0, 1), job: "queued", worker: "backoff", exits: 2, reason: "did not answer within 1s of its start"},
		{cause: "wedged in load", env: append(simFault("hang-in-load"), impatient), request: loading(), job: "completed", attempts: 2, worker: "ready", exits: 1, reason: "in node 1 (VAELoader)"},
		{cause: "wedged in a step", env: []string{impatient}, request: node("SimHang", `"once": true`), job: "completed", attempts: 2, worker: "ready", exits: 1, reason: "no progress for"},
		{cause: "wedged at its end", env: append(simFault("hang-at-end"), impatient), request: steps(2, 0, 1), job: "completed", attempts: 2, worker: "ready", exits: 1, reason: "queue is stuck"},
		{cause: "wedged in collect", attached: true, fault: "hang-in-view", env: []string{impatient}, request: steps(2, 0, 1), job: "completed", attempts: 2, worker: "ready"},
		{cause: "frozen process", env: []string{impatient}, request: waits(), act: released(signalWorker(syscall.SIGSTOP)), job: "completed", attempts: 2, worker: "ready", exits: 1, reason: "no progress for"},
		{cause: "dead worker thread", env: []string{impatient}, request: node("SimZombie", ""), job: "failed worker_crashed", attempts: 3, worker: "ready", exits: 3, reason: "in node 2 (SimZombie)"},
		{cause: "interrupted by a stranger", request: waits(), act: released(interruptEngine), job: "completed", attempts: 2, worker: "ready"},
		{cause: "socket silent", env: simFault("ws-silent"), request: steps(5, 0.02, 1), job: "completed", attempts: 1, worker: "ready"},
		{cause: "socket dropped", env: simFault("ws-drop-after=4"), request: steps(20, 0.05, 1), job: "completed", attempts: 1, worker: "ready"},
		{cause: "socket late", env: simFault("ws-late=1s"), request: steps(5, 0.02, 1), job: "completed", attempts: 1, worker: "ready"},
		{cause: "socket says all twice", env: simFault("ws-duplicate"), request: steps(5, 0.02, 1), job: "completed", attempts: 1, worker: "ready"},
		{cause: "history unreadable", env: simFault("history-500"), request: steps(2, 0, 1), job: "failed outputs_failed", attempts: 3, worker: "ready"},
		{cause: "deadline before the start", env: simFault("slow-start=10s"), request: timed(steps(2, 0, 1), 1), job: "failed deadline_exceeded", worker: "ready"},
		{cause: "deadline while running", env: []string{"COMFYFLEET_MIN_READY=1"}, warm: true, request: timed(steps(100_000, 0.02, 1), 15), job: "failed deadline_exceeded", attempts: 1, worker: "ready"},
		{cause: "deadline, interrupt ignored", env: []string{"COMFYFLEET_MIN_READY=1"}, warm: true, request: timed(node("SimSleep", `"seconds": 600, "seed": 1`), 15), job: "failed deadline_exceeded", attempts: 1, worker: "ready", exits: 1, reason: "ignored interrupts"},
		{cause: "cancelled while queued", env: simFault("slow-start=10s"), request: steps(2, 0, 1), early: true, act: cancelIn(models.PhaseWaiting), job: "failed canceled", worker: "ready"},
		{cause: "cancelled while staged", ahead: waits(), request: steps(2, 0, 1), early: true, act: released(cancelIn(models.PhaseStaged)), job: "failed canceled", worker: "ready"},
		{cause: "cancelled while running", request: steps(100_000, 0.02, 1), act: cancelIn(models.PhaseExecuting), job: "failed canceled", attempts: 1, worker: "ready"},
		{cause: "cancelled, interrupt ignored", request: node("SimSleep", `"seconds": 600, "seed": 1`), act: cancelAsleep, job: "failed canceled", attempts: 1, worker: "ready", exits: 1, reason: "ignored interrupts"},
		{cause: "server killed", request: waits(), act: released((*testServer).replaced), job: "completed", attempts: 1, worker: "ready"},
		{cause: "server stopped", env: []string{briefStop}, request: long(), act: (*testServer).stopped, job: "completed", attempts: 1, worker: "ready"},
		{cause: "restarted, SIGINT ignored", env: simFault("ignore-sigint"), request: waits(), act: released(restartWorker), job: "completed", attempts: 2, worker: "ready", exits: 1, reason: "restarted by an operator"},
		{cause: "server stopped, SIGINT ignored", env: append(simFault("ignore-sigint"), briefStop), request: long(), act: (*testServer).stopped, job: "completed", attempts: 1, worker: "ready"},
		{cause: "engine restarted by its owner", attached: true, request: waits(), act: released((*testServer).restartEngine), job: "completed", attempts: 2, worker: "ready"},
		{cause: "flag not understood", env: []string{"COMFYFLEET_SIM_ARGS=--no-such-flag"}, request: steps(2, 0, 1), job: "queued", worker: "quarantined", exits: 1, reason: "did not understand a flag"},
		{cause: "start that fails", env: simFault("exit-at-start=7"), request: steps(2, 0, 1), job: "queued", worker: "backoff", exits: 2, reason: "exit 7"},
		{cause: "start that is slow", env: simFault("slow-start=1s"), request: steps(2, 0, 1), job: "completed", attempts: 1, worker: "ready"},
	}
}

// TestWhatFollowsFromEachFault injects every cause into real processes and looks at the job, the worker and the clock.
// `make faults` prints the table.
func TestWhatFollowsFromEachFault(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]string{}
	// They wait more than they compute: more of them at once than t.Parallel would allow on a small machine.
	var rows errgroup.Group
	rows.SetLimit(6)
	list := faultRows()
	slices.SortStableFunc(list, func(a, b faultRow) int { return cmp.Compare(b.patience(), a.patience()) }) // slow ones begin first
	for _, row := range list {
		rows.Go(func() error {
			t.Run(row.cause, func(t *testing.T) {
				line := row.run(t)
				mu.Lock()
				defer mu.Unlock()
				seen[row.cause] = line
			})
			return nil
		})
	}
	require.NoError(t, rows.Wait())
	table := &strings.Builder{}
	w := tabwriter.NewWriter(table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "INJECTED\tTHE JOB BECAME\tATTEMPTS\tTHE WORKER BECAME\tPROCESSES ENDED\tTOOK\tBECAUSE")
	for _, row := range faultRows() {
		if line := seen[row.cause]; line != "" { // "" when it failed
			fmt.Fprintln(w, line)
		}
	}
	require.NoError(t, w.Flush())
	t.Log("\n" + table.String())
	if file := os.Getenv("FAULT_TABLE"); file != "" { // go test keeps what a passing test prints to itself
		require.NoError(t, os.WriteFile(file, []byte(table.String()), 0o644))
	}
}

// run injects one fault and answers its line of the table.
func (row faultRow) run(t *testing.T) (line string) {
	s := newServer(t, append([]string{"COMFYFLEET_WORKERS=sim:1", quick}, row.env...)...)
	if row.attached {
		s.attach(row.fault)
	}
	s.start()
	if row.warm {
		s.untilWorker("ready", 0)
	}
	ahead := ""
	if row.ahead != nil {
		ahead = s.submit(row.ahead)
		s.running(ahead)
	}
	began := time.Now()
	id := s.submit(row.request)
	if row.act != nil {
		if !row.early {
			s.running(id)
		}
		row.act(s, id)
	}
	job := s.until(id, row.job, row.patience(), func(j jobStatus) bool { return became(j) == row.job })
	if ahead != "" {
		require.Equal(t, 1, s.completed(ahead).Attempts)
	}
	worker := s.untilWorker(row.worker, row.exits)
	took := time.Since(began)
	require.Equal(t, row.attempts, job.Attempts)
	if row.worker == models.WorkerReady {
		require.Len(t, worker.Exits, row.exits)
	} else { // one that cannot start ends again and again while we look
		require.GreaterOrEqual(t, len(worker.Exits), row.exits)
	}
	why := worker.Reason
	if row.exits > 0 {
		why = worker.Exits[len(worker.Exits)-1].Reason + " " + why
	}
	require.Contains(t, why, row.reason)
	if job.Status == "completed" {
		require.Len(t, job.Outputs, 1)
	}
	if row.worker == models.WorkerReady && !strings.Contains(strings.Join(row.env, " "), "--fault") {
		s.completed(s.submit(steps(2, 0, 77))) // the worker is as good as before
	}
	return fmt.Sprintf("%s\t%s\t%d\t%s\t%d\t%.1f s\t%s", row.cause, became(job), job.Attempts, worker.State, len(worker.Exits), took.Seconds(), clip(why, 60))
}

func (row faultRow) patience() time.Duration {
	if row.slow {
		return 2 * patience
	}
	return patience
}

// became is a job's status with the code of its failure.
func became(j jobStatus) string { return strings.TrimSpace(j.Status + " " + j.ErrorCode) }

func clip(s string, n int) string {
	if r := []rune(strings.TrimSpace(s)); len(r) > n {
		return string(r[:n]) + "…"
	}
	return strings.TrimSpace(s)
}
