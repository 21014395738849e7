package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// pictureFile writes a small picture and answers its path.
func pictureFile(t *testing.T, dir string) string {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, 32, 24))
	for i := range 32 * 24 {
		img.Set(i%32, i/32, color.RGBA{uint8(8 * i), 40, 200, 255})
	}
	var b bytes.Buffer
	require.NoError(t, png.Encode(&b, img))
	path := filepath.Join(dir, "picture.png")
	require.NoError(t, os.WriteFile(path, b.Bytes(), 0o600))
	return path
}

// demo runs `demo --once` to its end, sees that workers ran meanwhile, and answers what it printed.
func demo(t *testing.T, s *testServer, out string) (said string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "demo", "--once", "--out", out)
	cmd.Env = s.env
	var all bytes.Buffer
	cmd.Stdout, cmd.Stderr = &all, &all
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	require.Eventually(t, func() bool { return len(s.processes()) > 0 }, patience, 10*time.Millisecond, "no worker was ever seen")
	err = <-ended
	return all.String(), err
}

func TestTheDemoRunsOnceAndLeavesOnlyItsOutputs(t *testing.T) {
	s := newServer(t, "COMFYFLEET_LOG_LEVEL=info")
	out := t.TempDir()
	said, err := demo(t, s, out)
	require.NoError(t, err, said)
	s.requireNoProcesses()
	files, err := os.ReadDir(out)
	require.NoError(t, err)
	kinds := map[string]int{}
	for _, f := range files {
		info, err := f.Info()
		require.NoError(t, err)
		require.Positive(t, info.Size(), f.Name())
		require.Contains(t, said, filepath.Join(out, f.Name()))
		kinds[filepath.Ext(f.Name())]++
	}
	require.Positive(t, kinds[".mp4"], "outputs %v", kinds)
	require.Zero(t, kinds[".part"], "outputs %v", kinds)
	require.Contains(t, said, "simulated")
}

func TestTheDemoFailsWhenItsJobDoes(t *testing.T) {
	s := newServer(t, "COMFYFLEET_LOG_LEVEL=info", "COMFYFLEET_SIM_ARGS=--speed 50 --fault disk-full")
	said, err := demo(t, s, t.TempDir())
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, said)
	require.Equal(t, 1, exit.ExitCode())
	require.Contains(t, said, "No space left on device")
	s.requireNoProcesses()
}

// submitted is a line of `submit --json`.
type submitted struct {
	File    string   `json:"file"`
	JobID   string   `json:"job_id"`
	Status  string   `json:"status"`
	Error   string   `json:"error"`
	Outputs []string `json:"outputs"`
}

func TestSubmitRunsABatchAndReportsEachFile(t *testing.T) {
	s := startServer(t)
	dir, out := t.TempDir(), t.TempDir()
	picture := pictureFile(t, dir)
	var files []string
	for _, name := range []string{"a", "b", "c", "bad"} {
		graph := bundledGraph(t, "image-resize-invert")
		if name == "bad" {
			graph = bytes.ReplaceAll(graph, []byte("ImageInvert"), []byte("ImageInverted"))
		}
		files = append(files, filepath.Join(dir, name+".json"))
		require.NoError(t, os.WriteFile(files[len(files)-1], graph, 0o600))
	}
	s.submit(map[string]any{"workflow_id": "text-to-text"}) // starts a worker
	s.untilNodesAreKnown()
	flags := []string{"submit", "--server", s.base, "--key", testKey, "--media", "input.png=" + picture, "--set", "2.width=64", "--set", "2.height=40",
		"--out", out, "--parallel", "2"}

	stdout, err := s.run(append(append(flags, "--json"), files...)...)
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 1, exit.ExitCode(), "one of four fails")
	results := map[string]submitted{}
	for _, line := range strings.Split(strings.TrimSpace(stdout), "\n") {
		var r submitted
		require.NoError(t, json.Unmarshal([]byte(line), &r), line)
		results[strings.TrimSuffix(filepath.Base(r.File), ".json")] = r
	}
	require.Len(t, results, 4)
	require.Contains(t, results["bad"].Error, "ImageInverted")
	require.Empty(t, results["bad"].JobID)
	for _, name := range []string{"a", "b", "c"} {
		require.Equal(t, "completed", results[name].Status, "%+v", results[name])
		require.Len(t, results[name].Outputs, 1)
		requirePicture(t, results[name].Outputs[0], 64, 40)
	}

	stdout, err = s.run(append(flags, files[0])...)
	require.NoError(t, err)
	requirePicture(t, strings.TrimSpace(stdout), 64, 40)
}

// requirePicture holds a file to being a PNG of that size.
func requirePicture(t *testing.T, path string, width, height int) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	img, err := png.DecodeConfig(f)
	require.NoError(t, err)
	require.Equal(t, []int{width, height}, []int{img.Width, img.Height}, path)
}

// TestTheExampleClientsWork runs what docs/examples offers to be copied.
func TestTheExampleClientsWork(t *testing.T) {
	examples, err := filepath.Abs(filepath.Join("..", "docs", "examples"))
	require.NoError(t, err)
	s := startServer(t)
	dir := t.TempDir()
	graph := filepath.Join(dir, "resize.json")
	require.NoError(t, os.WriteFile(graph, bundledGraph(t, "image-resize-invert"), 0o600))
	medium := "input.png=" + pictureFile(t, dir)

	run := func(t *testing.T, program string, args ...string) (string, error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, program, args...)
		cmd.Dir = t.TempDir()
		cmd.Env = append(os.Environ(), "COMFYFLEET_SERVER="+s.base, "COMFYFLEET_KEY="+testKey, "OUT="+filepath.Join(cmd.Dir, "outputs"))
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			err = errors.Join(err, errors.New(stderr.String()))
		}
		path := strings.TrimSpace(string(out))
		if path != "" && !filepath.IsAbs(path) {
			path = filepath.Join(cmd.Dir, path)
		}
		return path, err
	}
	t.Run("python", func(t *testing.T) {
		interpreter := python(t, "requests")
		script := filepath.Join(examples, "python", "run_workflow.py")
		path, err := run(t, interpreter, script, graph, "--media", medium, "--set", "2.width=48", "--interval", "0.1")
		require.NoError(t, err)
		requirePicture(t, path, 48, 512)
		_, err = run(t, interpreter, script, graph, "--media", medium, "--set", "99.width=48")
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
		require.Equal(t, 2, exit.ExitCode(), "a refusal")
		require.ErrorContains(t, err, "inputs[0]")
	})
	t.Run("curl", func(t *testing.T) {
		for _, program := range []string{"bash", "curl", "jq"} {
			if _, err := exec.LookPath(program); err != nil {
				skip(t, "no "+program)
			}
		}
		script := filepath.Join(examples, "curl", "run_workflow.sh")
		path, err := run(t, "bash", script, graph, medium)
		require.NoError(t, err)
		requirePicture(t, path, 512, 512)
		_, err = run(t, "bash", script, filepath.Join(dir, "picture.png"))
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
		require.Equal(t, 2, exit.ExitCode(), "a refusal")
	})
}
