package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"comfyfleet/gpu/comfy"
)

const (
	// startLimit and stopLimit bound the start and the end of a child.
	startLimit = 60 * time.Second
	stopLimit  = 30 * time.Second
	// keptOutput is how much of a child's last output an error shows.
	keptOutput = 4 << 10

	benchKey  = "cfk_bench-key-0123456789-0123456789"
	adminMail = "admin@example.test"
	adminPass = "correct horse battery staple"
)

// lab is what one row works in: a directory, and the children that it started.
type lab struct {
	binary, dir string
	children    []*child
	cleanups    []func() error
}

func newLab(binary string) (*lab, error) {
	full, err := filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "comfyfleet-bench-")
	if err != nil {
		return nil, err
	}
	return &lab{binary: full, dir: dir}, nil
}

// close ends the children, the last one first, and removes the directory.
func (l *lab) close() error {
	var errs []error
	for i := len(l.children) - 1; i >= 0; i-- {
		errs = append(errs, l.children[i].stop())
	}
	for i := len(l.cleanups) - 1; i >= 0; i-- {
		errs = append(errs, l.cleanups[i]())
	}
	return errors.Join(append(errs, os.RemoveAll(l.dir))...)
}

func (l *lab) file(name string) string { return filepath.Join(l.dir, name) }

// child is one process of the program being measured.
type child struct {
	cmd  *exec.Cmd
	done chan struct{}

	mu   sync.Mutex
	last []byte // the end of its output
}

// start runs a command of the program. Each line of its output goes to line, from one goroutine, until it ends.
func (l *lab) start(env []string, line func(string), args ...string) (*child, error) {
	cmd := exec.Command(l.binary, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{cmd: cmd, done: make(chan struct{})}
	l.children = append(l.children, c)
	go func() {
		defer close(c.done)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			c.keep(lines.Bytes())
			line(lines.Text())
		}
		_, _ = io.Copy(io.Discard, out) // a line too long must not block the child
		_ = cmd.Wait()
	}()
	return c, nil
}

func (c *child) keep(line []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = append(append(c.last, line...), '\n')
	if extra := len(c.last) - keptOutput; extra > 0 {
		c.last = bytes.Clone(c.last[extra:])
	}
}

func (c *child) output() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.last)
}

// stop ends the child in order, and for good when it does not obey.
func (c *child) stop() error {
	_ = c.cmd.Process.Signal(os.Interrupt) // it may have ended
	select {
	case <-c.done:
		return nil
	case <-time.After(stopLimit):
	}
	_ = c.cmd.Process.Signal(syscall.SIGKILL)
	<-c.done
	return fmt.Errorf("%s did not stop within %s; its last words:\n%s", strings.Join(c.cmd.Args, " "), stopLimit, c.output())
}

// service is a running `comfyfleet serve`.
type service struct {
	*child
	address, dir string
}

// serve starts the service on a data directory; env adds settings.
func (l *lab) serve(ctx context.Context, dir string, env ...string) (*service, error) {
	s := &service{dir: dir}
	listening := make(chan struct{})
	settings := append([]string{
		"COMFYFLEET_DATA_DIR=" + dir, "COMFYFLEET_LISTEN=127.0.0.1:0", "COMFYFLEET_BOOTSTRAP_KEY=" + benchKey,
		"COMFYFLEET_ADMIN_EMAIL=" + adminMail, "COMFYFLEET_ADMIN_PASSWORD=" + adminPass,
		"COMFYFLEET_LOG_FORMAT=json", "COMFYFLEET_LOG_LEVEL=info", "COMFYFLEET_SHUTDOWN_GRACE=1ms", "COMFYFLEET_MIN_FREE_DISK=0",
		"COMFYFLEET_RATE_SUBMIT=off", "COMFYFLEET_RATE_STATUS=off", "COMFYFLEET_RATE_MANAGE=off",
		"COMFYFLEET_MAX_QUEUED_PER_TENANT=100000", "COMFYFLEET_SCALE_DOWN_AFTER=0", "COMFYFLEET_RETENTION=0",
	}, env...)
	c, err := l.start(settings, func(line string) {
		var entry struct{ Msg, Address string }
		if s.address == "" && json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "listening" {
			s.address = entry.Address
			close(listening)
		}
	}, "serve")
	if err != nil {
		return nil, err
	}
	s.child = c
	return s, await(ctx, c, listening)
}

// await waits until a starting child is ready.
func await(ctx context.Context, c *child, ready <-chan struct{}) error {
	select {
	case <-ready:
		return nil
	case <-c.done:
		return fmt.Errorf("%s ended at its start:\n%s", strings.Join(c.cmd.Args, " "), c.output())
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(startLimit):
		return fmt.Errorf("%s did not answer within %s:\n%s", strings.Join(c.cmd.Args, " "), startLimit, c.output())
	}
}

// engine starts one simulator by itself and waits until it answers.
func (l *lab) engine(ctx context.Context, args ...string) (*engine, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	argv := append([]string{"sim", "--listen", "127.0.0.1", "--port", fmt.Sprint(port), "--test-nodes", "--base-directory", l.file("engine")}, args...)
	c, err := l.start(nil, func(string) {}, argv...)
	if err != nil {
		return nil, err
	}
	e := newEngine(comfy.New(fmt.Sprintf("http://127.0.0.1:%d", port), comfy.Options{}))
	l.cleanups = append(l.cleanups, e.close)
	return e, await(ctx, c, e.connected)
}
