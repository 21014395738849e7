package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	testKey       = "cfk_end-to-end-test-key-0123456789"
	adminEmail    = "admin@example.test"
	adminPassword = "correct horse battery"
	viewerEmail   = "viewer@example.test"
	// patience is how long a test waits for one thing on a machine that has others to do, and may do nothing at all for
	// seconds.
	patience = 2 * time.Minute
	// tick is the gap between two looks.
	tick = 50 * time.Millisecond
)

// service is one `comfyfleet serve` as a child process, on simulated workers.
type service struct {
	t    *testing.T
	dir  string
	env  []string
	cmd  *exec.Cmd
	base string
	key  string // of the API calls of a test
	log  safeBuffer
	done chan struct{}
}

// startService starts a server on a data directory of its own; env adds or overrides settings.
func startService(t *testing.T, env ...string) *service {
	t.Helper()
	s := &service{t: t, dir: t.TempDir(), key: testKey}
	s.env = append(os.Environ(), "COMFYFLEET_DATA_DIR="+s.dir, "COMFYFLEET_LISTEN=127.0.0.1:0", "COMFYFLEET_BOOTSTRAP_KEY="+testKey,
		"COMFYFLEET_ADMIN_EMAIL="+adminEmail, "COMFYFLEET_ADMIN_PASSWORD="+adminPassword,
		"COMFYFLEET_WORKERS=sim:2", "COMFYFLEET_MIN_READY=2", "COMFYFLEET_SIM_ARGS=--speed 4 --test-nodes", "COMFYFLEET_LOG_FORMAT=json",
		"COMFYFLEET_SHUTDOWN_GRACE=2s", "COMFYFLEET_RATE_SUBMIT=off", "COMFYFLEET_RATE_STATUS=off", "COMFYFLEET_RATE_MANAGE=off")
	s.env = append(s.env, env...)
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			t.Logf("end of the server's log:\n%s", s.log.tail(12<<10))
		}
	})
	s.start()
	return s
}

// start runs the server and waits until it listens. Started again, it has the address that it had.
func (s *service) start() {
	s.t.Helper()
	s.cmd = exec.Command(binary, "serve")
	s.cmd.Env = s.env
	if s.base != "" {
		s.cmd.Env = append(s.cmd.Env, "COMFYFLEET_LISTEN="+strings.TrimPrefix(s.base, "http://"))
	}
	stderr, err := s.cmd.StderrPipe()
	require.NoError(s.t, err)
	require.NoError(s.t, s.cmd.Start())
	address, done := make(chan string, 1), make(chan struct{})
	s.done = done
	go func(cmd *exec.Cmd) {
		defer close(done)
		lines := bufio.NewScanner(stderr)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			s.log.Write(append(lines.Bytes(), '\n'))
			var entry struct{ Msg, Address string }
			if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "listening" {
				address <- entry.Address
			}
		}
		_ = cmd.Wait()
	}(s.cmd)
	select {
	case a := <-address:
		s.base = "http://" + a
	case <-done:
		s.t.Fatalf("the server ended at start:\n%s", s.log.tail(8<<10))
	case <-time.After(patience):
		s.t.Fatal("the server did not listen")
	}
}

// stop ends the server as an operator does and waits for it.
func (s *service) stop() {
	select {
	case <-s.done:
		return
	default:
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(patience):
		s.t.Error("the server did not stop")
		_ = s.cmd.Process.Kill()
		<-s.done
	}
}

// command runs another command of the program beside the server.
func (s *service) command(stdin string, args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env, cmd.Dir, cmd.Stdin = s.env, s.t.TempDir(), strings.NewReader(stdin)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	require.NoError(s.t, err, "comfyfleet %s: %s", strings.Join(args, " "), errOut.String())
	return string(out)
}

// addViewer makes an operator who may only look, with the admin's password.
func (s *service) addViewer() {
	s.t.Helper()
	s.command(adminPassword+"\n", "operators", "create", viewerEmail, "--role", "viewer")
}

// safeBuffer collects a child's log while a test reads it.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *safeBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *safeBuffer) tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.b.String()
	return s[max(0, len(s)-n):]
}
