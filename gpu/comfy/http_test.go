package comfy

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"comfyfleet/gpu"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const promptID = "0d1e2f30-1111-4222-8333-444455556666"

// seen is one request that a fake engine got.
type seen struct {
	method, path, query, auth, body string
}

// engine answers each "METHOD path" with a handler and remembers what it was asked.
type engine struct {
	*httptest.Server
	mu     sync.Mutex
	seen   []seen
	routes map[string]http.HandlerFunc
}

func newEngine(t *testing.T, routes map[string]http.HandlerFunc) (*engine, *Client) {
	t.Helper()
	e := &engine{routes: map[string]http.HandlerFunc{}}
	for key, h := range routes {
		e.routes[key] = h
	}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := r.Method + " " + r.URL.Path
		s := seen{method: r.Method, path: r.URL.Path, query: r.URL.RawQuery, auth: r.Header.Get("Authorization")}
		if r.Header.Get("Content-Type") == "application/json" {
			raw, _ := io.ReadAll(r.Body)
			s.body = string(raw)
		}
		e.mu.Lock()
		e.seen = append(e.seen, s)
		h, ok := e.routes[key]
		e.mu.Unlock()
		if !ok {
			http.Error(w, "404: Not Found", http.StatusNotFound)
			return
		}
		h(w, r)
	}))
	c := New(e.URL, Options{})
	t.Cleanup(func() { _ = c.Close(); e.Close() })
	return e, c
}

// route changes what the engine answers from now on.
func (e *engine) route(key string, h http.HandlerFunc) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.routes[key] = h
}

// asked lists the requests as "METHOD path body".
func (e *engine) asked() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []string
	for _, s := range e.seen {
		all = append(all, strings.TrimSpace(s.method+" "+s.path+" "+strings.TrimSpace(s.body)))
	}
	return all
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// inTurn answers the first call with the first body, and so on; the last one stays.
func inTurn(bodies ...string) http.HandlerFunc {
	var mu sync.Mutex
	return func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = io.WriteString(w, bodies[0])
		if len(bodies) > 1 {
			bodies = bodies[1:]
		}
	}
}

func prompt() gpu.Prompt {
	return gpu.Prompt{ID: promptID, ClientID: "fleet-1", Graph: json.RawMessage(`{"1":{"class_type":"A","inputs":{"t":"<b>&"}}}`)}
}

func TestSubmitSendsThePromptUnderItsOwnID(t *testing.T) {
	e, c := newEngine(t, map[string]http.HandlerFunc{
		"POST /prompt": says(200, `{"prompt_id":"`+promptID+`","number":3,"node_errors":{}}`)})
	require.NoError(t, c.Submit(t.Context(), prompt()))
	p := prompt()
	p.Previews, p.ExtraPNGInfo = true, json.RawMessage(`{"workflow":{"a":1}}`)
	require.NoError(t, c.Submit(t.Context(), p))
	require.Equal(t, []string{
		`POST /prompt {"prompt":{"1":{"class_type":"A","inputs":{"t":"<b>&"}}},"prompt_id":"` + promptID +
			`","client_id":"fleet-1","extra_data":{"preview_method":"none"}}`,
		`POST /prompt {"prompt":{"1":{"class_type":"A","inputs":{"t":"<b>&"}}},"prompt_id":"` + promptID +
			`","client_id":"fleet-1","extra_data":{"preview_method":"auto","extra_pnginfo":{"workflow":{"a":1}}}}`,
	}, e.asked())
}

func TestARefusedGraphIsARejection(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		body   string
		want   gpu.Rejection
	}{
		"validation": {400, `{"error":{"type":"prompt_outputs_failed_validation","message":"Prompt outputs failed validation","details":"d",
			"extra_info":{}},"node_errors":{"2":{"errors":[{"type":"exception_during_inner_validation","message":"m","details":"'99'",
			"extra_info":{"input_name":"image","traceback":["File \"/srv/x.py\""]}}],"dependent_outputs":["4"],"class_type":"ImageScale"}}}`,
			gpu.Rejection{Type: "prompt_outputs_failed_validation", Message: "Prompt outputs failed validation", Details: "d",
				NodeErrors: json.RawMessage(`{"2":{"class_type":"ImageScale","dependent_outputs":["4"],"errors":[{"details":"'99'",` +
					`"extra_info":{"input_name":"image"},"message":"m","type":"exception_during_inner_validation"}]}}`)}},
		"missing node": {400, `{"error":{"type":"missing_node_type","message":"no such class","details":"Node ID '#1'"},"node_errors":[]}`,
			gpu.Rejection{Type: "missing_node_type", Message: "no such class", Details: "Node ID '#1'", NodeErrors: json.RawMessage("{}")}},
		"old style": {400, `{"error":"no prompt"}`,
			gpu.Rejection{Type: "bad_request", Message: `{"error":"no prompt"}`, NodeErrors: json.RawMessage("{}")}},
		"no JSON": {400, `400: Bad Request`,
			gpu.Rejection{Type: "bad_request", Message: "400: Bad Request", NodeErrors: json.RawMessage("{}")}},
		"too large": {413, `Maximum request body size 100 exceeded`,
			gpu.Rejection{Type: "too_large", Message: "the graph is larger than the engine accepts", NodeErrors: json.RawMessage("{}")}},
	} {
		t.Run(name, func(t *testing.T) {
			_, c := newEngine(t, map[string]http.HandlerFunc{"POST /prompt": says(test.status, test.body)})
			var got *gpu.Rejection
			require.ErrorAs(t, c.Submit(t.Context(), prompt()), &got)
			require.Equal(t, test.want, *got)
		})
	}
}

func TestAfterAFailureOfTheEngineNothingIsConcluded(t *testing.T) {
	e, c := newEngine(t, map[string]http.HandlerFunc{"POST /prompt": says(500, "500 Internal Server Error\n\nServer got itself in trouble")})
	err := c.Submit(t.Context(), prompt())
	require.ErrorIs(t, err, gpu.ErrUnreachable)
	var r *gpu.Rejection
	require.NotErrorAs(t, err, &r)

	e.route("POST /prompt", says(200, `{"prompt`)) // cut off
	require.ErrorIs(t, c.Submit(t.Context(), prompt()), gpu.ErrUnreachable)

	e.route("POST /prompt", says(403, "")) // an origin check: the prompt was certainly not queued
	require.NotErrorIs(t, c.Submit(t.Context(), prompt()), gpu.ErrUnreachable)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = c.Submit(ctx, prompt())
	require.ErrorIs(t, err, gpu.ErrUnreachable)
	require.ErrorIs(t, err, context.Canceled)

	e.Close()
	require.ErrorIs(t, c.Submit(t.Context(), prompt()), gpu.ErrUnreachable)
}

func TestAPromptThatWouldRunInPartIsTakenBack(t *testing.T) {
	pending := `{"queue_running":[],"queue_pending":[[1,"` + promptID + `",{},{},["4"]]]}`
	running := `{"queue_running":[[1,"` + promptID + `",{},{},["4"]]],"queue_pending":[]}`
	gone := `{"queue_running":[],"queue_pending":[]}`
	order := `{"delete":["` + promptID + `"]}`
	for name, test := range map[string]struct {
		queue []string
		want  []string
	}{
		"still pending": {[]string{pending, gone},
			[]string{"POST /queue " + order, "GET /queue", "POST /queue " + order, "GET /queue", "POST /history " + order}},
		"already running": {[]string{running, gone}, []string{"POST /queue " + order, "GET /queue",
			`POST /interrupt {"prompt_id":"` + promptID + `"}`, "POST /queue " + order, "GET /queue", "POST /history " + order}},
	} {
		t.Run(name, func(t *testing.T) {
			e, c := newEngine(t, map[string]http.HandlerFunc{
				"POST /prompt": says(200, `{"prompt_id":"`+promptID+`","node_errors":{"7":{"errors":[],"class_type":"SaveImage"}}}`),
				"GET /queue":   inTurn(test.queue...), "POST /queue": says(200, ""), "POST /interrupt": says(200, ""),
				"POST /history": says(200, "")})
			var r *gpu.Rejection
			require.ErrorAs(t, c.Submit(t.Context(), prompt()), &r)
			require.JSONEq(t, `{"7":{"errors":[],"class_type":"SaveImage"}}`, string(r.NodeErrors))
			require.Equal(t, test.want, e.asked()[1:])
		})
	}
}

func TestAnEngineThatChoosesIDsItselfIsTooOld(t *testing.T) {
	e, c := newEngine(t, map[string]http.HandlerFunc{
		"POST /prompt": says(200, `{"prompt_id":"another","number":0,"node_errors":{}}`), "POST /queue": says(200, ""),
		"GET /queue": says(200, `{"queue_running":[],"queue_pending":[]}`), "POST /history": says(200, "")})
	var r *gpu.Rejection
	require.ErrorAs(t, c.Submit(t.Context(), prompt()), &r)
	require.Equal(t, "engine_too_old", r.Type)
	require.Contains(t, e.asked(), `POST /queue {"delete":["another"]}`)
}

func TestARejectionIsReportedEvenIfTheEngineKeepsThePrompt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var looks atomic.Int32
	_, c := newEngine(t, map[string]http.HandlerFunc{
		"POST /prompt": says(200, `{"prompt_id":"`+promptID+`","node_errors":{"7":{}}}`), "POST /queue": says(200, ""),
		"GET /queue": func(w http.ResponseWriter, _ *http.Request) {
			if looks.Add(1) == 2 {
				cancel() // it has been told twice by now
			}
			_, _ = io.WriteString(w, `{"queue_running":[],"queue_pending":[[1,"`+promptID+`",{},{},["4"]]]}`)
		}})
	err := c.Submit(ctx, prompt())
	var r *gpu.Rejection
	require.ErrorAs(t, err, &r)
	require.ErrorContains(t, err, "still has the prompt")
}

func TestTheQueueIsInRunOrder(t *testing.T) {
	_, c := newEngine(t, map[string]http.HandlerFunc{"GET /queue": says(200, `{
		"queue_running":[[4,"run",{"9":{}},{"client_id":"fleet-1","create_time":1},["9"],{"sensitive":true},"later"]],
		"queue_pending":[[5.5,"d",{},{"client_id":7},"odd"],[5,"c",{},{},["1"]],[-1,"a",{},{"x":NaN},["1","2"]],[5,"b",{},null,[]]]}`)})
	q, err := c.Queue(t.Context())
	require.NoError(t, err)
	require.Equal(t, []gpu.QueueItem{{PromptID: "run", ClientID: "fleet-1", Outputs: []string{"9"}}}, q.Running)
	require.Equal(t, []gpu.QueueItem{{PromptID: "a", Outputs: []string{"1", "2"}}, {PromptID: "b", Outputs: []string{}},
		{PromptID: "c", Outputs: []string{"1"}}, {PromptID: "d"}}, q.Pending)
}

func TestAQueueThatCannotBeReadIsNotAnEmptyOne(t *testing.T) {
	for _, body := range []string{`{}`, `[]`, `null`, `{"queue_running":[]}`, `{"queue_running":[[1]],"queue_pending":[]}`,
		`{"queue_running":[],"queue_pending":[[1,2]]}`, `<html>`, ``} {
		_, c := newEngine(t, map[string]http.HandlerFunc{"GET /queue": says(200, body)})
		_, err := c.Queue(t.Context())
		require.Error(t, err, body)
	}
}

func TestOrdersNameTheirPrompt(t *testing.T) {
	e, c := newEngine(t, map[string]http.HandlerFunc{"POST /queue": says(200, ""), "POST /interrupt": says(200, ""),
		"POST /history": says(200, ""), "POST /free": says(200, "")})
	require.NoError(t, c.Unqueue(t.Context(), "p"))
	require.NoError(t, c.Interrupt(t.Context(), "p"))
	require.NoError(t, c.Forget(t.Context(), "p"))
	require.NoError(t, c.Free(t.Context(), true))
	require.Equal(t, []string{`POST /queue {"delete":["p"]}`, `POST /interrupt {"prompt_id":"p"}`, `POST /history {"delete":["p"]}`,
		`POST /free {"free_memory":true,"unload_models":true}`}, e.asked())
}

func TestInfoKnowsTheEngine(t *testing.T) {
	e, c := newEngine(t, map[string]http.HandlerFunc{"GET /system_stats": says(200, `{"system":{"comfyui_version":"0.33.0","argv":["main.py","--port"],
		"comfyfleet_simulator":true},"devices":[{"vram_total":48318382080,"vram_free":1024.0},{"vram_total":1}]}`)})
	info, err := c.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, gpu.EngineInfo{Version: "0.33.0", VRAMTotal: 48318382080, VRAMFree: 1024, Argv: []string{"main.py", "--port"},
		Simulated: true}, info)

	e.route("GET /system_stats", says(200, `{"status":"ok"}`))
	_, err = c.Info(t.Context())
	require.ErrorContains(t, err, "not how ComfyUI answers")
	e.route("GET /system_stats", says(302, ""))
	_, err = c.Info(t.Context())
	require.ErrorContains(t, err, "302")
	e.route("GET /system_stats", says(502, "bad gateway"))
	_, err = c.Info(t.Context())
	require.ErrorIs(t, err, gpu.ErrUnreachable)
}

func TestNodeDefinitionsWithPythonsInfinityAreJSON(t *testing.T) {
	e, c := newEngine(t, map[string]http.HandlerFunc{"GET /object_info": says(200, `{"A":{"input":{"required":{"x":["FLOAT",{"max":Infinity,"min":-Infinity,"default":NaN,"t":"NaN \" Infinity"}]}}}}`)})
	raw, err := c.NodeDefs(t.Context())
	require.NoError(t, err)
	require.JSONEq(t, `{"A":{"input":{"required":{"x":["FLOAT",{"max":null,"min":null,"default":null,"t":"NaN \" Infinity"}]}}}}`, string(raw))
	e.route("GET /object_info", says(200, `{"A":`))
	_, err = c.NodeDefs(t.Context())
	require.ErrorContains(t, err, "not JSON")
}

func TestAnAddressMayHaveAPrefixAndAPassword(t *testing.T) {
	e, _ := newEngine(t, map[string]http.HandlerFunc{"POST /comfy/free": says(200, "")})
	c := New(strings.Replace(e.URL, "http://", "http://me:secret@", 1)+"/comfy/", Options{})
	defer c.Close()
	require.NoError(t, c.Free(t.Context(), false))
	require.Equal(t, "Basic bWU6c2VjcmV0", e.seen[0].auth)
}

func TestAWrongAddressIsReportedByTheCalls(t *testing.T) {
	for _, bad := range []string{"", "127.0.0.1:8188", "ftp://host", "http://", "http://a b"} {
		c := New(bad, Options{})
		_, err := c.Info(t.Context())
		require.Error(t, err, bad)
		_, err = c.Upload(t.Context(), "", "a.png", strings.NewReader("x"))
		require.Error(t, err, bad)
		_, _, err = c.View(t.Context(), gpu.FileRef{Filename: "x"})
		require.Error(t, err, bad)
	}
}

func TestAnAnswerBeyondItsLimitIsRefused(t *testing.T) {
	_, c := newEngine(t, map[string]http.HandlerFunc{"GET /system_stats": says(200, strings.Repeat(" ", smallLimit+1))})
	_, err := c.Info(t.Context())
	require.ErrorIs(t, err, errTooLarge)
}

func TestAMuteEngineIsGivenUpWithTheContext(t *testing.T) {
	hold := make(chan struct{})
	_, c := newEngine(t, map[string]http.HandlerFunc{"GET /queue": func(http.ResponseWriter, *http.Request) { <-hold }})
	defer close(hold)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := c.Queue(ctx)
	require.ErrorIs(t, err, gpu.ErrUnreachable)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
