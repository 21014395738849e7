package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// write makes files in a new directory and answers their paths in the order of pairs of name and text.
func write(t *testing.T, pairs ...string) []string {
	t.Helper()
	dir := t.TempDir()
	var paths []string
	for i := 0; i < len(pairs); i += 2 {
		path := filepath.Join(dir, pairs[i])
		require.NoError(t, os.WriteFile(path, []byte(pairs[i+1]), 0o644))
		paths = append(paths, path)
	}
	return paths
}

const graph = `{"1": {"class_type": "LoadImage", "inputs": {"image": "107.png"}}}`

func TestSubmitRunsAFileAndSavesItsOutputs(t *testing.T) {
	s := newService(t)
	s.status = inTurn(answer(`{"job_id":"j","status":"running","progress":50,"current_node":"1","nodes_total":1}`), s.completed)
	files := write(t, "graph.json", "\xef\xbb\xbf"+graph, "in.png", "picture")
	out := filepath.Join(t.TempDir(), "new", "outputs")
	var stdout, stderr bytes.Buffer
	err := Submit(t.Context(), SubmitOptions{Server: s.url, Key: testKey, Files: files[:1], Out: out, Priority: 3, Webhook: "https://example.com/hook",
		Set: []string{"1.image=107.png", "1.scale=2", `1.list={"__value__":[1]}`, "1.images.image0=a=b"}, Media: []string{"107.png=" + files[1], "web=https://example.com/x"},
		Stdout: &stdout, Stderr: &stderr})
	require.NoError(t, err)
	path := filepath.Join(out, "00000001_x.png")
	require.Equal(t, path+"\n", stdout.String())
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, s.file, raw)
	require.Contains(t, stderr.String(), "graph.json:  50%, node 0/1, LoadImage")
	require.Regexp(t, `graph.json: done in \d:\d\d, job 00000001-job, 1 file`, stderr.String())
	require.Equal(t, []any{
		map[string]any{"node": "1", "field": "image", "value": "107.png", "type": "raw"},
		map[string]any{"node": "1", "field": "scale", "value": 2.0, "type": "raw"},
		map[string]any{"node": "1", "field": "list", "value": map[string]any{"__value__": []any{1.0}}, "type": "raw"},
		map[string]any{"node": "1", "field": "images.image0", "value": "a=b", "type": "raw"},
	}, s.bodies[0]["inputs"])
	require.Equal(t, []any{map[string]any{"name": "107.png", "data": "cGljdHVyZQ=="}, map[string]any{"name": "web", "url": "https://example.com/x"}}, s.bodies[0]["media"])
	require.EqualValues(t, 3, s.bodies[0]["priority"])
	require.Equal(t, "https://example.com/hook", s.bodies[0]["webhook_url"])
}

func TestSubmitTakesWholeRequests(t *testing.T) {
	s := newService(t)
	files := write(t, "payload.json", `{"workflow_id": "w@prod", "params": {"seed": 18446744073709551615}, "inputs": [{"node": "1", "field": "a", "value": 1}], "media": [{"name": "a", "data": "YWJj"}], "priority": 2}`,
		"named.json", `{"workflow": {"class_type": "A", "inputs": {}}}`, "in.png", "x")
	require.NoError(t, Submit(t.Context(), SubmitOptions{Server: s.url, Key: testKey, Files: files[:1], Set: []string{"2.b=x"}, Media: files[2:], Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}}))
	body := s.bodies[0]
	require.Equal(t, "w@prod", body["workflow_id"])
	require.NotContains(t, body, "workflow")
	require.Len(t, body["inputs"], 2)
	require.Equal(t, []any{map[string]any{"name": "a", "data": "YWJj"}, map[string]any{"name": "in.png", "data": "eA=="}}, body["media"])
	require.EqualValues(t, 2, body["priority"])
	require.NoError(t, Submit(t.Context(), SubmitOptions{Server: s.url, Key: testKey, Files: files[1:2], Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}}))
	require.Contains(t, s.bodies[1]["workflow"], "workflow", "a graph with a node of that name")
}

func TestABatchTriesEveryFileAndSaysHowManyFailed(t *testing.T) {
	s := newService(t)
	s.submit = inTurn(s.accept, refuse(422, "", "node 9 is unknown"), s.accept)
	s.status = func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("id") == "00000001-job" {
			fmt.Fprint(w, `{"job_id":"00000001-job","status":"failed","error":"node 3 raised","error_log_tail":["line \u001b[31mone","line two"]}`)
			return
		}
		s.completed(w, r)
	}
	files := write(t, "a.json", graph, "b.json", graph, "c.json", graph)
	var stdout, stderr bytes.Buffer
	err := Submit(t.Context(), SubmitOptions{Server: s.url, Key: testKey, Files: files, Parallel: 1, JSON: true, Stdout: &stdout, Stderr: &stderr})
	require.ErrorIs(t, err, ErrJobsFailed)
	require.ErrorContains(t, err, "2 of 3 failed")
	var results []Result
	for dec := json.NewDecoder(&stdout); dec.More(); {
		var r Result
		require.NoError(t, dec.Decode(&r))
		results = append(results, r)
	}
	require.Len(t, results, 3)
	require.Equal(t, files[0], results[0].File)
	require.Equal(t, "failed", results[0].Status)
	require.Equal(t, "job 00000001-job: node 3 raised", results[0].Error)
	require.Equal(t, "", results[1].JobID)
	require.Contains(t, results[1].Error, "node 9 is unknown (422)")
	require.Equal(t, "completed", results[2].Status)
	require.Contains(t, stderr.String(), "    | line [31mone\n    | line two\n", "without the escape")
	require.Contains(t, stderr.String(), "    media[0].data: is broken\n")
}

func TestABatchKeepsSoManyUnderWay(t *testing.T) {
	s := newService(t)
	var now, most atomic.Int32
	three := make(chan struct{})
	var once sync.Once
	s.status = func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if n == 3 {
			once.Do(func() { close(three) })
		}
		<-three
		s.completed(w, r)
	}
	pairs := []string{}
	for i := range 9 {
		pairs = append(pairs, fmt.Sprintf("%d.json", i), graph)
	}
	require.NoError(t, Submit(t.Context(), SubmitOptions{Server: s.url, Key: testKey, Files: write(t, pairs...), Parallel: 3, Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}}))
	require.EqualValues(t, 3, most.Load())
	require.Len(t, s.bodies, 9)
}

func TestFilesOfOneNameAreToldApart(t *testing.T) {
	tasks := []task{{file: "a/w.json"}, {file: "b/w.json"}, {file: "b/x.json"}}
	nameTasks(tasks)
	require.Equal(t, []string{"a/w.json", "b/w.json", "x.json"}, []string{tasks[0].name, tasks[1].name, tasks[2].name})
}

func TestNothingIsSentWhenAnArgumentIsWrong(t *testing.T) {
	s := newService(t)
	files := write(t, "good.json", graph, "bad.json", "[1]")
	for what, o := range map[string]SubmitOptions{
		"no files":                {},
		"a file that is absent":   {Files: []string{files[0], files[0] + "x"}},
		"a file that is no graph": {Files: files},
		"set without a field":     {Files: files[:1], Set: []string{"1=2"}},
		"set without a value":     {Files: files[:1], Set: []string{"1.a"}},
		"media that is absent":    {Files: files[:1], Media: []string{"a=" + files[0] + "x"}},
		"media without a name":    {Files: files[:1], Media: []string{"=" + files[0]}},
		"media that is a folder":  {Files: files[:1], Media: []string{"a=" + filepath.Dir(files[0])}},
	} {
		t.Run(what, func(t *testing.T) {
			o.Server, o.Key, o.Stdout, o.Stderr = s.url, testKey, &bytes.Buffer{}, &bytes.Buffer{}
			err := Submit(t.Context(), o)
			require.Error(t, err)
			require.NotErrorIs(t, err, ErrJobsFailed)
		})
	}
	require.Empty(t, s.requests)
}

func TestAnInterruptedBatchSaysThatJobsGoOn(t *testing.T) {
	s := newService(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.status = func(w http.ResponseWriter, r *http.Request) {
		cancel()
		fmt.Fprint(w, `{"job_id":"j","status":"running"}`)
	}
	files := write(t, "a.json", graph, "b.json", graph)
	err := Submit(ctx, SubmitOptions{Server: s.url, Key: testKey, Files: files, Parallel: 1, Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "go on at the server")
	require.Len(t, s.bodies, 1)
}

func TestTheDemoRunsAWorkflowOfTheLibrary(t *testing.T) {
	s := newService(t)
	s.status = inTurn(answer(`{"job_id":"00000001-job","status":"running","simulated":true}`),
		func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, `{"job_id":"00000001-job","status":"completed","simulated":true,"outputs":[{"filename":"v.mp4","size_bytes":9,"url":"/v1/outputs/1"}]}`)
		})
	out := filepath.Join(t.TempDir(), "outputs")
	var stdout bytes.Buffer
	o := DemoOptions{Server: s.url, Key: testKey, Out: out, WorkflowID: "wan", Title: "Wan", Media: map[string][]byte{"b": []byte("2"), "a": []byte("1")}, Stdout: &stdout}
	require.NoError(t, RunDemo(t.Context(), o))
	saved := "(simulated: no card was used)\n  saved " + filepath.Join(out, "00000001_v.mp4") + "\n"
	require.Regexp(t, `Wan: done in \d:\d\d, job 00000001-job, 1 file `+regexp.QuoteMeta(saved), stdout.String())
	require.Equal(t, "wan", s.bodies[0]["workflow_id"])
	require.Equal(t, []any{map[string]any{"name": "a", "data": "MQ=="}, map[string]any{"name": "b", "data": "Mg=="}}, s.bodies[0]["media"])

	s.status = answer(`{"job_id":"j","status":"failed","error":"out of memory"}`)
	require.Error(t, RunDemo(t.Context(), o))
	require.Contains(t, stdout.String(), "Wan: failed: job j: out of memory")
}
