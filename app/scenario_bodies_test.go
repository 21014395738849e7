package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/app/auth"
)

// plainBinary is the program without the race detector, which takes many times the memory and the time.
var plainBinary = sync.OnceValues(func() (string, error) {
	if !raceEnabled {
		return binary, nil
	}
	plain := binary + "-plain" // removed with the other one's directory
	out, err := exec.Command("go", "build", "-o", plain, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return plain, nil
})

// plainServer is a server without the race detector.
func plainServer(t *testing.T, env ...string) *testServer {
	t.Helper()
	s := newServer(t, env...)
	var err error
	s.binary, err = plainBinary()
	require.NoError(t, err)
	s.start()
	return s
}

// TestTheLargestBodiesLeaveMemoryFlat sends the largest request there is and reads an output of 600 MB as base64.
func TestTheLargestBodiesLeaveMemoryFlat(t *testing.T) {
	const (
		items, itemSize = 10, 50 << 20
		outputSize      = 600_000_000
		perRequest      = 40 << 20
		perAnswer       = 100 << 20
	)
	if testing.Short() {
		skip(t, "a gigabyte goes through the disk")
	}
	s := plainServer(t, "COMFYFLEET_WORKERS=sim:1")
	small := stepsGraph(1, 0.001, 1)
	s.completed(s.submit(map[string]any{"workflow": small})) // what is needed anyway is there from here

	before := s.forgetPeak()
	var parts []io.Reader
	part := func(text string) { parts = append(parts, strings.NewReader(text)) }
	part(`{"media":[`)
	for i := range items {
		part(fmt.Sprintf(`%s{"name":"%d.png","data":"`, strings.Repeat(",", min(i, 1)), i))
		parts = append(parts, io.LimitReader(&repeating{text: "iVBORw0K"}, int64(base64.RawStdEncoding.EncodedLen(itemSize)/4*4)))
		part(`"}`)
	}
	part(`],"workflow":` + string(small) + `}`)
	got := s.stream("POST", "/v1/jobs", nil, io.MultiReader(parts...), -1)
	require.Equal(t, 200, got.status, "%s", got.body)
	grown := s.peakMemory() - before
	t.Logf("%d × %d MiB in one request: peak memory grew by %d MiB", items, itemSize>>20, grown>>20)
	require.Less(t, grown, int64(perRequest))
	var accepted jobStatus
	got.json(t, &accepted)
	s.completed(accepted.JobID)

	made := s.completed(s.submit(map[string]any{"workflow": json.RawMessage(fmt.Sprintf(
		`{"1":{"class_type":"SimOutput","inputs":{"kind":"videos","count":1,"bytes":%d,"filename_prefix":"large","seed":1}}}`, outputSize))}))
	before = s.forgetPeak()
	require.Greater(t, s.download(s.base+"/v1/jobs/"+made.JobID), int64(base64.StdEncoding.EncodedLen(outputSize)))
	grown = s.peakMemory() - before
	t.Logf("%d MB of output as base64: peak memory grew by %d MiB", outputSize/1_000_000, grown>>20)
	require.Less(t, grown, int64(perAnswer))
}

// forgetPeak makes what the server's process has in memory now its peak, and answers it.
func (s *testServer) forgetPeak() int64 {
	s.t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.cmd.Process.Pid), []byte("5"), 0); err != nil {
		skip(s.t, "the peak of memory cannot be reset here: "+err.Error())
	}
	return s.peakMemory()
}

// repeating reads a text over and over.
type repeating struct {
	text string
	at   int
}

func (r *repeating) Read(p []byte) (n int, err error) {
	for n < len(p) {
		c := copy(p[n:], r.text[r.at:])
		n, r.at = n+c, (r.at+c)%len(r.text)
	}
	return n, nil
}

// stream sends a body of a size, -1 for one that comes in chunks.
func (s *testServer) stream(method, path string, header map[string]string, body io.Reader, size int64) answer {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.base+path, io.NopCloser(body))
	require.NoError(s.t, err)
	req.ContentLength = size
	req.Header.Set("Authorization", "Bearer "+testKey)
	req.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		req.Header.Set(name, value)
	}
	client := &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{WriteBufferSize: 256 << 10}}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	require.NoError(s.t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(s.t, err)
	return answer{resp.StatusCode, resp.Header, raw}
}

// bodyRefusal is a request with a large body and how it is refused.
type bodyRefusal struct {
	name   string
	header map[string]string
	file   string
	status int
	code   string
	before func() // what must have happened, nil for nothing
}

// TestRefusalsOfLargeBodiesCanBeRead has clients that are far from done sending when they are refused. Each must get the
// whole answer, and not a connection that was reset under it.
func TestRefusalsOfLargeBodiesCanBeRead(t *testing.T) {
	s := plainServer(t, "COMFYFLEET_WORKERS=sim:1")
	cases := bodyRefusals(s)
	clients := map[string]func(*testing.T, *testServer, bodyRefusal, bool) answer{
		"go": sendWithGo, "curl": sendWithCurl, "python": sendWithPython,
	}
	for name, send := range clients {
		t.Run(name, func(t *testing.T) {
			for _, c := range cases {
				for _, chunked := range []bool{false, true} {
					t.Run(c.name+map[bool]string{false: " sized", true: " chunked"}[chunked], func(t *testing.T) {
						if c.before != nil {
							c.before()
						}
						got := send(t, s, c, chunked)
						require.Equal(t, c.status, got.status, "%s", got.body)
						require.Equal(t, c.code, got.problem(t).Code)
					})
				}
			}
		})
	}
	require.Empty(t, s.blobs(), "nothing of a refused body is kept")
}

// bodyRefusals are the reasons for which a large body is refused, at its head or in the middle.
func bodyRefusals(s *testServer) []bodyRefusal {
	dir := s.t.TempDir()
	write := func(name, head string, filling, size int64) string {
		file := filepath.Join(dir, name)
		f, err := os.Create(file)
		require.NoError(s.t, err)
		_, err = io.Copy(f, io.MultiReader(strings.NewReader(head), io.LimitReader(&repeating{text: "QUJD"}, filling)))
		require.NoError(s.t, err)
		require.NoError(s.t, f.Truncate(size)) // the rest is a hole
		require.NoError(s.t, f.Close())
		return file
	}
	const medium = 16 << 20
	some := write("some.json", `{"media":[{"name":"a.png","data":"`, 0, medium)
	item := write("item.json", `{"media":[{"name":"a.png","data":"`, 72<<20, 80<<20)
	// Its length is over the limit; what it holds is over the limit of all but media.
	all := write("all.json", `{"metadata":"`, 0, 700<<20)

	unknown, _ := auth.NewKey()
	slow := s.slowKey()
	spend := func() { s.call("POST", "/v1/jobs", slow, `{}`) } // the one request of its minute
	return []bodyRefusal{
		{"no key", map[string]string{"Authorization": ""}, some, 401, "missing_key", nil},
		{"wrong key", map[string]string{"Authorization": "Bearer " + unknown}, some, 401, "unknown_key", nil},
		{"an item over its limit", nil, item, 400, "media_too_large", nil},
		{"over the total limit", nil, all, 413, "body_too_large", nil},
		{"compressed", map[string]string{"Content-Encoding": "gzip"}, some, 415, "content_encoding", nil},
		{"rate limited", map[string]string{"Authorization": "Bearer " + slow}, some, 429, "rate_limited", spend},
	}
}

// slowKey is a key of a tenant of its own that may submit once a minute.
func (s *testServer) slowKey() string {
	s.t.Helper()
	_, err := s.run("tenants", "create", "slow")
	require.NoError(s.t, err)
	_, err = s.run("tenants", "set", "slow", "rate-submit=1")
	require.NoError(s.t, err)
	var made struct{ Key string }
	s.runJSON(&made, "keys", "create", "--tenant", "slow", "--name", "slow")
	return made.Key
}

func sendWithGo(t *testing.T, s *testServer, c bodyRefusal, chunked bool) answer {
	f, err := os.Open(c.file)
	require.NoError(t, err)
	defer f.Close()
	size := int64(-1)
	if !chunked {
		info, err := f.Stat()
		require.NoError(t, err)
		size = info.Size()
	}
	return s.stream("POST", "/v1/jobs", c.header, f, size)
}

func sendWithCurl(t *testing.T, s *testServer, c bodyRefusal, chunked bool) answer {
	if _, err := exec.LookPath("curl"); err != nil {
		skip(t, "curl is not installed")
	}
	head := filepath.Join(t.TempDir(), "head")
	args := []string{"--silent", "--show-error", "--max-time", "60", "--request", "POST", "--dump-header", head, "--upload-file", c.file}
	for name, value := range headers(c, chunked) {
		args = append(args, "--header", name+": "+value)
	}
	cmd := exec.CommandContext(t.Context(), "curl", append(args, s.base+"/v1/jobs")...)
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

// headers are those of a refusal's request.
func headers(c bodyRefusal, chunked bool) map[string]string {
	all := map[string]string{"Authorization": "Bearer " + testKey, "Content-Type": "application/json"}
	if chunked {
		all["Transfer-Encoding"] = "chunked"
	}
	for name, value := range c.header {
		if all[name] = value; value == "" {
			delete(all, name)
		}
	}
	return all
}

// uploader sends a file with Python's own client and prints what came back.
const uploader = `
import http.client, json, os, sys
where, file, headers = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
conn = http.client.HTTPConnection(where, timeout=60, blocksize=1 << 20)
chunked = "Transfer-Encoding" in headers
if not chunked:
    headers["Content-Length"] = str(os.path.getsize(file))
with open(file, "rb") as body:
    conn.request("POST", "/v1/jobs", body=body, headers=headers, encode_chunked=chunked)
answer = conn.getresponse()
print(json.dumps({"status": answer.status, "type": answer.getheader("Content-Type"), "body": answer.read().decode()}))
`

func sendWithPython(t *testing.T, s *testServer, c bodyRefusal, chunked bool) answer {
	interpreter := python(t, "http.client")
	encoded, err := json.Marshal(headers(c, chunked))
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), interpreter, "-c", uploader, strings.TrimPrefix(s.base, "http://"), c.file, string(encoded))
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	require.NoError(t, cmd.Run(), "%s", &errOut)
	var got struct {
		Status int
		Type   string
		Body   string
	}
	require.NoError(t, json.Unmarshal(out.Bytes(), &got), "%s", &out)
	return answer{got.Status, http.Header{"Content-Type": {got.Type}}, []byte(got.Body)}
}
