package sim_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"comfyfleet/gpu/sim"

	"github.com/fasthttp/websocket"
	"github.com/stretchr/testify/require"
)

// tracesEnv names a directory with recordings of a real ComfyUI 0.33.
const tracesEnv = "COMFYFLEET_TRACES"

// paces are how many times faster than they were made the recordings are replayed: the next when the one before failed.
func paces() []float64 { return []float64{3, 3, 1, 1.0 / 4} }

// frozen is how late the replay may be before it is taken for the machine that stood still: the server did so too, and
// nothing is to be made up for.
const frozen = 500 * time.Millisecond

// trace is a recording.
type trace struct {
	Events  []traceEvent
	History map[string]json.RawMessage
}

type traceEvent struct {
	At     float64 `json:"t_ms"`
	Dir    string
	Conn   string
	Path   string
	Method string
	For    string
	Status int
	Text   string
	JSON   json.RawMessage `json:"json"`
	Type   int             `json:"event_type"`
}

// replayed are the recordings that are replayed in this order on one server, as they were made. loose ones depend on the
// moment of an interrupt or a reconnect: there the steps in between are not compared.
func replayed() []struct {
	file  string
	loose bool
} {
	return []struct {
		file  string
		loose bool
	}{
		{"01_simple_run", false}, {"02_fully_cached_run", false}, {"03_partly_cached_run", false}, {"04_progress_previews_legacy", false},
		{"05_progress_previews_metadata", false}, {"06_no_client_id_broadcast", false}, {"07_client_id_without_ws", false},
		{"10_validation_failures", false}, {"11_node_exception", false}, {"12_out_of_memory", false}, {"13_interrupt_running", true},
		{"14_interrupt_inside_blocking_node", false}, {"16_interrupt_when_idle", false}, {"17_jobs_cancel_running_and_pending", true},
		{"18_delete_while_queued", true}, {"19_queue_of_three_and_priority", false}, {"20_ws_reconnect_clean", true},
		{"21_ws_reconnect_overlap", true}, {"22_ws_reconnect_after_finish", true}, {"23_feature_flags_late", false}, {"30_output_kinds", false},
		{"32_duplicate_ids_and_misc", true}, {"35_special_nodes", false},
	}
}

// TestTracesOfARealServer replays recordings and compares event order, fields, answers and histories. When this machine
// could not keep their time they are all replayed slower, from the first one on, as later ones build upon the numbers and
// the cache of earlier ones: what differs at the slowest pace is the simulator's fault.
func TestTracesOfARealServer(t *testing.T) {
	dir := os.Getenv(tracesEnv)
	if dir == "" {
		t.Skip(tracesEnv + " is not set: no recordings to compare with")
	}
	for _, pace := range paces() {
		failed := replayAll(t, dir, pace)
		if failed == nil {
			return
		}
		t.Logf("at the recordings' pace times %v:\n%s", pace, strings.Join(failed, "\n"))
	}
	t.Error("the simulator differs from the recordings at every pace")
}

// replayAll replays every recording on one new server until one differs; it returns what was said of that one.
func replayAll(t *testing.T, dir string, pace float64) []string {
	// The recorded server had forgotten older prompts by the time of the tenth recording, as the classic cache does.
	r := start(t, func(o *sim.Options) { o.Speed, o.Cache = pace, sim.CacheClassic })
	require.Equal(t, 200, r.upload("/upload/image", "in.png", picture(t, 96, 64)).status)
	for _, one := range replayed() {
		raw, err := os.ReadFile(filepath.Join(dir, one.file+".json"))
		require.NoError(t, err)
		var tr trace
		require.NoError(t, json.Unmarshal(raw, &tr))
		try := attempt(t, func(t testing.TB) {
			here := *r
			here.t = t
			p := &player{rig: &here, trace: tr, pace: pace, conns: map[string]*socket{}, loose: one.loose}
			p.play()
			p.compare()
		})
		if try.failed {
			return append([]string{one.file}, try.said...)
		}
	}
	return nil
}

// tried is a try of a test that may fail.
type tried struct {
	testing.TB
	failed bool
	said   []string
}

// attempt runs a part of a test to its end, or to where it fails.
func attempt(t testing.TB, run func(t testing.TB)) *tried {
	try, done := &tried{TB: t}, make(chan struct{})
	go func() {
		defer close(done)
		run(try)
	}()
	<-done // each of its waits has a limit
	return try
}

func (t *tried) Errorf(format string, args ...any) {
	t.failed, t.said = true, append(t.said, fmt.Sprintf(format, args...))
}

func (t *tried) FailNow() {
	t.failed = true
	runtime.Goexit()
}

func (t *tried) Fatalf(format string, args ...any) {
	t.Errorf(format, args...)
	t.FailNow()
}

// player replays one recording.
type player struct {
	*rig
	trace   trace
	pace    float64 // how many times faster than it was recorded
	conns   map[string]*socket
	loose   bool
	skipped map[string]bool // prompts with classes that the simulator does not have
}

func (p *player) play() {
	p.skipped = map[string]bool{}
	began := time.Now()
	for i, e := range p.trace.Events {
		early := time.Duration(e.At/p.pace)*time.Millisecond - time.Since(began)
		if early < -frozen {
			began = began.Add(-early)
		}
		time.Sleep(early) // the recording's own timing is what is replayed
		switch e.Dir {
		case "ws_open":
			if _, id, ok := strings.Cut(e.Path, "clientId="); ok {
				p.conns[e.Conn] = p.dial(id)
			}
		case "ws_send":
			if c := p.conns[e.Conn]; c != nil {
				require.NoError(p.t, c.conn.WriteMessage(websocket.TextMessage, e.JSON))
			}
		case "ws_close_by_client":
			_ = p.conns[e.Conn].conn.Close()
		case "http_request":
			want := p.response(i)
			if a, ok := p.request(e, want); ok {
				p.check(want, e, a)
			}
		}
	}
	require.Eventually(p.t, func() bool {
		return p.do("GET", "/prompt", nil).json(p.t)["exec_info"].(M)["queue_remaining"] == 0.0
	}, patience, tick, "an idle server")
}

// response is the recorded answer to request i.
func (p *player) response(i int) traceEvent {
	want := p.trace.Events[i].Method + " " + p.trace.Events[i].Path
	for _, e := range p.trace.Events[i+1:] {
		if e.Dir == "http_response" && e.For == want {
			return e
		}
	}
	p.t.Fatalf("no answer to %s", want)
	return traceEvent{}
}

// request sends a recorded request; false means that it is not replayed.
func (p *player) request(e, reply traceEvent) (answer, bool) {
	path := strings.ReplaceAll(e.Path, " ", "%20")
	if p.skipped[path[strings.LastIndex(path, "/")+1:]] {
		return answer{}, false
	}
	if e.Method == "GET" {
		return p.do("GET", path, nil), supported(path)
	}
	if strings.HasPrefix(path, "/upload") {
		return answer{}, false
	}
	if path != "/prompt" || e.JSON == nil {
		if e.JSON == nil {
			return p.do(e.Method, path, "not JSON"), true
		}
		return p.do(e.Method, path, string(e.JSON)), true
	}
	var body map[string]json.RawMessage
	require.NoError(p.t, json.Unmarshal(e.JSON, &body))
	var id string
	_ = json.Unmarshal(body["prompt_id"], &id)
	if made := (struct {
		ID string `json:"prompt_id"`
	}{}); json.Unmarshal(reply.JSON, &made) == nil && made.ID != "" {
		id, body["prompt_id"] = made.ID, encode(made.ID) // the server chose it
	}
	graph, ok := p.translate(body["prompt"], id)
	if !ok {
		p.skipped[id] = true
		return answer{}, false
	}
	if body["prompt"] != nil {
		body["prompt"] = graph
	}
	return p.do("POST", "/prompt", body), true
}

// supported says whether the simulator serves a recorded GET.
func supported(path string) bool {
	for _, no := range []string{"/userdata", "/internal", "/experiment", "/api/assets", "/global_subgraphs", "/node_replacements", "/object_info", "/models/"} {
		if strings.HasPrefix(path, no) {
			return false
		}
	}
	return true
}

// translate maps the recording's own test nodes to the simulator's and orders outputs as the real server did, which
// keeps them in a set.
func (p *player) translate(raw json.RawMessage, id string) (json.RawMessage, bool) {
	var nodes map[string]map[string]json.RawMessage
	if json.Unmarshal(raw, &nodes) != nil {
		return raw, true
	}
	var order []string
	for _, key := range slices.Sorted(maps.Keys(nodes)) {
		var class string
		_ = json.Unmarshal(nodes[key]["class_type"], &class)
		var in M
		_ = json.Unmarshal(nodes[key]["inputs"], &in)
		switch class {
		case "ProbeExpand":
			in["steps"], in["delay"] = in["n"], 0.02
		case "ProbeList":
			in["count"] = in["n"]
		case "ProbeVideo":
			in["kind"], in["count"], in["bytes"], in["extension"] = in["ui_key"], 1, in["megabytes"].(float64)*1000, "mp4"
		case "ProbeText":
			in["source"] = in["text"]
		case "ProbeProgressText":
			in["text"] = "half way"
		case "ProbeAsync", "SaveWEBM", "SaveLatent", "ProbeNoise", "SaveVideo": // the last one failed on the recording machine
			return nil, false
		}
		if strings.HasPrefix(class, "Probe") {
			nodes[key]["class_type"] = encode(simClass(class))
			nodes[key]["inputs"] = encode(in)
		}
		order = append(order, key)
	}
	if outputs := p.outputsOf(id); len(outputs) > 1 {
		order = slices.DeleteFunc(order, func(key string) bool { return slices.Contains(outputs, key) })
		order = append(order, outputs...)
	}
	parts := make([]string, len(order))
	for i, key := range order {
		parts[i] = fmt.Sprintf("%q:%s", key, encode(nodes[key]))
	}
	return json.RawMessage("{" + strings.Join(parts, ",") + "}"), true
}

func simClass(class string) string {
	switch class {
	case "ProbeBlock":
		return "SimBlocker"
	case "ProbeVideo":
		return "SimOutput"
	case "ProbeText":
		return "PreviewAny"
	}
	return strings.Replace(class, "Probe", "Sim", 1)
}

func encode(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return raw
}

// outputsOf are the outputs of a recorded prompt in the order in which they ran.
func (p *player) outputsOf(id string) (outputs []string) {
	var entry struct{ Prompt []json.RawMessage }
	if json.Unmarshal(p.trace.History[id], &entry) == nil && len(entry.Prompt) > 4 {
		_ = json.Unmarshal(entry.Prompt[4], &outputs)
	}
	return outputs
}

// check compares an answer with the recorded one: the status always, refusals word by word, the rest by its shape.
func (p *player) check(want, req traceEvent, have answer) {
	p.t.Helper()
	name := req.Method + " " + req.Path
	require.Equal(p.t, want.Status, have.status, "%s %s: %s", name, req.JSON, have.body)
	if want.JSON == nil || want.Text != "" {
		return
	}
	var w, h any
	require.NoError(p.t, json.Unmarshal(want.JSON, &w))
	require.NoError(p.t, json.Unmarshal(have.body, &h), "%s: %s", name, have.body)
	switch {
	case want.Status == 400:
		require.Equal(p.t, scrub(w), scrub(h), name)
	case req.Path == "/queue" && len(w.(M)["queue_pending"].([]any)) == 0: // a single prompt may be done already
	case req.Path == "/prompt", req.Path == "/queue", strings.HasSuffix(req.Path, "/cancel"):
		require.Equal(p.t, shape(w), shape(h), name)
	}
}

// scrub removes what names the real server's files.
func scrub(v any) any {
	switch v := v.(type) {
	case M:
		out := M{}
		for key, value := range v {
			if key != "traceback" {
				out[key] = scrub(value)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = scrub(v[i])
		}
		return out
	}
	return v
}

// shape is the names and types of a value's fields.
func shape(v any) string {
	switch v := v.(type) {
	case M:
		var parts []string
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if key == "current_inputs" {
				parts = append(parts, key)
				continue
			}
			parts = append(parts, key+":"+shape(v[key]))
		}
		return "{" + strings.Join(parts, ",") + "}"
	case []any:
		if len(v) == 0 {
			return "[]"
		}
		return "[" + shape(v[0]) + "…]"
	}
	return fmt.Sprintf("%T", v)
}

// compare compares what each socket heard of each prompt.
func (p *player) compare() {
	p.t.Helper()
	for _, name := range slices.Sorted(maps.Keys(p.conns)) {
		want := map[string][]string{}
		for _, e := range p.trace.Events {
			if e.Conn != name || e.Dir != "ws_text" {
				continue
			}
			var m struct {
				Type string
				Data M
			}
			require.NoError(p.t, json.Unmarshal(e.JSON, &m))
			p.note(want, got{kind: m.Type, data: m.Data})
		}
		text := func() string {
			have := map[string][]string{}
			for _, g := range p.conns[name].messages() {
				p.note(have, g)
			}
			return p.text(have, want)
		}
		expected := p.text(want, want)
		for end := time.Now().Add(patience); text() != expected && time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond) // a poll with a deadline: the last events may still be on their way
		}
		require.Equal(p.t, expected, text(), "socket %s", name)
	}
}

// text renders what a socket heard, prompt by prompt. Loose recordings are compared for the recorded prompts only.
func (p *player) text(by, want map[string][]string) string {
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(by)) {
		if p.loose && want[id] == nil {
			continue
		}
		fmt.Fprintf(&b, "prompt %s\n%s\n", id, strings.Join(by[id], "\n"))
	}
	return b.String()
}

var (
	counters = regexp.MustCompile(`_\d{5}(_?\.)`)
	paths    = regexp.MustCompile(`"fullpath":"[^"]*"`)
)

// note files one message under its prompt, without what may differ.
func (p *player) note(by map[string][]string, g got) {
	id, _ := g.data["prompt_id"].(string)
	if id == "" || p.skipped[id] || p.trace.History[id] == nil {
		return // status and other things of no prompt; ids that the server made
	}
	if p.loose && (g.kind == "progress" || g.kind == "progress_state") {
		return
	}
	for _, list := range []string{"nodes", "executed", "current_outputs"} {
		if ids, ok := g.data[list].([]any); ok {
			slices.SortFunc(ids, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
		}
	}
	text := line(g) + " " + shape(g.data)
	text = counters.ReplaceAllString(paths.ReplaceAllString(text, `"fullpath":""`), "_N$1")
	text = strings.ReplaceAll(text, ".webp", ".png")
	for _, class := range []string{"ProbeSteps", "ProbeSleep", "ProbeRaise", "ProbeExpand", "ProbeBlock", "ProbeList", "ProbeVideo", "ProbeText"} {
		text = strings.ReplaceAll(text, class, simClass(class))
	}
	by[id] = append(by[id], text)
}
