package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// bundledGraph is the graph of a bundled workflow, as a client would have it in a file.
func bundledGraph(t *testing.T, slug string) []byte {
	t.Helper()
	entry, err := bundled(slug)
	require.NoError(t, err)
	return entry.Graph
}

// python is an interpreter that can import the modules, or a reason to skip.
func python(t *testing.T, modules ...string) string {
	t.Helper()
	interpreter := os.Getenv("COMFYFLEET_PYTHON")
	if interpreter == "" {
		interpreter = "python3"
	}
	out, err := exec.CommandContext(t.Context(), interpreter, "-c", "import "+strings.Join(modules, ", ")).CombinedOutput()
	if err != nil {
		skip(t, "COMFYFLEET_PYTHON cannot import "+strings.Join(modules, " and ")+": "+string(out))
	}
	return interpreter
}

// TestTheGuidesClientRunsUnchanged runs the client that came with the guide against the program as it is shipped: its
// default limits, and the simulator at its own pace. Only the client's address is another.
func TestTheGuidesClientRunsUnchanged(t *testing.T) {
	script := os.Getenv("COMFYFLEET_GUIDE_CLIENT")
	if script == "" {
		skip(t, "COMFYFLEET_GUIDE_CLIENT does not name the guide's client")
	}
	interpreter := python(t, "requests", "PIL")
	source, err := os.ReadFile(script)
	require.NoError(t, err)

	s := newServer(t, "COMFYFLEET_RATE_SUBMIT=", "COMFYFLEET_RATE_STATUS=", "COMFYFLEET_RATE_MANAGE=", "COMFYFLEET_SIM_ARGS=")
	s.start()
	dir := t.TempDir()
	address := regexp.MustCompile(`(?m)^API_URL = .*$`)
	require.Len(t, address.FindAll(source, -1), 1, "the client's one line to change")
	ours := address.ReplaceAllLiteral(source, []byte(`API_URL = "`+strings.Replace(s.base, "http://", "http://"+testKey+":x@", 1)+`"`))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "client.py"), ours, 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "workflows"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "workflows", "wan22Smoothloop_fixed.json"), bundledGraph(t, demoWorkflow), 0o600))

	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	client := exec.CommandContext(ctx, interpreter, "client.py")
	client.Dir = dir
	client.Env = append(os.Environ(), "PYTHONIOENCODING=utf-8")
	out, err := client.CombinedOutput()
	said := string(out)
	require.NoError(t, err, said)
	require.Contains(t, said, "Completed!")
	require.Contains(t, said, "Done!")
	requireRisingProgress(t, said)

	id := regexp.MustCompile(`Job ID: (\S+)`).FindStringSubmatch(said)
	require.NotNil(t, id, said)
	video := requireSameFiles(t, s, id[1], filepath.Join(dir, "outputs"))
	requirePlays(t, video)
}

// requireRisingProgress holds the client's output to what the guide promises: percentages that only rise, and all nodes.
func requireRisingProgress(t *testing.T, said string) {
	t.Helper()
	last, rises := -1, 0
	for _, m := range regexp.MustCompile(`Progress: \[[^]]*\]\s+(\d+)%`).FindAllStringSubmatch(said, -1) {
		percent, err := strconv.Atoi(m[1])
		require.NoError(t, err)
		if percent > last {
			rises++
		}
		last = percent
	}
	require.GreaterOrEqual(t, rises, 5, "rising percentages in:\n%s", said)
	nodes := regexp.MustCompile(`Nodes completed: (\d+)/(\d+)`).FindStringSubmatch(said)
	require.NotNil(t, nodes, said)
	require.Equal(t, nodes[2], nodes[1], "nodes done and total")
	total, err := strconv.Atoi(nodes[2])
	require.NoError(t, err)
	require.GreaterOrEqual(t, total, 20)
}

// requireSameFiles compares what a client saved with what the server keeps, through the job's data and through the
// signed address of each output, and returns the video.
func requireSameFiles(t *testing.T, s *testServer, id, dir string) (video []byte) {
	t.Helper()
	a := s.call("GET", "/v1/jobs/"+id, testKey, nil)
	require.Equal(t, 200, a.status, "%s", a.body)
	var job jobStatus
	a.json(t, &job)
	require.NotEmpty(t, job.Outputs)
	require.True(t, job.Simulated)
	for _, o := range job.Outputs {
		saved, err := os.ReadFile(filepath.Join(dir, id+"_"+o.Filename))
		require.NoError(t, err)
		require.Equal(t, o.SHA256, hashOf(saved), "%s as the client saved it", o.Filename)
		require.Equal(t, o.SHA256, hashOf(o.Data), "%s in the job's data", o.Filename)
		signed := s.call("GET", strings.TrimPrefix(o.URL, s.base), "", nil)
		require.Equal(t, 200, signed.status, "%s", o.URL)
		require.Equal(t, o.SHA256, hashOf(signed.body), "%s behind its signed address", o.Filename)
		if o.Type == "video" {
			video = saved
		}
	}
	require.NotEmpty(t, video, "outputs without a video: %+v", job.Outputs)
	return video
}

func hashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// requirePlays holds a video to what a customer's browser makes of it: it has a length, and time passes in it.
func requirePlays(t *testing.T, video []byte) {
	t.Helper()
	browser, err := exec.LookPath("chromium")
	if err != nil {
		skip(t, "no chromium to play the video in")
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/video.mp4" {
			w.Header().Set("Content-Type", "video/mp4")
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(video))
			return
		}
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(`<!doctype html><video id="v" muted src="/video.mp4"></video>`))
	}))
	defer web.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ctx, cancel = chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(browser),
		chromedp.NoSandbox, chromedp.WSURLReadTimeout(patience), chromedp.Flag("autoplay-policy", "no-user-gesture-required"))...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	require.NoError(t, chromedp.Do(ctx, chromedp.Navigate(web.URL)))
	type playing struct{ Duration, Time float64 }
	got, err := chromedp.Run(ctx, chromedp.Evaluate[playing](`(async () => {
		const v = document.getElementById('v');
		const moved = new Promise((done, fail) => {
			v.ontimeupdate = () => { if (v.currentTime > 0) done(); };
			v.onerror = () => fail(new Error(v.error.message));
		});
		await v.play();
		await moved;
		return {Duration: v.duration, Time: v.currentTime};
	})()`, chromedp.EvalAwaitPromise))
	require.NoError(t, err)
	require.Positive(t, got.Duration)
	require.Positive(t, got.Time)
}
