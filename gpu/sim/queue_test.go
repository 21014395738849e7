package sim_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"comfyfleet/gpu/sim"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// waiting is a graph that blocks without progress before its output, until release.
const waiting = `{"1":{"class_type":"EmptyImage","inputs":{"width":32,"height":32,"batch_size":1,"color":1}},
	"2":{"class_type":"SimWait","inputs":{"image":["1",0]}},
	"3":{"class_type":"SaveImage","inputs":{"images":["2",0],"filename_prefix":"t/wait"}}}`

// release lets the nodes go on that wait.
func (r *rig) release() {
	r.t.Helper()
	require.Equal(r.t, 200, r.upload("/upload/image", "go", nil).status)
}

// endless is a graph whose steps go on for longer than any test, until it is interrupted.
func endless(colour int, preview bool) string { return stepped(colour, 100_000, 0.5, preview) }

func (r *rig) jobStatus(id string) any { return r.do("GET", "/api/jobs/"+id, nil).json(r.t)["status"] }

func (s *socket) executing(id, node string) {
	s.t.Helper()
	s.wait("executing "+node, func(g got) bool {
		return g.kind == "executing" && g.data["node"] == node && g.data["prompt_id"] == id
	})
}

func TestAnInterruptLandsAtTheNextStep(t *testing.T) {
	r := start(t)
	s := r.dial("a")
	id := r.submit(endless(1, false), "a")
	s.step(id, "2", 1)
	require.Equal(t, 200, r.do("POST", "/interrupt", M{"prompt_id": uuid.NewString()}).status)
	s.step(id, "2", 3)
	a := r.do("POST", "/interrupt", M{"prompt_id": id})
	require.Equal(t, 200, a.status)
	require.Empty(t, a.body)
	s.end(id)
	heard := lines(s.of(id))
	require.Equal(t, []string{`execution_interrupted 2 SimSteps executed ["1"]`, "status 0", "executing null"}, heard[len(heard)-3:])
	entry := r.history(id)
	require.Equal(t, "error", entry["status"].(M)["status_str"])
	require.Equal(t, M{}, entry["outputs"])
	require.Equal(t, "cancelled", r.jobStatus(id))
}

func TestAnInterruptInABlockingNodeLandsAtTheNextNode(t *testing.T) {
	r := start(t)
	s := r.dial("a")
	id := r.submit(waiting, "a")
	s.executing(id, "2")
	r.do("POST", "/interrupt", nil)
	r.release()
	s.end(id)
	require.Contains(t, lines(s.of(id)), `execution_interrupted 3 SaveImage executed ["1","2"]`)
}

func TestAnInterruptInALastNodeIsTooLate(t *testing.T) {
	r := start(t)
	s := r.dial("a")
	id := r.submit(`{"1":{"class_type":"SimWait","inputs":{}}}`, "a")
	s.executing(id, "1")
	require.Equal(t, 200, r.do("POST", "/interrupt", M{"prompt_id": id}).status)
	r.release()
	s.end(id)
	require.Contains(t, lines(s.of(id)), "execution_success")
	require.Equal(t, "success", r.history(id)["status"].(M)["status_str"])
}

func TestAnInterruptOfAnIdleServerDoesNotLeak(t *testing.T) {
	r := start(t)
	s := r.dial("a")
	require.Equal(t, 200, r.do("POST", "/interrupt", nil).status)
	_, heard := r.run(s, stepped(1, 2, 0.001, false))
	require.Contains(t, heard, "execution_success")
}

func TestCancelCoversPendingRunningAndNothing(t *testing.T) {
	r := start(t)
	s := r.dial("a")
	running := r.submit(endless(1, false), "a")
	s.step(running, "2", 1)
	pending, batch := r.submit(stepped(2, 2, 0.001, false), "a"), r.submit(stepped(3, 2, 0.001, false), "a")
	require.Equal(t, "pending", r.jobStatus(pending))
	cancel := func(path string, body any) any { return r.do("POST", path, body).json(t)["cancelled"] }
	require.Equal(t, true, cancel("/api/jobs/"+pending+"/cancel", nil))
	require.Equal(t, true, cancel("/api/jobs/cancel", M{"job_ids": []string{batch, uuid.NewString()}}))
	require.Equal(t, true, cancel("/api/jobs/"+running+"/cancel", nil))
	s.end(running)
	require.Equal(t, false, cancel("/api/jobs/"+running+"/cancel", nil), "finished")
	require.Equal(t, false, cancel("/api/jobs/"+uuid.NewString()+"/cancel", nil), "unknown")
	require.Equal(t, M{}, r.do("GET", "/history/"+pending, nil).json(t), "what was pending leaves no trace")
	bad := r.do("POST", "/api/jobs/cancel", M{"job_ids": []string{"nope"}})
	require.Equal(t, 400, bad.status)
	require.JSONEq(t, `{"error":"job_ids contains invalid id(s)","invalid_ids":["nope"]}`, string(bad.body))
	require.Equal(t, 404, r.do("GET", "/api/jobs/"+pending, nil).status)

	list := r.do("GET", "/api/jobs?status=cancelled&limit=1", nil).json(t)
	require.Equal(t, M{"offset": 0.0, "limit": 1.0, "total": 1.0, "has_more": false}, list["pagination"])
	require.Equal(t, 400, r.do("GET", "/api/jobs?status=bogus", nil).status)
}

func TestDeletingPendingPrompts(t *testing.T) {
	r := start(t)
	s := r.dial("a")
	running := r.submit(endless(1, false), "a")
	s.step(running, "2", 1)
	var ids []string
	for i := range 3 {
		ids = append(ids, r.submit(stepped(10+i, 2, 0.001, false), "a"))
	}
	require.Equal(t, 200, r.do("POST", "/queue", M{"delete": []string{ids[0], running}}).status)
	require.Equal(t, 3.0, r.do("GET", "/prompt", nil).json(t)["exec_info"].(M)["queue_remaining"], "the running one stays")
	require.Equal(t, 200, r.do("POST", "/queue", M{"clear": true}).status)
	require.Equal(t, 1.0, r.do("GET", "/prompt", nil).json(t)["exec_info"].(M)["queue_remaining"])
	r.do("POST", "/interrupt", nil)
	s.end(running)
	require.Equal(t, M{}, r.do("GET", "/history/"+ids[0], nil).json(t))
}

func TestNumbersOrderTheQueueAndQueueShowsTheHeap(t *testing.T) {
	r := start(t)
	s := r.dial("a")
	first := r.submit(endless(1, false), "a")
	s.step(first, "2", 1)
	names := map[string]string{}
	add := func(name string, more M) {
		names[r.submit(stepped(100+len(names), 1, 0.001, false), "a", more)] = name
	}
	add("second", M{"extra_data": M{"my_tag": "kept"}})
	add("third", nil)
	add("front", M{"front": true})
	add("number -1000", M{"number": -1000})
	add("number 2.5e9", M{"number": 2500000000.0})
	add("front again", M{"front": true})

	q := r.do("GET", "/queue", nil).json(t)
	var shown []string
	for _, item := range q["queue_pending"].([]any) {
		tuple := item.([]any)
		require.Len(t, tuple, 5)
		shown = append(shown, fmt.Sprint(names[tuple[1].(string)], " ", tuple[0]))
		require.Equal(t, "a", tuple[3].(M)["client_id"])
		require.NotZero(t, tuple[3].(M)["create_time"])
		require.Equal(t, []any{"3"}, tuple[4])
	}
	require.Len(t, q["queue_running"], 1)
	r.do("POST", "/interrupt", nil)
	for id := range names {
		s.end(id)
	}
	var ran []string
	for _, g := range s.messages() {
		if name := names[fmt.Sprint(g.data["prompt_id"])]; g.kind == "execution_start" && name != "" {
			ran = append(ran, name)
		}
	}
	golden(t, "queue_order", "# heap\n"+strings.Join(shown, "\n")+"\n# run\n"+strings.Join(ran, "\n")+"\n")
}

func TestIDsAreNotDeduplicated(t *testing.T) {
	r := start(t)
	s := r.dial("a")
	blocker := r.submit(endless(1, false), "a")
	s.step(blocker, "2", 1)
	id := uuid.NewString()
	post := func(colour int, more M) answer {
		body := M{"prompt": json.RawMessage(stepped(colour, 1, 0.001, false)), "client_id": "a", "prompt_id": id}
		for k, v := range more {
			body[k] = v
		}
		return r.do("POST", "/prompt", body)
	}
	require.Equal(t, 200, post(1001, nil).status)
	require.Equal(t, 200, post(1002, nil).status, "the same id again")
	require.Equal(t, 200, post(1003, M{"number": -500}).status)
	again := post(1004, M{"number": -500})
	require.Equal(t, 500, again.status, "the same id and number")
	require.Equal(t, "500 Internal Server Error\n\nServer got itself in trouble", string(again.body))
	require.Equal(t, 5.0, r.do("GET", "/prompt", nil).json(t)["exec_info"].(M)["queue_remaining"], "but it is queued")
	r.do("POST", "/interrupt", nil)
	require.Eventually(t, func() bool {
		n := 0
		for _, g := range s.messages() {
			if g.kind == "execution_success" && g.data["prompt_id"] == id {
				n++
			}
		}
		return n == 4
	}, patience, tick, "all four run")
	all := r.do("GET", "/history", nil).json(t)
	require.Len(t, all, 2, "the later ones overwrote the earlier ones' entry")
}

func TestHistoryPagesAndDeletes(t *testing.T) {
	r := start(t)
	s := r.dial("a")
	var ids []string
	for i := range 4 {
		id, _ := r.run(s, stepped(i, 1, 0.001, false))
		ids = append(ids, id)
	}
	keys := func(path string) (out []string) {
		a := r.do("GET", path, nil)
		for _, id := range ids {
			if strings.Contains(string(a.body), `"`+id+`":{"prompt"`) {
				out = append(out, id)
			}
		}
		return out
	}
	require.Equal(t, ids, keys("/history"))
	require.Equal(t, ids[2:], keys("/history?max_items=2"), "the last ones")
	require.Equal(t, ids[1:2], keys("/history?max_items=1&offset=1"))
	require.Equal(t, 500, r.do("GET", "/history?max_items=x", nil).status)
	require.Empty(t, r.do("POST", "/history", M{"delete": ids[:1]}).body)
	require.Equal(t, ids[1:], keys("/history"))
	r.do("POST", "/history", M{"clear": true})
	require.Empty(t, keys("/history"))
}

func TestFreeMemoryForgetsModelsAndOutputs(t *testing.T) {
	r := start(t)
	s := r.dial("a")
	const graph = `{"1":{"class_type":"VAELoader","inputs":{"vae_name":"x.safetensors"}},"2":{"class_type":"EmptyImage","inputs":{"width":32,"height":32,"batch_size":1,"color":1}},
	"3":{"class_type":"VAEEncode","inputs":{"pixels":["2",0],"vae":["1",0]}},"4":{"class_type":"VAEDecode","inputs":{"samples":["3",0],"vae":["1",0]}},
	"5":{"class_type":"SaveImage","inputs":{"images":["4",0],"filename_prefix":"v"}}}`
	free := func() float64 {
		device := r.do("GET", "/system_stats", nil).json(t)["devices"].([]any)[0].(M)
		return device["vram_total"].(float64) - device["vram_free"].(float64)
	}
	require.Zero(t, free())
	r.run(s, graph)
	require.Positive(t, free())
	_, heard := r.run(s, graph)
	require.Contains(t, heard, `execution_cached ["1","2","3","4","5"]`)
	require.Equal(t, 200, r.do("POST", "/free", M{"unload_models": true, "free_memory": true}).status)
	require.Eventually(t, func() bool { return free() == 0 }, patience, tick)
	_, heard = r.run(s, graph)
	require.Contains(t, heard, "execution_cached []")
}

func TestCachePolicies(t *testing.T) {
	for policy, want := range map[sim.CachePolicy]string{sim.CacheNone: "[]", sim.CacheClassic: "[]", sim.CacheRAM: `["1","2","3"]`} {
		r := start(t, func(o *sim.Options) { o.Cache = policy })
		s := r.dial("a")
		r.run(s, stepped(1, 1, 0.001, false))
		r.run(s, stepped(2, 1, 0.001, false))
		_, heard := r.run(s, stepped(1, 1, 0.001, false))
		require.Contains(t, heard, "execution_cached "+want, "%s", policy)
	}
}

func TestAChangedInputFileIsAChangedNode(t *testing.T) {
	r := start(t)
	s := r.dial("a")
	require.Equal(t, 200, r.upload("/upload/image", "in.png", picture(t, 96, 64)).status)
	r.run(s, chain("t/a"))
	require.Equal(t, 200, r.upload("/upload/image", "in.png", picture(t, 64, 96), "overwrite", "true").status)
	_, heard := r.run(s, chain("t/a"))
	require.Contains(t, heard, "execution_cached []")
}

func TestTheJournalRecordsExecutions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	r := start(t, func(o *sim.Options) { o.Journal = path })
	s := r.dial("a")
	ok, _ := r.run(s, stepped(1, 1, 0.001, false))
	cut := r.submit(endless(2, false), "a")
	s.step(cut, "2", 1)
	r.do("POST", "/interrupt", nil)
	s.end(cut)
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	var have []string
	for _, text := range strings.Split(strings.TrimSpace(string(raw)), "\n") {
		var e sim.JournalEntry
		require.NoError(t, json.Unmarshal([]byte(text), &e))
		require.Equal(t, "a", e.ClientID)
		require.Equal(t, os.Getpid(), e.PID)
		have = append(have, map[string]string{ok: "ok ", cut: "cut "}[e.PromptID]+e.Event+e.Node)
	}
	require.Equal(t, []string{"ok start", "ok cached", "ok end", "cut start", "cut cached", "cut interrupted2"}, have)
}
