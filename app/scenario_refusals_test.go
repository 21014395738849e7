package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"comfyfleet/app/auth"
	"comfyfleet/models/store"
)

// bodyRefusal is a request with a large body and how it is refused.
type bodyRefusal struct {
	name   string
	status int
	code   string
	file   string // its body
	form   bool   // multipart instead of JSON
	sized  bool   // its length is what is wrong with it
	// method, path and header are POST, /v1/jobs and those of a good request where they are not set.
	method, path string
	header       map[string]string
	server       *testServer
	before       func() // what must have happened, nil for nothing
}

// formBody is the content type of the forms.
const formBody = "multipart/form-data; boundary=limit"

// TestRefusalsOfLargeBodiesCanBeRead has clients that are far from done sending when they are refused. Each must get the
// whole answer, and not a connection that was reset under it, for every reason there is.
func TestRefusalsOfLargeBodiesCanBeRead(t *testing.T) {
	cases := bodyRefusals(t)
	for name, connect := range map[string]func(*testing.T) sender{"go": goSender, "curl": curlSender, "python": pythonSender} {
		t.Run(name, func(t *testing.T) {
			send := connect(t)
			for _, c := range cases {
				for _, chunked := range []bool{false, true} {
					if chunked && c.sized {
						continue
					}
					t.Run(c.name+map[bool]string{false: ", sized", true: ", chunked"}[chunked], func(t *testing.T) {
						if c.before != nil {
							c.before()
						}
						got := send(t, c, chunked)
						require.Equal(t, c.status, got.status, "%s", got.body)
						require.Equal(t, c.code, got.problem(t).Code)
					})
				}
			}
		})
	}
	for _, c := range cases {
		require.Empty(t, c.server.blobs(), "nothing of a refused body is kept")
	}
}

// bodyRefusals are the reasons for which a large body is refused: by its head, in the middle, and at its end.
func bodyRefusals(t *testing.T) (all []bodyRefusal) {
	write := bodyWriter(t)
	const medium = 16 << 20
	json, form := write("some.json", `{"media":[{"name":"a.png","data":"`, medium, `"}],"workflow":`+string(stepsGraph(1, 0, 1))+`}`),
		write("some.form", formPart(`name="a.png"; filename="a.png"`), medium, "\r\n"+formPart(`name="workflow"`)+string(stepsGraph(1, 0, 1))+"\r\n--limit--\r\n")

	open := refusingServer(t, `{"dispatch":true}`)
	paused := refusingServer(t, `{"intake":true}`)
	full := refusingServer(t, `{}`, "COMFYFLEET_MIN_FREE_DISK=1000TiB")
	unknown, _ := auth.NewKey()
	readOnly := open.madeKey("reader", nil, "--scopes", "jobs:read")
	open.madeKey("slow", []string{"rate-submit=1"})
	crowded := open.madeKey("crowded", []string{"max-queued=1"})
	suspended := open.madeKey("suspended", nil)
	_, err := open.run("tenants", "suspend", "suspended")
	require.NoError(t, err)
	require.Equal(t, 200, open.call("POST", "/v1/jobs", crowded, steps(1, 0, 1)).status, "the one job that may wait")
	mismatch := map[string]string{"Idempotency-Key": "taken"}
	require.Equal(t, 200, open.mustTry("taken", "application/json", still(t, 1, "media", []any{}, "workflow", stepsGraph(1, 0, 1))).status)
	key := func(k string) map[string]string { return map[string]string{"Authorization": "Bearer " + k} }
	// The one request of its minute is spent. A key that was used before might have a place again when its next one comes.
	slow := map[string]string{}
	spend := func() {
		var made madeKey
		open.runJSON(&made, "keys", "create", "--tenant", "slow", "--name", "slow")
		open.call("POST", "/v1/jobs", made.Key, `{}`)
		slow["Authorization"] = "Bearer " + made.Key
	}

	for _, kind := range []struct {
		name, file string
		form       bool
	}{{"JSON", json, false}, {"form", form, true}} {
		for _, c := range []bodyRefusal{
			{name: "no key", status: 401, code: "missing_key", header: map[string]string{"Authorization": ""}},
			{name: "wrong key", status: 401, code: "unknown_key", header: key(unknown)},
			{name: "no scope", status: 403, code: "missing_scope", header: key(readOnly)},
			{name: "suspended", status: 403, code: "tenant_suspended", header: key(suspended)},
			{name: "no such path", status: 404, code: "no_such_path", path: "/v1/nothing"},
			{name: "no such method", status: 405, code: "method_not_allowed", method: "PUT"},
			{name: "compressed", status: 415, code: "content_encoding", header: map[string]string{"Content-Encoding": "gzip"}},
			{name: "bad header", status: 400, code: "bad_idempotency_key", header: map[string]string{"Idempotency-Key": strings.Repeat("k", 256)}},
			{name: "another request's key", status: 422, code: "idempotency_mismatch", header: mismatch},
			{name: "rate limited", status: 429, code: "rate_limited", header: slow, before: spend},
			{name: "queue full", status: 429, code: "queue_full", header: key(crowded)},
			{name: "intake paused", status: 503, code: "intake_paused", server: paused},
			{name: "disk full", status: 507, code: "storage_full", server: full},
		} {
			c.name, c.file, c.form = kind.name+" "+c.name, kind.file, kind.form
			all = append(all, c)
		}
	}
	all = append(all, contentRefusals(t, write, medium)...)
	for i := range all {
		if all[i].server == nil {
			all[i].server = open
		}
	}
	return all
}

// contentRefusals are those for what a body says.
func contentRefusals(t *testing.T, write func(name, head string, filling int64, tail string) string, medium int64) []bodyRefusal {
	const open = `{"media":[{"name":"a.png","data":"`
	graph := `"}],"workflow":` + string(stepsGraph(1, 0, 1))
	editor := `"}],"workflow":{"last_node_id":1,"last_link_id":0,"nodes":[{"id":1,"type":"LoadImage"}],"links":[],"version":0.4}}`
	file := formPart(`name="a.png"; filename="a.png"`)
	part := func(name, value string) string {
		return "\r\n" + formPart(`name="`+name+`"`) + value + "\r\n--limit--\r\n"
	}
	return []bodyRefusal{
		{name: "JSON broken in its first line", status: 400, code: "malformed_json", file: write("syntax", `{"a":"\x","media":[{"data":"`, medium, `"}]}`)},
		{name: "JSON broken in a medium", status: 400, code: "malformed_json", file: write("control", open+"AAAA\n", medium, graph+`}`)},
		{name: "JSON that ends too soon", status: 400, code: "malformed_json", file: write("end", open, medium, graph)},
		{name: "JSON with a medium that is not base64", status: 400, code: "media_not_base64", file: write("base64", open+"AA*A", medium, graph+`}`)},
		{name: "JSON with an item over its limit", status: 400, code: "media_too_large", file: write("item", open, 80<<20, graph+`}`)},
		{name: "JSON with a large rest", status: 413, code: "body_too_large", file: write("rest", `{"metadata":"`, medium, `"}`)},
		{name: "JSON with an editor's graph", status: 422, code: "editor_format", file: write("editor", open, medium, editor)},
		{name: "JSON with an unknown node", status: 422, code: "unknown_node", file: write("node", open, medium, graph+`,"inputs":[{"node":"9","field":"a","value":1}]}`)},
		{name: "JSON over the total limit", sized: true, status: 413, code: "body_too_large", file: larger(t, write("all", `{"metadata":"`, medium, ""))},
		{name: "form without a name", status: 400, code: "malformed_form", form: true, file: write("nameless.form", formPart(`filename="a"`), medium, "")},
		{name: "form with a field that is none", status: 400, code: "unknown_part", form: true, file: write("field.form", formPart(`name="colour"`), medium, "")},
		{name: "form that ends too soon", status: 400, code: "malformed_form", form: true, file: write("end.form", file, medium, "")},
		{name: "form with an item over its limit", status: 400, code: "media_too_large", form: true, file: write("item.form", file, 80<<20, part("workflow", "{}"))},
		{name: "form with a large rest", status: 413, code: "body_too_large", form: true, file: write("rest.form", formPart(`name="metadata"`), medium, "")},
		{name: "form with an editor's graph", status: 422, code: "editor_format", form: true, file: write("editor.form", file, medium, part("workflow", `{"nodes":[],"links":[]}`))},
		{name: "form over the total limit", sized: true, status: 413, code: "body_too_large", form: true, file: larger(t, write("all.form", formPart(`name="metadata"`), medium, ""))},
	}
}

func formPart(disposition string) string {
	return "--limit\r\nContent-Disposition: form-data; " + disposition + "\r\n\r\n"
}

// bodyWriter makes files of a head, so much base64, and a tail.
func bodyWriter(t *testing.T) func(name, head string, filling int64, tail string) string {
	dir := t.TempDir()
	return func(name, head string, filling int64, tail string) string {
		file := filepath.Join(dir, name)
		f, err := os.Create(file)
		require.NoError(t, err)
		_, err = io.Copy(f, io.MultiReader(strings.NewReader(head), io.LimitReader(&repeating{text: "QUJD"}, filling), strings.NewReader(tail)))
		require.NoError(t, err)
		require.NoError(t, f.Close())
		return file
	}
}

// larger makes a file larger than any body may be, with a hole.
func larger(t *testing.T, file string) string {
	t.Helper()
	require.NoError(t, os.Truncate(file, 700<<20))
	return file
}

// refusingServer is one whose operator has set switches before it starts. It runs nothing.
func refusingServer(t *testing.T, pauses string, env ...string) *testServer {
	t.Helper()
	s := newServer(t, append(env, "COMFYFLEET_WORKERS=sim:1")...)
	s.withStore(func(st *store.Store) { require.NoError(t, st.SetSetting(t.Context(), "pauses", pauses)) })
	var err error
	s.binary, err = plainBinary()
	require.NoError(t, err)
	s.start()
	return s
}

// madeKey is a key of a tenant of its own with some settings.
func (s *testServer) madeKey(name string, settings []string, more ...string) string {
	s.t.Helper()
	_, err := s.run("tenants", "create", name)
	require.NoError(s.t, err)
	if len(settings) > 0 {
		_, err = s.run(append([]string{"tenants", "set", name}, settings...)...)
		require.NoError(s.t, err)
	}
	var made struct{ Key string }
	s.runJSON(&made, append([]string{"keys", "create", "--tenant", name, "--name", name}, more...)...)
	return made.Key
}

// sender sends a request as one kind of client does.
type sender func(t *testing.T, c bodyRefusal, chunked bool) answer

// request is what the others see of a refusal's request: its method, its address and its headers.
func (c bodyRefusal) request(chunked bool) (method, url string, headers map[string]string) {
	headers = map[string]string{"Authorization": "Bearer " + testKey, "Content-Type": "application/json"}
	if c.form {
		headers["Content-Type"] = formBody
	}
	if chunked {
		headers["Transfer-Encoding"] = "chunked"
	}
	for name, value := range c.header {
		if headers[name] = value; value == "" {
			delete(headers, name)
		}
	}
	method, path := c.method, c.path
	if method == "" {
		method = http.MethodPost
	}
	if path == "" {
		path = "/v1/jobs"
	}
	return method, c.server.base + path, headers
}

func goSender(*testing.T) sender {
	return func(t *testing.T, c bodyRefusal, chunked bool) answer {
		f, err := os.Open(c.file)
		require.NoError(t, err)
		defer f.Close()
		size := int64(-1)
		if !chunked {
			info, err := f.Stat()
			require.NoError(t, err)
			size = info.Size()
		}
		method, url, headers := c.request(false)
		if _, ok := headers["Authorization"]; !ok {
			headers["Authorization"] = ""
		}
		got, err := c.server.send(method, strings.TrimPrefix(url, c.server.base), headers, f, size)
		require.NoError(t, err)
		return got
	}
}

func curlSender(t *testing.T) sender {
	if _, err := exec.LookPath("curl"); err != nil {
		skip(t, "curl is not installed")
	}
	return func(t *testing.T, c bodyRefusal, chunked bool) answer {
		head := filepath.Join(t.TempDir(), "head")
		method, url, headers := c.request(chunked)
		args := []string{"--silent", "--show-error", "--max-time", strconv.Itoa(int(patience.Seconds())), "--request", method, "--dump-header", head, "--upload-file", c.file}
		for name, value := range headers {
			args = append(args, "--header", name+": "+value)
		}
		cmd := exec.CommandContext(t.Context(), "curl", append(args, url)...)
		var out, errOut bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errOut
		require.NoError(t, cmd.Run(), "%s", &errOut)
		raw, err := os.ReadFile(head)
		require.NoError(t, err)
		// The last head is the answer's; one of 100 Continue may come before it.
		blocks := strings.Split(strings.TrimSpace(string(raw)), "\r\n\r\n")
		got := answer{header: http.Header{}, body: out.Bytes()}
		for i, line := range strings.Split(blocks[len(blocks)-1], "\r\n") {
			if i == 0 {
				got.status, err = strconv.Atoi(strings.Fields(line)[1])
				require.NoError(t, err, "%s", line)
				continue
			}
			name, value, _ := strings.Cut(line, ": ")
			got.header.Set(name, value)
		}
		return got
	}
}

// uploader sends files with Python's requests, one for each line of its input, and prints a line of what came back.
const uploader = `
import json, requests, sys
def pieces(file):
    while piece := file.read(1 << 20):
        yield piece
for line in sys.stdin:
    method, url, file, headers = json.loads(line)
    chunked = headers.pop("Transfer-Encoding", None)
    try:
        with open(file, "rb") as body, requests.Session() as session:
            session.trust_env = False
            answer = session.request(method, url, data=pieces(body) if chunked else body, headers=headers, timeout=180)
            said = {"status": answer.status_code, "type": answer.headers.get("Content-Type"), "body": answer.text}
    except Exception as error:
        said = {"error": repr(error)}
    print(json.dumps(said), flush=True)
`

func pythonSender(t *testing.T) sender {
	cmd := exec.Command(python(t, "requests"), "-c", uploader) // ends with its input, after the test
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		require.NoError(t, cmd.Wait())
	})
	lines := bufio.NewReader(out)
	return func(t *testing.T, c bodyRefusal, chunked bool) answer {
		method, url, headers := c.request(chunked)
		require.NoError(t, json.NewEncoder(in).Encode([]any{method, url, c.file, headers}))
		line, err := lines.ReadBytes('\n')
		require.NoError(t, err)
		var got struct {
			Status            int
			Type, Body, Error string
		}
		require.NoError(t, json.Unmarshal(line, &got), "%s", line)
		require.Empty(t, got.Error)
		return answer{got.Status, http.Header{"Content-Type": {got.Type}}, []byte(got.Body)}
	}
}
