package comfy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"comfyfleet/gpu"
	"comfyfleet/gpu/comfy"
	"comfyfleet/gpu/sim"
)

const patience = 30 * time.Second

// bench is a simulator with a client and a Watch on it.
type bench struct {
	t      *testing.T
	client *comfy.Client
	events chan gpu.Event
	left   chan struct{} // gets a token when the engine has noticed the end of a socket
	id     string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	engine, err := sim.New(sim.Options{BaseDir: t.TempDir(), TestNodes: true, Speed: 100, Die: func(string, int) {}})
	require.NoError(t, err)
	left := make(chan struct{}, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		engine.Handler().ServeHTTP(w, r)
		if r.URL.Path == "/ws" {
			left <- struct{}{}
		}
	}))
	b := &bench{t: t, client: comfy.New(server.URL, comfy.Options{}), events: make(chan gpu.Event, 10_000), left: left, id: "fleet-1"}
	t.Cleanup(func() {
		require.NoError(t, b.client.Close())
		require.NoError(t, engine.Close())
		server.Close()
	})
	return b
}

// watch follows the engine until the test ends or the returned function is called, and returns when it is connected. The
// function returns when the engine knows of the end.
func (b *bench) watch() (stop func()) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = b.client.Watch(ctx, b.id, func(e gpu.Event) { b.events <- e })
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-ended
		<-b.left
	})
	b.t.Cleanup(stop)
	b.until(gpu.EventConnected, "")
	return stop
}

// until collects events up to the first of that kind and prompt.
func (b *bench) until(kind gpu.EventKind, prompt string) []gpu.Event {
	b.t.Helper()
	var all []gpu.Event
	limit := time.After(patience)
	for {
		select {
		case e := <-b.events:
			all = append(all, e)
			if e.Kind == kind && e.PromptID == prompt {
				return all
			}
		case <-limit:
			require.Fail(b.t, "event never came", "kind %d of %q after %+v", kind, prompt, all)
		}
	}
}

// kinds are the kinds of the prompt's own events in order, repetitions once.
func kinds(events []gpu.Event, prompt string) []gpu.EventKind {
	var all []gpu.EventKind
	for _, e := range events {
		if e.PromptID == prompt && (len(all) == 0 || all[len(all)-1] != e.Kind) {
			all = append(all, e.Kind)
		}
	}
	return all
}

func (b *bench) submit(graph string) string {
	b.t.Helper()
	id := uuid.NewString()
	require.NoError(b.t, b.client.Submit(b.t.Context(),
		gpu.Prompt{ID: id, ClientID: b.id, Graph: json.RawMessage(graph), Previews: true}))
	return id
}

func (b *bench) history(id string) *gpu.History {
	b.t.Helper()
	h, err := b.client.History(b.t.Context(), id)
	require.NoError(b.t, err)
	require.NotNil(b.t, h)
	return h
}

// steps is a graph that takes its time and saves a picture.
func steps(n int, delay float64) string {
	return fmt.Sprintf(`{"1":{"class_type":"EmptyImage","inputs":{"width":32,"height":16,"batch_size":1,"color":255}},
		"2":{"class_type":"SimSteps","inputs":{"image":["1",0],"steps":%d,"delay":%g,"preview":true,"seed":%d}},
		"3":{"class_type":"SaveImage","inputs":{"images":["2",0],"filename_prefix":"attempt/job_out"}}}`, n, delay, n)
}

// endless is a graph whose steps go on for longer than any test.
func endless() string { return steps(100_000, 0.5) }

func TestTheSimulatorIsRecognised(t *testing.T) {
	b := newBench(t)
	info, err := b.client.Info(t.Context())
	require.NoError(t, err)
	require.True(t, info.Simulated)
	require.Equal(t, sim.Version, info.Version)
	require.Positive(t, info.VRAMTotal)
	raw, err := b.client.NodeDefs(t.Context())
	require.NoError(t, err)
	var defs map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(raw, &defs))
	require.Contains(t, defs, "SaveImage")
}

func TestAPromptRunsAndItsPictureComesBack(t *testing.T) {
	b := newBench(t)
	b.watch()
	// The engine greets before it has read that previews are to name their prompt.
	before := b.submit(endless())
	b.until(gpu.EventPreview, before)
	require.NoError(t, b.client.Interrupt(t.Context(), before))
	b.until(gpu.EventEnd, before)
	id := b.submit(steps(4, 0.001))
	events := b.until(gpu.EventEnd, id)
	require.Equal(t, []gpu.EventKind{gpu.EventStart, gpu.EventCached}, kinds(events, id)[:2])
	var previews, done int
	for _, e := range events {
		switch e.Kind {
		case gpu.EventPreview:
			previews++
			require.Equal(t, id, e.PromptID)
			require.Equal(t, "2", e.Node)
		case gpu.EventSteps:
			require.Equal(t, "2", e.Node)
			done = int(e.Value)
		}
	}
	require.Equal(t, 4, done)
	require.Equal(t, 4, previews)

	h := b.history(id) // there already, since the end was announced
	require.True(t, h.Success)
	require.Len(t, h.Outputs, 1)
	require.Equal(t, "3", h.Outputs[0].Node)
	require.Equal(t, "attempt", h.Outputs[0].File.Subfolder)
	require.False(t, h.EndedAt.Before(h.StartedAt))

	body, size, err := b.client.View(t.Context(), *h.Outputs[0].File)
	require.NoError(t, err)
	raw, err := io.ReadAll(body)
	require.NoError(t, err)
	require.NoError(t, body.Close())
	require.EqualValues(t, len(raw), size)
	picture, err := png.Decode(bytes.NewReader(raw))
	require.NoError(t, err)
	require.Equal(t, 32, picture.Bounds().Dx())

	require.NoError(t, b.client.Forget(t.Context(), id))
	gone, err := b.client.History(t.Context(), id)
	require.NoError(t, err)
	require.Nil(t, gone)
}

func TestARepeatedPromptIsCached(t *testing.T) {
	b := newBench(t)
	b.watch()
	first := b.submit(steps(2, 0.001))
	b.until(gpu.EventEnd, first)
	second := b.submit(steps(2, 0.001))
	b.until(gpu.EventEnd, second)
	h := b.history(second)
	require.True(t, h.Success)
	require.ElementsMatch(t, []string{"1", "2", "3"}, h.Cached)
	require.Equal(t, b.history(first).Outputs, h.Outputs, "the old file is named again")
}

func TestEventsOfExpandedNodesNameTheSubmittedOne(t *testing.T) {
	b := newBench(t)
	b.watch()
	id := b.submit(`{"1":{"class_type":"EmptyImage","inputs":{"width":8,"height":8,"batch_size":1,"color":0}},
		"2":{"class_type":"SimExpand","inputs":{"image":["1",0],"steps":2,"delay":0.001}},
		"3":{"class_type":"SaveImage","inputs":{"images":["2",0],"filename_prefix":"x"}}}`)
	expanded := false
	for _, e := range b.until(gpu.EventEnd, id) {
		for _, s := range e.States {
			expanded = expanded || s.Node != s.Display
			require.Contains(t, []string{"1", "2", "3"}, s.Display)
		}
		if e.Kind == gpu.EventNode || e.Kind == gpu.EventSteps {
			require.Contains(t, []string{"1", "2", "3"}, e.Node)
		}
	}
	require.True(t, expanded)
	require.True(t, b.history(id).Success)
}

func TestAGraphThatIsWrongIsRejected(t *testing.T) {
	b := newBench(t)
	submit := func(graph string) *gpu.Rejection {
		var r *gpu.Rejection
		err := b.client.Submit(t.Context(), gpu.Prompt{ID: uuid.NewString(), ClientID: b.id, Graph: json.RawMessage(graph)})
		require.ErrorAs(t, err, &r)
		return r
	}
	require.Equal(t, "missing_node_type", submit(`{"1":{"class_type":"NoSuchNode","inputs":{}}}`).Type)
	r := submit(`{"1":{"class_type":"EmptyImage","inputs":{"width":-5,"height":8,"batch_size":1,"color":0}},
		"2":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"x"}}}`)
	require.Equal(t, "prompt_outputs_failed_validation", r.Type)
	require.Contains(t, string(r.NodeErrors), "value_smaller_than_min")
	// One output is right, the other is not: the engine says 200 and would run the one.
	r = submit(`{"1":{"class_type":"EmptyImage","inputs":{"width":8,"height":8,"batch_size":1,"color":0}},
		"2":{"class_type":"SimSteps","inputs":{"image":["1",0],"steps":1000,"delay":1,"preview":false,"seed":1}},
		"3":{"class_type":"SaveImage","inputs":{"images":["2",0],"filename_prefix":"x"}},
		"4":{"class_type":"SaveImage","inputs":{"filename_prefix":"y"}}}`)
	require.Contains(t, string(r.NodeErrors), `"4"`)
	q, err := b.client.Queue(t.Context())
	require.NoError(t, err)
	require.Empty(t, append(q.Running, q.Pending...), "nothing of it runs")
}

func TestAQueueCanBeReadAndEmptied(t *testing.T) {
	b := newBench(t)
	b.watch()
	running := b.submit(endless())
	b.until(gpu.EventSteps, running)
	first, second := b.submit(steps(2, 0.001)), b.submit(steps(3, 0.001))
	q, err := b.client.Queue(t.Context())
	require.NoError(t, err)
	require.Equal(t, []gpu.QueueItem{{PromptID: running, ClientID: b.id, Outputs: []string{"3"}}}, q.Running)
	require.Equal(t, []string{first, second}, []string{q.Pending[0].PromptID, q.Pending[1].PromptID})

	require.NoError(t, b.client.Unqueue(t.Context(), first))
	require.NoError(t, b.client.Interrupt(t.Context(), second), "which does not run: nothing happens")
	require.NoError(t, b.client.Interrupt(t.Context(), running))
	b.until(gpu.EventInterrupted, running)
	b.until(gpu.EventEnd, running)
	h := b.history(running)
	require.False(t, h.Success)
	require.True(t, h.Interrupted)
	b.until(gpu.EventEnd, second)
	require.True(t, b.history(second).Success)
	taken, err := b.client.History(t.Context(), first)
	require.NoError(t, err)
	require.Nil(t, taken)
}

func TestANodesExceptionIsKept(t *testing.T) {
	b := newBench(t)
	b.watch()
	id := b.submit(`{"1":{"class_type":"EmptyImage","inputs":{"width":8,"height":8,"batch_size":1,"color":0}},
		"2":{"class_type":"SimOOM","inputs":{"image":["1",0],"times":0}}}`)
	events := b.until(gpu.EventEnd, id)
	require.Contains(t, kinds(events, id), gpu.EventException)
	h := b.history(id)
	require.False(t, h.Success)
	require.Equal(t, "2", h.Exception.NodeID)
	require.Contains(t, h.Exception.Type, "OutOfMemoryError")
}

func TestAPoisonedHistoryIsToldApartAndCanBeForgotten(t *testing.T) {
	b := newBench(t)
	id := b.submit(`{"1":{"class_type":"EmptyImage","inputs":{"width":8,"height":8,"batch_size":1,"color":0}},
		"2":{"class_type":"SimPoison","inputs":{"image":["1",0]}}}`)
	require.Eventually(t, func() bool {
		_, err := b.client.History(t.Context(), id)
		var broken interface{ HistoryBroken() bool }
		return errors.As(err, &broken) && broken.HistoryBroken()
	}, patience, 5*time.Millisecond)
	require.NoError(t, b.client.Forget(t.Context(), id))
	h, err := b.client.History(t.Context(), id)
	require.NoError(t, err)
	require.Nil(t, h)
}

func TestAnUploadedPictureCanBeLoaded(t *testing.T) {
	b := newBench(t)
	b.watch()
	made := b.submit(steps(1, 0))
	b.until(gpu.EventEnd, made)
	body, _, err := b.client.View(t.Context(), *b.history(made).Outputs[0].File)
	require.NoError(t, err)
	name, err := b.client.Upload(t.Context(), "job-1", "0.png", body)
	require.NoError(t, err)
	require.NoError(t, body.Close())
	require.Equal(t, "job-1/0.png", name)
	id := b.submit(`{"1":{"class_type":"LoadImage","inputs":{"image":"job-1/0.png"}},
		"2":{"class_type":"PreviewImage","inputs":{"images":["1",0]}}}`)
	b.until(gpu.EventEnd, id)
	h := b.history(id)
	require.True(t, h.Success)
	require.Equal(t, "temp", h.Outputs[len(h.Outputs)-1].File.Type)
}

func TestASecondWatchUnderTheSameIDHearsTheRest(t *testing.T) {
	b := newBench(t)
	stop := b.watch()
	id := b.submit(endless())
	b.until(gpu.EventSteps, id)
	stop()
	b.watch() // the engine knows that the first one is closed, so it does not mix the two up
	b.until(gpu.EventSteps, id)
	require.NoError(t, b.client.Interrupt(t.Context(), id))
	b.until(gpu.EventEnd, id)
	require.True(t, b.history(id).Interrupted)
}
