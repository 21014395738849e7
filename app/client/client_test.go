package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNewWantsAnAddressAndAKey(t *testing.T) {
	for _, server := range []string{"", "localhost:8080", "ftp://x", "http://"} {
		_, err := New(Options{Server: server, Key: "k"})
		require.ErrorContains(t, err, "URL", server)
	}
	_, err := New(Options{Server: "http://x"})
	require.ErrorContains(t, err, "key")
	c, err := New(Options{Server: "http://cfk_abc:x@host/fleet/"})
	require.NoError(t, err)
	require.Equal(t, "cfk_abc", c.key)
	req, err := c.request(t.Context(), "GET", "/v1/jobs", nil)
	require.NoError(t, err)
	require.Equal(t, "http://host/fleet/v1/jobs", req.URL.String())
}

func TestTheKeyGoesToTheServiceOnly(t *testing.T) {
	c, err := New(Options{Server: "http://fleet:8080", Key: "k"})
	require.NoError(t, err)
	for address, want := range map[string]string{
		"/v1/outputs/1": "Bearer k", "http://fleet:8080/v1/outputs/1": "Bearer k",
		"http://elsewhere/v1/outputs/1": "", "https://fleet:8080/x": "", "//elsewhere/x": "",
	} {
		req, err := c.request(t.Context(), "GET", address, nil)
		require.NoError(t, err)
		require.Equal(t, want, req.Header.Get("Authorization"), address)
	}
}

func TestSubmitStreamsMediaAsBase64(t *testing.T) {
	s := newService(t)
	for _, size := range []int{0, 1, 2, 3, 48<<10 + 1, 1 << 20} {
		data := bytes.Repeat([]byte{0, 1, 2, 253, 254, 255, 7}, size/7+1)[:size]
		_, err := s.client(nil).Submit(t.Context(), Request{Workflow: json.RawMessage(`{"1":{}}`), Priority: 5, Media: []Media{
			{Name: `odd "name" \.png`, Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }},
			{Name: "far.png", URL: "https://example.com/far.png"},
		}})
		require.NoError(t, err)
		body := s.bodies[len(s.bodies)-1]
		media := body["media"].([]any)
		first := media[0].(map[string]any)
		require.Equal(t, `odd "name" \.png`, first["name"])
		got, err := base64.StdEncoding.DecodeString(first["data"].(string))
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got), "%d bytes", size)
		require.Equal(t, map[string]any{"name": "far.png", "url": "https://example.com/far.png"}, media[1])
		require.EqualValues(t, 5, body["priority"])
		require.Contains(t, body, "workflow")
		require.NotContains(t, body, "workflow_id")
	}
}

func TestSubmitRepeatsUnderOneKey(t *testing.T) {
	s := newService(t)
	opened := 0
	lost := func(w http.ResponseWriter, r *http.Request) { // accepted, but the answer does not arrive
		s.accept(httpDiscard{http.Header{}}, r)
		panic(http.ErrAbortHandler)
	}
	s.submit = inTurn(refuse(429, "7", "slow down"), refuse(503, "", "starting"), lost, s.accept)
	var pauses []time.Duration
	a, err := s.client(&pauses).Submit(t.Context(), Request{WorkflowID: "w", Media: []Media{{Name: "a", Open: func() (io.ReadCloser, error) {
		opened++
		return io.NopCloser(strings.NewReader("abc")), nil
	}}}})
	require.NoError(t, err)
	require.Equal(t, "00000002-job", a.JobID)
	require.Equal(t, 4, opened, "each try sends the media anew")
	require.Len(t, s.keys, 2)
	require.NotEmpty(t, s.keys[0])
	require.Equal(t, s.keys[0], s.keys[1])
	require.Len(t, pauses, 3)
	require.Equal(t, 7*time.Second, pauses[0], "as the server asked")
	require.Greater(t, pauses[2], pauses[1]/2)
}

// httpDiscard is a ResponseWriter that nobody hears.
type httpDiscard struct{ header http.Header }

func (d httpDiscard) Header() http.Header         { return d.header }
func (d httpDiscard) Write(p []byte) (int, error) { return len(p), nil }
func (d httpDiscard) WriteHeader(int)             {}

func TestARefusalIsNotRepeated(t *testing.T) {
	s := newService(t)
	for _, status := range []int{400, 401, 402, 403, 413, 422, 507} {
		s.submit = refuse(status, "", "no")
		before := len(s.requests)
		_, err := s.client(nil).Submit(t.Context(), Request{WorkflowID: "w"})
		var p *Problem
		require.ErrorAs(t, err, &p)
		require.Equal(t, status, p.Status)
		require.Equal(t, "no", p.Detail)
		require.Equal(t, "media[0].data", p.Errors[0].Field)
		require.Len(t, s.requests, before+1)
	}
}

func TestRetriesEnd(t *testing.T) {
	s := newService(t)
	s.submit = refuse(429, "60", "slow down")
	var pauses []time.Duration
	_, err := s.client(&pauses).Submit(t.Context(), Request{WorkflowID: "w"})
	require.ErrorContains(t, err, "gave up after 10m0s: slow down (429)")
	require.Len(t, pauses, 10)

	s.submit = refuse(500, "", "broken")
	pauses = nil
	_, err = s.client(&pauses).Submit(t.Context(), Request{WorkflowID: "w"})
	require.ErrorContains(t, err, "broken (500)")
	require.Len(t, pauses, failures-1)

	c, err := New(Options{Server: "http://127.0.0.1:1", Key: "k"})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	tries := 0
	c.told = func(error, time.Duration) {
		if tries++; tries == 3 {
			cancel()
		}
	}
	c.pause = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	_, err = c.Submit(ctx, Request{WorkflowID: "w"})
	require.ErrorIs(t, err, context.Canceled)
}

func TestAMediaFileThatCannotBeReadIsSaidAtOnce(t *testing.T) {
	s := newService(t)
	broken := errors.New("disk trouble")
	for _, m := range []Media{
		{Name: "a", Open: func() (io.ReadCloser, error) { return nil, broken }},
		{Name: "a", Open: func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader("abc"), failing{broken})), nil
		}},
	} {
		_, err := s.client(nil).Submit(t.Context(), Request{WorkflowID: "w", Media: []Media{m}})
		require.ErrorIs(t, err, broken)
	}
	require.Empty(t, s.bodies)
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestFollowListensToEvents(t *testing.T) {
	s := newService(t)
	s.status = inTurn(answer(`{"job_id":"j","status":"queued","queue_position":2}`), s.completed)
	s.events = stream(
		"id: 3\nevent: status\ndata: {\"status\":\"running\"}",
		"event: progress\ndata: {\"progress\":42,\"nodes_done\":1,\n"+"data: \"nodes_total\":4,\"current_node\":\"2\"}",
		"event: status\ndata: {\"status\":\"running\",\"progress\":0}",
		"event: preview\ndata: {\"status\":\"nonsense\"}",
		"event: progress\ndata: not JSON",
		"id: 4\nevent: status\ndata: {\"status\":\"completed\",\"progress\":100,\"current_node\":null}",
		"event: progress\ndata: {\"progress\":7}")
	var seen []Job
	job, err := s.client(nil).Follow(t.Context(), "j", func(j Job) { seen = append(seen, j) })
	require.NoError(t, err)
	require.Equal(t, StatusCompleted, job.Status)
	require.Len(t, job.Outputs, 1, "asked for at the end")
	require.Equal(t, "queued", seen[0].Status)
	require.Equal(t, 42, seen[2].Progress)
	require.Equal(t, "2", *seen[2].CurrentNode)
	require.Equal(t, 4, seen[2].NodesTotal)
	require.Equal(t, 42, seen[3].Progress, "it never goes back")
	require.Nil(t, seen[len(seen)-1].CurrentNode)
	require.Equal(t, 100, seen[len(seen)-1].Progress)
}

func TestFollowGoesOnAfterABrokenStream(t *testing.T) {
	s := newService(t)
	running := answer(`{"job_id":"j","status":"running","progress":10}`)
	s.status = inTurn(running, running, s.completed)
	var resumed []string
	s.events = func(w http.ResponseWriter, r *http.Request) {
		resumed = append(resumed, r.Header.Get("Last-Event-ID"))
		stream("id: 5\nevent: status\ndata: {\"status\":\"running\"}")(w, r)
	}
	job, err := s.client(nil).Follow(t.Context(), "j", func(Job) {})
	require.NoError(t, err)
	require.Equal(t, StatusCompleted, job.Status)
	require.Equal(t, []string{"", "5"}, resumed)
}

func TestFollowPollsWhereThereIsNoStream(t *testing.T) {
	for _, events := range []http.HandlerFunc{http.NotFound, refuse(429, "5", "too many followers"), refuse(502, "", "proxy"), stream()} {
		s := newService(t)
		running := answer(`{"job_id":"j","status":"running","progress":10}`)
		s.status = inTurn(running, running, running, running, running, running, s.completed)
		s.events = events
		job, err := s.client(nil).Follow(t.Context(), "j", func(Job) {})
		require.NoError(t, err)
		require.Equal(t, StatusCompleted, job.Status)
	}
}

func TestFollowEndsWithTheContext(t *testing.T) {
	s := newService(t)
	s.status = answer(`{"job_id":"j","status":"running"}`)
	ctx, cancel := context.WithCancel(t.Context())
	s.events = func(w http.ResponseWriter, r *http.Request) {
		stream("event: status\ndata: {\"status\":\"running\"}")(w, r)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	n := 0
	_, err := s.client(nil).Follow(ctx, "j", func(Job) {
		if n++; n == 2 {
			cancel()
		}
	})
	require.ErrorIs(t, err, context.Canceled)
}

func TestFollowSaysWhatTheServerSays(t *testing.T) {
	s := newService(t)
	s.status = refuse(404, "", "no such job")
	_, err := s.client(nil).Follow(t.Context(), "j", func(Job) {})
	require.EqualError(t, err, "no such job (404)")
}

func TestCancelAnswersTheMessage(t *testing.T) {
	s := newService(t)
	message, err := s.client(nil).Cancel(t.Context(), "a/b")
	require.NoError(t, err)
	require.Equal(t, "cancelled", message)
	require.Equal(t, []string{"DELETE /v1/jobs/a%2Fb"}, s.requests)
}

func TestDownloadIsWholeOrNotThere(t *testing.T) {
	s := newService(t)
	dir := t.TempDir()
	good := Output{Filename: "x.png", Size: int64(len(s.file)), URL: "/v1/outputs/1"}
	path, err := s.client(nil).Download(t.Context(), "58e0c0c8-b8c2", good, dir)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "58e0c0c8_x.png"), path)
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, s.file, raw)
	require.NoError(t, os.Remove(path))

	short := good
	short.Size++
	wrong := good
	wrong.SHA256 = strings.Repeat("0", 64)
	for _, o := range []Output{short, wrong} {
		_, err = s.client(nil).Download(t.Context(), "58e0c0c8-b8c2", o, dir)
		require.ErrorIs(t, err, errIncomplete)
	}
	_, err = s.client(nil).Download(t.Context(), "58e0c0c8-b8c2", good, filepath.Join(dir, "absent"))
	require.ErrorIs(t, err, os.ErrNotExist)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries, "no halves are left")
}

func TestDownloadRepeatsWhatBrokeOff(t *testing.T) {
	s := newService(t)
	s.output = inTurn(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "9")
		w.Write(s.file[:4])
		panic(http.ErrAbortHandler)
	}, refuse(503, "1", "busy"), func(w http.ResponseWriter, r *http.Request) { w.Write(s.file) })
	path, err := s.client(nil).Download(t.Context(), "58e0c0c8", Output{Filename: "58e0c0c8_x.png", Size: 9, URL: "/v1/outputs/1"}, t.TempDir())
	require.NoError(t, err)
	require.Equal(t, "58e0c0c8_x.png", filepath.Base(path))
}

func TestFileNamesStayInTheDirectory(t *testing.T) {
	for name, want := range map[string]string{
		"x.png": "12345678_x.png", "12345678_x.png": "12345678_x.png", "../../etc/passwd": "12345678_passwd", `..\..\x`: "12345678_x",
		"..": "12345678_output", "": "12345678_output", "a\x00b\n": "12345678_a_b_", "/": "12345678_output",
	} {
		require.Equal(t, want, fileName("12345678-9", name), "%q", name)
	}
}
