package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/stretchr/testify/require"

	"comfyfleet/app/api"
	"comfyfleet/app/server"
	"comfyfleet/gpu"
	"comfyfleet/models"
)

// event is one event of a stream.
type event struct {
	ID    int64
	Event string
	Data  map[string]any
}

// stream reads a job's events from SSE.
type stream struct {
	t    *testing.T
	body *bufio.Scanner
	end  func()
}

func (w *world) follow(key, id string, headers ...string) *stream {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.url+"/v1/jobs/"+id+"/events", nil)
	require.NoError(w.t, err)
	req.Header.Set("X-API-Key", w.keys[key])
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	r, err := w.client.Do(req)
	require.NoError(w.t, err)
	require.Equal(w.t, http.StatusOK, r.StatusCode)
	w.t.Cleanup(func() { r.Body.Close() })
	s := &stream{t: w.t, body: bufio.NewScanner(r.Body), end: func() { r.Body.Close() }}
	s.body.Buffer(nil, 1<<20)
	return s
}

// next is the next event; ok is false at the end of the stream.
func (s *stream) next() (e event, ok bool) {
	s.t.Helper()
	for s.body.Scan() {
		line := s.body.Text()
		name, value, _ := strings.Cut(line, ": ")
		switch name {
		case "id":
			n, err := strconv.ParseInt(value, 10, 64)
			require.NoError(s.t, err)
			e.ID = n
		case "event":
			e.Event = value
		case "data":
			require.NoError(s.t, json.Unmarshal([]byte(value), &e.Data))
		case "":
			if e.Event != "" {
				return e, true
			}
		}
	}
	return e, false
}

// until reads up to the event for which match is true.
func (s *stream) until(match func(e event) bool) (seen []event) {
	s.t.Helper()
	for {
		e, ok := s.next()
		require.True(s.t, ok, "the stream ended after %v", seen)
		seen = append(seen, e)
		if match(e) {
			return seen
		}
	}
}

func (s *stream) rest() (seen []event) {
	for {
		e, ok := s.next()
		if !ok {
			return seen
		}
		seen = append(seen, e)
	}
}

func is(name, status string) func(event) bool {
	return func(e event) bool { return e.Event == name && (status == "" || e.Data["status"] == status) }
}

func names(events []event) (out []string) {
	for _, e := range events {
		if len(out) == 0 || out[len(out)-1] != e.Event {
			out = append(out, e.Event)
		}
	}
	return out
}

// script is a task that does the next thing when the test says so.
type script struct {
	steps chan func(t gpu.Task, o gpu.Observer) *gpu.Outcome
}

func (w *world) scripted() *script {
	s := &script{steps: make(chan func(gpu.Task, gpu.Observer) *gpu.Outcome)}
	w.fleet.run = func(ctx context.Context, t gpu.Task, o gpu.Observer) gpu.Outcome {
		if err := begin(ctx, t, o); err != nil {
			return gpu.Outcome{Cause: models.CauseCanceled}
		}
		for {
			select {
			case step := <-s.steps:
				if out := step(t, o); out != nil {
					return *out
				}
			case <-w.fleet.stopped(t.AttemptID):
				return gpu.Outcome{Cause: models.CauseCanceled, Started: true}
			case <-ctx.Done():
				return gpu.Outcome{Cause: models.CauseServerStop, Started: true}
			}
		}
	}
	return s
}

func (s *script) progress(percent int) {
	s.steps <- func(_ gpu.Task, o gpu.Observer) *gpu.Outcome {
		at := time.Now().UTC()
		o.Progress(models.Progress{Percent: percent, Value: percent, Max: 100, NodesDone: 1, NodesTotal: 2, CurrentNode: "2", LastEventAt: &at}, models.PhaseExecuting)
		o.Preview([]byte("frame "+strconv.Itoa(percent)), "image/jpeg", "2")
		return nil
	}
}

func (s *script) succeed() {
	s.steps <- func(t gpu.Task, _ gpu.Observer) *gpu.Outcome {
		out := outcome(t)
		return &out
	}
}

func TestFollowerSeesAJobFromSnapshotToFinalStatus(t *testing.T) {
	w := newWorld(t)
	s := w.scripted()
	id := w.submit("acme")
	f := w.follow("acme", id)
	first, _ := f.next()
	require.Equal(t, "snapshot", first.Event)
	require.Equal(t, "queued", first.Data["status"])
	require.EqualValues(t, 1, first.ID)
	w.dispatch()
	f.until(is("status", "running"))
	s.progress(40)
	var last, preview map[string]any // the percentage is stored before it is shown; the picture does not wait for it
	f.until(func(e event) bool {
		switch {
		case e.Event == "progress" && e.Data["progress"] == 40.0:
			last = e.Data
		case e.Event == "preview":
			preview = e.Data
		}
		return last != nil && preview != nil
	})
	for _, field := range []string{"status", "progress_value", "progress_max", "nodes_total", "nodes_done", "current_node", "prompt_id", "last_event_time"} {
		require.NotNil(t, last[field], field)
	}
	require.Equal(t, "image/jpeg", preview["content_type"])
	s.succeed()
	end := f.rest()
	require.Equal(t, "output", end[len(end)-2].Event)
	final := end[len(end)-1]
	require.Equal(t, "status", final.Event)
	require.Equal(t, "completed", final.Data["status"])
	var ids []int64
	for _, e := range end {
		if e.ID > 0 {
			ids = append(ids, e.ID)
		}
	}
	require.IsIncreasing(t, append([]int64{first.ID}, ids...))

	late := w.follow("acme", id).rest()
	require.Equal(t, []string{"snapshot", "output", "status"}, names(late))
	require.Len(t, late[0].Data["outputs"], 3)
	require.Equal(t, final.ID, late[len(late)-1].ID)
}

func TestFollowerResumesWhereItWas(t *testing.T) {
	w := newWorld(t)
	s := w.scripted()
	id := w.submit("acme")
	f := w.follow("acme", id)
	f.until(is("snapshot", ""))
	f.end()
	w.dispatch()
	w.until(id, "running")

	f = w.follow("acme", id, "Last-Event-ID", "1")
	seen := f.until(is("status", "running"))
	require.Equal(t, "snapshot", seen[0].Event)
	require.Zero(t, seen[0].ID, "the steps that follow have the ids")
	require.Equal(t, "running", seen[0].Data["status"])
	for i, e := range seen[1:] {
		require.Equal(t, "status", e.Event)
		require.EqualValues(t, i+2, e.ID, "every step since, in order")
	}
	running := seen[len(seen)-1].ID
	f.end()

	f = w.follow("acme", id, "Last-Event-ID", strconv.FormatInt(running, 10))
	s.progress(10)
	e, _ := f.next()
	require.NotEqual(t, "snapshot", e.Event, "nothing newer is stored")
	s.succeed()
	end := f.rest()
	final := end[len(end)-1]
	require.Equal(t, "completed", final.Data["status"])

	resumed := w.follow("acme", id, "Last-Event-ID", strconv.FormatInt(running, 10)).rest()
	if resumed[1].Event == "status" { // collecting took long enough to be a step of its own
		require.Equal(t, "collecting", resumed[1].Data["kind"])
		resumed = slices.Delete(resumed, 1, 2)
	}
	require.Equal(t, []string{"snapshot", "output", "status"}, names(resumed))
	a := w.call("acme", http.MethodGet, "/v1/jobs/"+id+"/events", nil, "Last-Event-ID", strconv.FormatInt(final.ID, 10))
	require.Equal(t, http.StatusNoContent, a.status, "a browser would connect again and again")
	for _, unknown := range []string{"999", "-1", "x"} {
		fresh := w.follow("acme", id, "Last-Event-ID", unknown).rest()
		require.Equal(t, []string{"snapshot", "output", "status"}, names(fresh), unknown)
		require.Equal(t, final.ID, fresh[len(fresh)-1].ID)
	}
	require.Equal(t, http.StatusBadRequest, w.get("acme", "/v1/jobs/"+id+"/events?previews=few").status)
}

func TestFollowerOfAFailedJobGetsItsLog(t *testing.T) {
	w := newWorld(t)
	w.fleet.run = func(ctx context.Context, t gpu.Task, o gpu.Observer) gpu.Outcome {
		_ = begin(ctx, t, o)
		return gpu.Outcome{Started: true, Cause: models.CauseException, Detail: "ValueError: no", LogTail: []string{"one", "two"}}
	}
	id := w.submit("acme")
	f := w.follow("acme", id)
	w.dispatch()
	seen := f.rest()
	log, final := seen[len(seen)-2], seen[len(seen)-1]
	require.Equal(t, "log", log.Event)
	require.Equal(t, []any{"one", "two"}, log.Data["lines"])
	require.Equal(t, "failed", final.Data["status"])
	require.Equal(t, "node_exception", final.Data["error_code"])
	require.NotEmpty(t, final.Data["error"])
}

func TestFollowerOfACancelledJobIsTold(t *testing.T) {
	w := newWorld(t)
	id := w.submit("acme")
	f := w.follow("acme", id)
	f.until(is("snapshot", ""))
	w.call("acme", http.MethodDelete, "/v1/jobs/"+id, nil)
	seen := f.rest()
	require.Equal(t, "Cancelled by user", seen[len(seen)-1].Data["error"])
}

func TestSocketCarriesTheSameEvents(t *testing.T) {
	w := newWorld(t)
	s := w.scripted()
	id := w.submit("acme")
	address := strings.Replace(w.url, "http", "ws", 1) + "/v1/jobs/" + id + "/ws"
	header := http.Header{"Authorization": {"Bearer " + w.keys["acme"]}}
	_, r, err := websocket.DefaultDialer.Dial(address, nil)
	require.Error(t, err)
	require.Equal(t, http.StatusUnauthorized, r.StatusCode)
	_, r, err = websocket.DefaultDialer.Dial(address, http.Header{"Authorization": {"Bearer " + w.keys["other"]}})
	require.Error(t, err)
	require.Equal(t, http.StatusNotFound, r.StatusCode)

	ws, _, err := websocket.DefaultDialer.Dial(address, header)
	require.NoError(t, err)
	defer ws.Close()
	read := func() (e event, err error) {
		_, b, err := ws.ReadMessage()
		if err != nil {
			return e, err
		}
		var raw struct {
			ID    *int64
			Event string
			Data  map[string]any
		}
		require.NoError(t, json.Unmarshal(b, &raw))
		if raw.ID != nil {
			e.ID = *raw.ID
		}
		e.Event, e.Data = raw.Event, raw.Data
		return e, nil
	}
	e, err := read()
	require.NoError(t, err)
	require.Equal(t, "snapshot", e.Event)
	require.EqualValues(t, 1, e.ID)
	w.dispatch()
	go func() {
		s.progress(30)
		s.succeed()
	}()
	var seen []event
	for {
		e, err := read()
		if err != nil {
			require.True(t, websocket.IsCloseError(err, websocket.CloseNormalClosure), err)
			break
		}
		seen = append(seen, e)
	}
	require.Equal(t, "completed", seen[len(seen)-1].Data["status"])
	require.Contains(t, names(seen), "output")

	ws2, _, err := websocket.DefaultDialer.Dial(address+"?last_event_id="+strconv.FormatInt(seen[len(seen)-1].ID, 10), header)
	require.NoError(t, err)
	defer ws2.Close()
	_, _, err = ws2.ReadMessage()
	require.True(t, websocket.IsCloseError(err, websocket.CloseNormalClosure), err)
}

func TestFollowersOfATenantAreLimited(t *testing.T) {
	w := newWorld(t, func(_ *server.Config, d *api.Deps) { d.MaxFollowers = 2 })
	id, foreign := w.submit("acme"), w.submit("other")
	one, two := w.follow("acme", id), w.follow("acme", id)
	one.next()
	two.next()
	a := w.get("acme", "/v1/jobs/"+id+"/events")
	require.Equal(t, http.StatusTooManyRequests, a.status)
	require.Equal(t, "followers_limit", a.object(t)["code"])
	require.NotEmpty(t, a.header.Get("Retry-After"))
	other := w.follow("other", foreign)
	other.next()
	one.end()
	require.Eventually(t, func() bool {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"/v1/jobs/"+id+"/events", nil)
		req.Header.Set("X-API-Key", w.keys["acme"])
		r, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	}, 30*time.Second, 5*time.Millisecond, "a place that is given back can be taken")
}

func TestManyFollowersAllSeeTheEnd(t *testing.T) {
	w := newWorld(t)
	s := w.scripted()
	id := w.submit("acme")
	const followers = 100
	var wait sync.WaitGroup
	ends := make(chan string, followers)
	for range followers {
		f := w.follow("acme", id)
		f.next()
		wait.Go(func() {
			events := f.rest()
			ends <- events[len(events)-1].Data["status"].(string)
		})
	}
	w.dispatch()
	for p := range 20 {
		s.progress(p)
	}
	s.succeed()
	wait.Wait()
	close(ends)
	for status := range ends {
		require.Equal(t, "completed", status)
	}
}

func TestStreamsEndWithTheServer(t *testing.T) {
	w := newWorld(t)
	id := w.submit("acme")
	f := w.follow("acme", id)
	f.next()
	w.stop()
	require.Empty(t, f.rest())
}
