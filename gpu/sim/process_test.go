package sim_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// process is the program in a process of its own.
type process struct {
	*rig
	cmd  *exec.Cmd
	out  *output
	exit chan error
}

// output collects what a process writes.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

var address = regexp.MustCompile(`To see the GUI go to: (http://\S+)`)

// launch starts the program without waiting for anything.
func launch(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{rig: &rig{t: t}, cmd: exec.Command(os.Args[0], args...), out: &output{}, exit: make(chan error, 1)}
	p.cmd.Env = append(os.Environ(), childEnv+"=1")
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.exit)
		p.exit <- p.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.exit // it writes nothing any more to what is removed next
	})
	return p
}

// ready waits until the program serves.
func (p *process) ready() *process {
	p.t.Helper()
	require.Eventually(p.t, func() bool { return address.MatchString(p.out.String()) }, patience, tick, "no address")
	p.base = address.FindStringSubmatch(p.out.String())[1]
	require.Contains(p.t, p.out.String(), "Starting server")
	return p
}

// serving starts the program on a free port.
func serving(t *testing.T, args ...string) *process {
	t.Helper()
	return launch(t, append([]string{"--listen", "127.0.0.1", "--port", "0", "--test-nodes", "--disable-auto-launch", "--speed", "100"}, args...)...).ready()
}

// unblock lets the nodes go on that wait, without an upload: its answer would race with the end of the process.
func (p *process) unblock(dir string) {
	p.t.Helper()
	require.NoError(p.t, os.WriteFile(filepath.Join(dir, "input", "go"), nil, 0o644))
}

// ended waits for the end and describes it: exit N or the signal.
func (p *process) ended() string {
	p.t.Helper()
	select {
	case <-p.exit:
	case <-time.After(patience):
		p.t.Fatalf("still running: %s", p.out)
	}
	status := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return status.Signal().String()
	}
	return fmt.Sprint("exit ", status.ExitStatus())
}

func TestExitCodesAtStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	for _, c := range []struct{ args, want, says string }{
		{"--no-such-flag", "exit 2", "unrecognized arguments: --no-such-flag"},
		{"--user-directory /nope", "exit 2", "The path '/nope' does not exist."},
		{"--port", "exit 2", "expected 1 value"},
		{"--speed 0", "exit 2", "must be positive"},
		{"--fault nope", "exit 2", "unknown fault"},
		{"--fault exit-at-start=7", "exit 7", ""},
		{"--fault help", "exit 0", "crash-at-step=N[/exit|kill|abort|segv]"},
		{"--help", "exit 0", "usage: comfyfleet sim"},
		{"--quick-test-for-ci", "exit 0", "Stopped server"},
		{"--listen " + taken.Addr().String(), "exit 1", "already in use"},
	} {
		p := launch(t, strings.Fields(c.args)...)
		require.Equal(t, c.want, p.ended(), "%s: %s", c.args, p.out)
		require.Contains(t, p.out.String(), c.says, c.args)
	}
}

func TestTheFlagsOfASupervisorAreUnderstood(t *testing.T) {
	dir := t.TempDir()
	p := serving(t, "--base-directory", dir, "--output-directory", filepath.Join(dir, "out"), "--database-url", "sqlite:///x.db", "--preview-method", "auto",
		"--disable-metadata", "--disable-api-nodes", "--dont-print-server", "--cache-ram", "4", "8", "--cuda-device", "0", "--extra-model-paths-config", "a.yaml", "b.yaml",
		"--max-upload-size", "1", "--verbose", "INFO", "--load-time", "1ms", "--step-time=1ms", "--models", "vae/a,vae/b")
	stats := p.do("GET", "/system_stats", nil).json(t)["system"].(M)
	require.Equal(t, true, stats["comfyfleet_simulator"])
	require.Equal(t, "0.33.0", stats["comfyui_version"])
	require.Contains(t, stats["argv"], "--extra-model-paths-config")
	require.JSONEq(t, `["a","b"]`, string(p.do("GET", "/models/vae", nil).body))
	require.Equal(t, 1048576.0, p.do("GET", "/features", nil).json(t)["max_upload_size"])
	p.history(p.submit(stepped(1, 1, 0.001, false), ""))
	require.FileExists(t, filepath.Join(dir, "out", "t", "steps_00001_.png"))
}

func TestSIGINTEndsCleanlyWithoutWaitingForThePrompt(t *testing.T) {
	dir := t.TempDir()
	p := serving(t, "--base-directory", dir)
	s := p.dial("a")
	id := p.submit(`{"1":{"class_type":"EmptyImage","inputs":{"width":8,"height":8,"batch_size":1,"color":1}},"2":{"class_type":"PreviewImage","inputs":{"images":["1",0]}},
	"3":{"class_type":"SimSleep","inputs":{"image":["1",0],"seconds":60000,"seed":1}},"4":{"class_type":"SaveImage","inputs":{"images":["3",0],"filename_prefix":"x"}}}`, "a")
	s.executing(id, "3")
	require.Len(t, listDir(t, filepath.Join(dir, "temp")), 1)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGINT))
	require.Equal(t, "exit 0", p.ended())
	require.NoDirExists(t, filepath.Join(dir, "temp"))
	require.Contains(t, p.out.String(), "Stopped server")
	require.Eventually(t, s.closed, patience, tick)
}

func TestSIGTERMEndsAtOnceAndLeavesTheTempDirectory(t *testing.T) {
	dir := t.TempDir()
	p := serving(t, "--base-directory", dir)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, "terminated", p.ended())
	require.DirExists(t, filepath.Join(dir, "temp"))
}

func TestIgnoringSIGINT(t *testing.T) {
	p := serving(t, "--base-directory", t.TempDir(), "--fault", "ignore-sigint")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGINT))
	require.Equal(t, 200, p.do("GET", "/queue", nil).status)
	require.NoError(t, p.cmd.Process.Kill())
	require.Equal(t, "killed", p.ended())
}

func TestCrashesEndTheProcessAsTheyShould(t *testing.T) {
	// The wait lets the answer to POST /prompt out first.
	crash := func(kind, more string) string {
		return `{"1":{"class_type":"EmptyImage","inputs":{"width":8,"height":8,"batch_size":1,"color":1}},"3":{"class_type":"SimWait","inputs":{"image":["1",0]}},
		"2":{"class_type":"SimCrash","inputs":{"image":["3",0],"kind":"` + kind + `"` + more + `}}}`
	}
	for kind, want := range map[string]string{"exit": "exit 3", "kill": "killed", "abort": "aborted", "segv": "segmentation fault"} {
		dir := t.TempDir()
		p := serving(t, "--base-directory", dir)
		s := p.dial("a")
		p.submit(crash(kind, ""), "a")
		p.unblock(dir)
		require.Equal(t, want, p.ended())
		require.Eventually(t, s.closed, patience, tick)
	}

	dir := t.TempDir()
	first := serving(t, "--base-directory", dir)
	first.submit(crash("kill", `,"once":true`), "")
	first.unblock(dir)
	require.Equal(t, "killed", first.ended())
	second := serving(t, "--base-directory", dir)
	require.Equal(t, M{}, second.do("GET", "/history", nil).json(t), "nothing survives")
	h := second.history(second.submit(crash("kill", `,"once":true`), ""))
	require.Equal(t, "success", h["status"].(M)["status_str"], "once was the first time")
}

func TestAPoisonedUIEndsTheProcess(t *testing.T) {
	dir := t.TempDir()
	p := serving(t, "--base-directory", dir)
	p.dial("a")
	p.submit(`{"1":{"class_type":"EmptyImage","inputs":{"width":8,"height":8,"batch_size":1,"color":1}},"3":{"class_type":"SimWait","inputs":{"image":["1",0]}},
	"2":{"class_type":"SimPoison","inputs":{"image":["3",0]}}}`, "a")
	p.unblock(dir)
	require.Equal(t, "exit 1", p.ended())
	require.Contains(t, p.out.String(), "not JSON serializable")
}

func TestASlowStartListensLate(t *testing.T) {
	p := launch(t, "--listen", "127.0.0.1:0", "--base-directory", t.TempDir(), "--fault", "slow-start=1h")
	serving(t, "--base-directory", t.TempDir()) // begun after it
	require.NotRegexp(t, address, p.out.String())
	require.NoError(t, p.cmd.Process.Kill())
	require.Equal(t, "killed", p.ended())
}

func listDir(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	return entries
}
