package sim_test

import (
	"context"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"comfyfleet/gpu/sim"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// faulty starts a server with faults.
func faulty(t *testing.T, texts ...string) *rig {
	t.Helper()
	return start(t, func(o *sim.Options) {
		for _, text := range texts {
			f, err := sim.ParseFault(text)
			require.NoError(t, err)
			o.Faults = append(o.Faults, f)
		}
	})
}

func TestFaultArgumentsAreChecked(t *testing.T) {
	for _, bad := range []string{"nope", "slow-start=x", "crash-at-step=", "crash-at-step=a/kill", "ws-silent=1", "huge-output=1k"} {
		_, err := sim.ParseFault(bad)
		require.Error(t, err, bad)
	}
	for _, f := range sim.Faults() {
		require.NotEmpty(t, f.Does, f.Name)
	}
}

func TestStepFaults(t *testing.T) {
	r := faulty(t, "oom-at-step=2", "cuda-error=5")
	s := r.dial("a")
	_, first := r.run(s, stepped(1, 3, 0.001, false))
	require.Contains(t, strings.Join(first, "\n"), "execution_error 2 SimSteps torch.OutOfMemoryError")
	_, second := r.run(s, stepped(2, 3, 0.001, false))
	require.Contains(t, strings.Join(second, "\n"), "CUDA error: an illegal memory access")
	_, third := r.run(s, stepped(3, 3, 0.001, false))
	require.Contains(t, strings.Join(third, "\n"), `execution_error 1 EmptyImage torch.AcceleratorError "CUDA error`, "it is sticky")

	r = faulty(t, "crash-at-step=2/kill")
	r.submit(stepped(1, 3, 0.001, false), "")
	require.Equal(t, "kill 3", <-r.died)
}

func TestAHangHearsNoInterrupt(t *testing.T) {
	r := faulty(t, "hang-at-step=1")
	s := r.dial("a")
	id := r.submit(stepped(1, 3, 0.001, false), "a")
	s.executing(id, "2")
	require.Eventually(t, func() bool { return r.sim.Steps() == 1 }, patience, tick, "before the step an interrupt is heard")
	require.Equal(t, true, r.do("POST", "/api/jobs/"+id+"/cancel", nil).json(t)["cancelled"])
	next := r.submit(stepped(2, 1, 0.001, false), "a")
	require.Equal(t, "in_progress", r.jobStatus(id))
	require.Equal(t, "pending", r.jobStatus(next))
}

func TestADeadWorkerThreadLooksHealthy(t *testing.T) {
	for name, graph := range map[string]string{
		"node":  `{"1":{"class_type":"EmptyImage","inputs":{"width":8,"height":8,"batch_size":1,"color":1}},"2":{"class_type":"SimZombie","inputs":{"image":["1",0]}}}`,
		"raise": `{"1":{"class_type":"EmptyImage","inputs":{"width":8,"height":8,"batch_size":1,"color":1}},"2":{"class_type":"SimRaise","inputs":{"image":["1",0],"kind":"SystemExit"}}}`,
		"fault": stepped(1, 1, 0.001, false),
	} {
		var r *rig
		if name == "fault" {
			r = faulty(t, "zombie")
		} else {
			r = start(t)
		}
		id := r.submit(graph, "")
		<-r.sim.WorkerEnded()
		require.Equal(t, "in_progress", r.jobStatus(id), name)
		next := r.submit(stepped(2, 1, 0.001, false), "")
		require.Equal(t, "pending", r.jobStatus(next), name)
		require.Equal(t, true, r.do("POST", "/api/jobs/"+id+"/cancel", nil).json(t)["cancelled"], name)
		require.Equal(t, 200, r.do("GET", "/system_stats", nil).status, name)
		require.Equal(t, 2.0, r.do("GET", "/prompt", nil).json(t)["exec_info"].(M)["queue_remaining"], name)
		require.Equal(t, M{}, r.do("GET", "/history/"+id, nil).json(t), name)
	}
}

func TestAPoisonedUI(t *testing.T) {
	const graph = `{"1":{"class_type":"EmptyImage","inputs":{"width":8,"height":8,"batch_size":1,"color":1}},"2":{"class_type":"SimPoison","inputs":{"image":["1",0]}}}`
	r := start(t)
	id := r.submit(graph, "nobody")
	require.Eventually(t, func() bool { return r.do("GET", "/history/"+id, nil).status == 500 }, patience, tick, "without a listener only its history is broken")
	require.Equal(t, 500, r.do("GET", "/history", nil).status)
	require.Equal(t, 200, r.do("GET", "/api/jobs", nil).status)
	require.Equal(t, 200, r.do("POST", "/history", M{"delete": []string{id}}).status)
	require.Equal(t, 200, r.do("GET", "/history", nil).status)

	r = start(t)
	r.dial("a")
	r.submit(graph, "a")
	require.Equal(t, "exit 1", <-r.died, "with a listener the process ends")
}

func TestSocketFaults(t *testing.T) {
	r := faulty(t, "ws-silent")
	s := r.dial("a")
	r.history(r.submit(stepped(1, 2, 0.001, false), "a"))
	require.Len(t, s.messages(), 1)

	r = faulty(t, "ws-drop-after=4")
	s = r.dial("a")
	r.history(r.submit(stepped(1, 2, 0.001, false), "a"))
	require.Eventually(t, s.closed, patience, tick)
	require.Len(t, s.messages(), 4)

	r = faulty(t, "ws-duplicate")
	s = r.dial("a")
	id := r.submit(stepped(1, 1, 0.001, false), "a")
	s.end(id)
	require.Eventually(t, func() bool {
		n := 0
		for _, g := range s.of(id) {
			if g.kind == "execution_success" {
				n++
			}
		}
		return n == 2
	}, patience, tick)

	r = faulty(t, "ws-late=1h")
	s = r.dial("a")
	r.history(r.submit(stepped(1, 1, 0.001, false), "a"))
	require.Len(t, s.messages(), 1, "history knows before the socket does")
	r = faulty(t, "ws-late=1ms")
	r.run(r.dial("a"), stepped(1, 1, 0.001, false))
}

func TestHTTPFaults(t *testing.T) {
	r := faulty(t, "queue-500")
	require.Equal(t, 500, r.do("GET", "/queue", nil).status)
	r = faulty(t, "history-500")
	require.Equal(t, 500, r.do("GET", "/history/x", nil).status)
	r = faulty(t, "reject-all")
	require.Equal(t, 400, r.do("POST", "/prompt", `{"prompt":`+stepped(1, 1, 0.001, false)+`}`).status)
}

func TestFileFaults(t *testing.T) {
	r := faulty(t, "disk-full")
	s := r.dial("a")
	_, heard := r.run(s, stepped(1, 1, 0.001, false))
	require.Contains(t, strings.Join(heard, "\n"), "OSError \"[Errno 28] No space left on device")

	r = faulty(t, "huge-output=500000", "slow-view=2000000")
	r.history(r.submit(stepped(1, 1, 0.001, false), ""))
	began := time.Now()
	a := r.do("GET", "/view?filename=steps_00001_.png&subfolder=t", nil)
	require.Greater(t, len(a.body), 500_000)
	require.Greater(t, time.Since(began), 150*time.Millisecond)
}

// One client that stops reading stalls the events of all, until it goes.
func TestASlowClientStallsTheOthers(t *testing.T) {
	r := start(t)
	narrow := httptest.NewUnstartedServer(r.sim.Handler()) // whose connections hold no long event
	narrow.Config.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		assert.NoError(t, conn.(*net.TCPConn).SetWriteBuffer(4096))
		return ctx
	}
	narrow.Start()
	t.Cleanup(narrow.Close)
	there := *r
	there.base = narrow.URL
	slow := there.dialRaw("slow", 4096)
	other := r.dial("other")
	r.history(r.submit(`{"1":{"class_type":"EmptyImage","inputs":{"width":8,"height":8,"batch_size":1,"color":1}},
		"2":{"class_type":"SimRaise","inputs":{"image":["1",0],"kind":"ValueError","message":"`+strings.Repeat("long ", 100_000)+`"}}}`, "slow"))
	probe := r.submit(stepped(2, 1, 0.001, false), "other")
	r.history(probe)
	require.Empty(t, other.of(probe), "all of its events wait")
	require.NoError(t, slow.Close())
	other.end(probe)
}
