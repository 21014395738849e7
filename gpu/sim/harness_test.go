package sim_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"comfyfleet/gpu/sim"

	"github.com/fasthttp/websocket"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// childEnv makes the test binary behave as the program, for tests that need a real process.
const childEnv = "COMFYFLEET_SIM_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(sim.Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// Waits of the tests: how long, and how often they look.
const (
	patience = time.Minute
	tick     = 2 * time.Millisecond
)

// rig is a running server and what a client needs to talk to it.
type rig struct {
	t    testing.TB
	sim  *sim.Server
	base string
	died chan string
}

// start runs a server with test nodes, fast unless told otherwise.
func start(t testing.TB, change ...func(*sim.Options)) *rig {
	t.Helper()
	r := &rig{t: t, died: make(chan string, 8)}
	o := sim.Options{BaseDir: t.TempDir(), TestNodes: true, Speed: 100, Previews: "auto",
		Die: func(how string, code int) { r.died <- fmt.Sprintf("%s %d", how, code) }}
	for _, c := range change {
		c(&o)
	}
	s, err := sim.New(o)
	require.NoError(t, err)
	web := httptest.NewServer(s.Handler())
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		web.Close()
	})
	r.sim, r.base = s, web.URL
	return r
}

// M is a JSON object.
type M = map[string]any

// answer is an HTTP answer.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) json(t testing.TB) M {
	t.Helper()
	var m M
	require.NoError(t, json.Unmarshal(a.body, &m), "%d %s", a.status, a.body)
	return m
}

func (r *rig) do(method, path string, body any) answer {
	r.t.Helper()
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		in = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		require.NoError(r.t, err)
		in = bytes.NewReader(raw)
	}
	req, err := http.NewRequest(method, r.base+path, in)
	require.NoError(r.t, err)
	return r.send(req)
}

func (r *rig) send(req *http.Request) answer {
	r.t.Helper()
	resp, err := http.DefaultClient.Do(req)
	require.NoError(r.t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(r.t, err)
	return answer{resp.StatusCode, resp.Header, raw}
}

// submit posts a graph for a client and returns the prompt's id; more fields override.
func (r *rig) submit(graph, clientID string, more ...M) string {
	r.t.Helper()
	id := uuid.NewString()
	body := M{"prompt": json.RawMessage(graph), "prompt_id": id}
	if clientID != "" {
		body["client_id"] = clientID
	}
	for _, m := range more {
		maps.Copy(body, m)
	}
	a := r.do("POST", "/prompt", body)
	require.Equal(r.t, 200, a.status, "%s", a.body)
	return id
}

// history waits for the entry of a prompt.
func (r *rig) history(id string) M {
	r.t.Helper()
	var entry M
	require.Eventually(r.t, func() bool {
		m := r.do("GET", "/history/"+id, nil).json(r.t)
		e, ok := m[id].(M)
		entry = e
		return ok
	}, patience, tick, "no history for %s", id)
	return entry
}

// socket is a WebSocket that remembers what it got.
type socket struct {
	t    testing.TB
	id   string
	conn *websocket.Conn
	mu   sync.Mutex
	all  []got
	err  error
}

// got is one message; kind is binary:N for binary ones.
type got struct {
	kind string
	data M
	raw  []byte
}

// dial opens a socket; first is sent as its first message.
func (r *rig) dial(clientID string, first ...string) *socket {
	r.t.Helper()
	s := r.dialQuiet(clientID, first...)
	if len(first) > 0 && strings.Contains(first[0], "feature_flags") {
		s.wait("feature flags", func(g got) bool { return g.kind == "feature_flags" })
	}
	return s
}

// dialRaw opens a socket that nobody reads yet. A small receive buffer makes one that is never read fill up soon.
func (r *rig) dialRaw(clientID string, buffer int) *websocket.Conn {
	r.t.Helper()
	dialer := websocket.Dialer{NetDial: func(network, address string) (net.Conn, error) {
		conn, err := net.Dial(network, address)
		if err == nil && buffer > 0 {
			err = conn.(*net.TCPConn).SetReadBuffer(buffer)
		}
		return conn, err
	}}
	conn, _, err := dialer.Dial("ws"+strings.TrimPrefix(r.base, "http")+"/ws?clientId="+url.QueryEscape(clientID), nil)
	require.NoError(r.t, err)
	r.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// dialQuiet opens a socket and waits for its first status only.
func (r *rig) dialQuiet(clientID string, first ...string) *socket {
	r.t.Helper()
	conn := r.dialRaw(clientID, 0)
	s := &socket{t: r.t, id: clientID, conn: conn}
	for _, text := range first {
		require.NoError(r.t, conn.WriteMessage(websocket.TextMessage, []byte(text)))
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.read()
	}()
	r.t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	s.wait("its first status", func(g got) bool { return g.kind == "status" && g.data["sid"] != nil })
	return s
}

// awaitSockets waits until the server's table has so many sockets.
func (r *rig) awaitSockets(n int) {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return r.sim.Sockets() == n }, patience, time.Millisecond)
}

func (s *socket) read() {
	for {
		kind, raw, err := s.conn.ReadMessage()
		g := got{raw: raw}
		if err == nil && kind == websocket.BinaryMessage {
			g.kind = fmt.Sprintf("binary:%d", raw[3])
		} else if err == nil {
			var m struct {
				Type string
				Data M
			}
			err = json.Unmarshal(raw, &m)
			g.kind, g.data = m.Type, m.Data
		}
		s.mu.Lock()
		if err != nil {
			s.err = err
			s.mu.Unlock()
			return
		}
		s.all = append(s.all, g)
		s.mu.Unlock()
	}
}

// closed says whether the connection has ended.
func (s *socket) closed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err != nil
}

// messages are what came so far.
func (s *socket) messages() []got {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// wait waits for a message that matches.
func (s *socket) wait(what string, match func(got) bool) got {
	s.t.Helper()
	var found got
	require.Eventually(s.t, func() bool {
		for _, g := range s.messages() {
			if match(g) {
				found = g
				return true
			}
		}
		return false
	}, patience, time.Millisecond, "no %s", what)
	return found
}

// end waits for the end of a prompt.
func (s *socket) end(id string) {
	s.t.Helper()
	s.wait("end of "+id, func(g got) bool { return g.kind == "executing" && g.data["node"] == nil && g.data["prompt_id"] == id })
}

// step waits until a node of a prompt has taken so many steps.
func (s *socket) step(id, node string, value float64) {
	s.t.Helper()
	s.wait("step", func(g got) bool {
		return g.kind == "progress" && g.data["prompt_id"] == id && g.data["node"] == node && g.data["value"].(float64) >= value
	})
}

// of are the messages of one prompt, and those that name none between its first and last.
func (s *socket) of(id string) []got {
	all := s.messages()
	about := func(g got) bool { return g.data["prompt_id"] == id }
	first := slices.IndexFunc(all, about)
	if first < 0 {
		return nil
	}
	last := first
	for i, g := range all {
		if about(g) {
			last = i
		}
	}
	return slices.DeleteFunc(all[first:last+1], func(g got) bool { p, named := g.data["prompt_id"]; return named && p != id })
}

// lines renders messages for golden files: what is random or a time is left out.
func lines(list []got) []string {
	var out []string
	for _, g := range list {
		out = append(out, line(g))
	}
	return out
}

func line(g got) string {
	d := g.data
	switch g.kind {
	case "status":
		text := fmt.Sprint("status ", d["status"].(M)["exec_info"].(M)["queue_remaining"])
		if d["sid"] != nil {
			text += " sid"
		}
		return text
	case "progress_state":
		nodes := d["nodes"].(M)
		var parts []string
		for _, id := range slices.Sorted(maps.Keys(nodes)) {
			n := nodes[id].(M)
			part := fmt.Sprintf("%s=%s:%v/%v", id, n["state"], n["value"], n["max"])
			if n["parent_node_id"] != nil {
				part += fmt.Sprintf("(in %s)", n["display_node_id"])
			}
			parts = append(parts, part)
		}
		return "progress_state " + strings.Join(parts, " ")
	case "progress":
		return fmt.Sprintf("progress %s %v/%v", d["node"], d["value"], d["max"])
	case "executing":
		if d["node"] == nil {
			return "executing null"
		}
		if _, named := d["prompt_id"]; !named {
			return fmt.Sprintf("executing %s (no prompt)", d["node"])
		}
		return fmt.Sprintf("executing %s display %s", d["node"], d["display_node"])
	case "executed":
		return fmt.Sprintf("executed %s display %s %s", d["node"], d["display_node"], compact(d["output"]))
	case "execution_cached":
		return "execution_cached " + compact(d["nodes"])
	case "execution_error":
		return fmt.Sprintf("execution_error %s %s %s %q", d["node_id"], d["node_type"], d["exception_type"], d["exception_message"])
	case "execution_interrupted":
		return fmt.Sprintf("execution_interrupted %s %s executed %s", d["node_id"], d["node_type"], compact(d["executed"]))
	}
	return g.kind
}

func compact(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return tempName.ReplaceAllString(string(raw), "ComfyUI_temp_xxxxx")
}

// golden compares text with a file of testdata.
func golden(t *testing.T, name, have string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(have), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), have)
}
