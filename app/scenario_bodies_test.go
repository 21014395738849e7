package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
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

// TestTheLargestBodiesLeaveMemoryFlat sends the largest request there is, and reads an output of 600 MB as base64: once,
// and four at once.
func TestTheLargestBodiesLeaveMemoryFlat(t *testing.T) {
	const (
		items, itemSize = 10, 50 << 20
		outputSize      = 600_000_000
		one, four       = 40 << 20, 100 << 20 // how much memory they may take
	)
	if testing.Short() {
		skip(t, "gigabytes go through the disk")
	}
	s := plainServer(t, "COMFYFLEET_WORKERS=sim:1")
	small := stepsGraph(1, 0.001, 1)
	s.completed(s.submit(map[string]any{"workflow": small})) // what is needed anyway is there from here
	made := sync.OnceValue(func() string {                   // after the uploads, whose memory it would hide
		return s.completed(s.submit(map[string]any{"workflow": json.RawMessage(fmt.Sprintf(
			`{"1":{"class_type":"SimOutput","inputs":{"kind":"videos","count":1,"bytes":%d,"filename_prefix":"large","seed":1}}}`, outputSize))})).JobID
	})
	upload := func() string {
		var parts []io.Reader
		part := func(text string) { parts = append(parts, strings.NewReader(text)) }
		part(`{"media":[`)
		for i := range items {
			part(fmt.Sprintf(`%s{"name":"%d.png","data":"`, strings.Repeat(",", min(i, 1)), i))
			parts = append(parts, io.LimitReader(&repeating{text: "iVBORw0K"}, int64(base64.RawStdEncoding.EncodedLen(itemSize)/4*4)))
			part(`"}`)
		}
		part(`],"workflow":` + string(small) + `}`)
		got, err := s.send("POST", "/v1/jobs", nil, io.MultiReader(parts...), -1)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint(got.status)
	}
	download := func() string {
		n, err := s.read(s.base + "/v1/jobs/" + made())
		if err == nil && n <= int64(base64.StdEncoding.EncodedLen(outputSize)) {
			err = fmt.Errorf("only %d bytes", n)
		}
		if err != nil {
			return err.Error()
		}
		return "200"
	}
	nothing := func() string { return "" }
	for _, c := range []struct {
		name   string
		first  func() string
		do     func() string
		atOnce int
		limit  int64
	}{
		{"10 × 50 MiB in one request", nothing, upload, 1, one},
		{"10 × 50 MiB in one request, four at once", nothing, upload, 4, four},
		{"600 MB as base64", made, download, 1, one},
		{"600 MB as base64, four at once", made, download, 4, four},
	} {
		c.first()
		before := s.forgetPeak()
		answers := make([]string, c.atOnce)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() { answers[i] = c.do() })
		}
		all.Wait()
		for _, a := range answers {
			require.Equal(t, "200", a, c.name)
		}
		grown := s.peakMemory() - before
		t.Logf("%s: peak memory grew by %d MiB", c.name, grown>>20)
		require.Less(t, grown, c.limit, c.name)
	}
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

// send sends a body of a size, -1 for one that comes in chunks.
func (s *testServer) send(method, path string, header map[string]string, body io.Reader, size int64) (answer, error) {
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.base+path, io.NopCloser(body))
	if err != nil {
		return answer{}, err
	}
	req.ContentLength = size
	req.Header.Set("Authorization", "Bearer "+testKey)
	req.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		if req.Header.Set(name, value); value == "" {
			req.Header.Del(name)
		}
	}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{WriteBufferSize: 256 << 10}}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, raw}, err
}
