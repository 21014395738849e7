package proc

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// quick takes away the second that the race detector adds to each exit.
const quick = "GORACE=atexit_sleep_ms=0"

const (
	// patience bounds what a test waits for, on a machine that is slow or stands still for a while.
	patience = time.Minute
	// lifetime bounds the programs that the tests run, so that a failed test leaves nothing for long.
	lifetime = 5 * time.Minute
)

// testShim is this binary as the shim.
func testShim() []string { return []string{"/usr/bin/env", quick, os.Args[0], "run-worker"} }

// The test binary is also every program that the tests run: the shim, workers of several characters, and a server
// that dies.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "run-worker":
			os.Exit(ShimMain(os.Args[2:]))
		case "worker":
			os.Exit(workerMain(os.Args[2:]))
		case "server":
			os.Exit(serverMain(os.Args[2]))
		}
	}
	goleak.VerifyTestMain(m)
}

// workerMain plays a worker: each word of args is something that it does.
func workerMain(args []string) int {
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, syscall.SIGINT)
	for _, a := range args {
		verb, arg, _ := strings.Cut(a, "=")
		switch verb {
		case "exit":
			n, _ := strconv.Atoi(arg)
			return n
		case "print":
			fmt.Fprintln(os.Stderr, arg)
		case "flood":
			n, _ := strconv.Atoi(arg)
			for i := range n {
				fmt.Printf("line %06d of a worker that says a lot\n", i)
			}
		case "stubborn":
			signal.Ignore(syscall.SIGINT)
		case "child": // leaves its number in the file
			c := exec.Command(os.Args[0], "worker", "stubborn", "print=child is up", "wait")
			c.Stdout, c.Stderr = os.Stdout, os.Stderr
			if err := c.Start(); err != nil {
				return 90
			}
			if err := os.WriteFile(arg, []byte(strconv.Itoa(c.Process.Pid)), 0o600); err != nil {
				return 91
			}
		case "mark": // says by a file that it has come so far
			if err := os.WriteFile(arg, nil, 0o600); err != nil {
				return 92
			}
		case "await": // goes on when the file exists
			for limit := time.Now().Add(lifetime); ; time.Sleep(5 * time.Millisecond) {
				if _, err := os.Stat(arg); err == nil {
					break
				}
				if time.Now().After(limit) {
					return 93
				}
			}
		case "wait":
			select {
			case <-interrupts:
				fmt.Fprintln(os.Stderr, "Stopped server")
				return 0
			case <-time.After(lifetime):
				return 99
			}
		}
	}
	return 0
}

// serverMain starts a worker under dir and then hangs until it is killed.
func serverMain(dir string) int {
	s := Spec{Name: "gpu0", Argv: []string{os.Args[0], "worker", "print=up", "await=" + filepath.Join(dir, "go"), "exit=7"},
		Env: append(BaseEnv(), quick), LogFile: filepath.Join(dir, "worker.log"), StateFile: filepath.Join(dir, "state.json"),
		Shim: testShim(), Port: 4711, Meta: map[string]string{"client": "c1"}}
	p, err := Start(context.Background(), s)
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	fmt.Println(p.PID())
	select {
	case <-p.Done():
	case <-time.After(lifetime):
	}
	return 0
}

// spec is a worker in a directory of its own, with or without the shim.
func spec(t *testing.T, shim bool, does ...string) Spec {
	t.Helper()
	dir := t.TempDir()
	s := Spec{Name: "gpu0", Dir: dir, Argv: append([]string{os.Args[0], "worker"}, does...), Env: append(BaseEnv(), quick),
		LogFile: filepath.Join(dir, "log", "worker.log"), StateFile: filepath.Join(dir, "state", "gpu0.json"),
		StopGrace: patience, Port: 8188, Meta: map[string]string{"client": "c1"}}
	if shim {
		s.Shim = testShim()
	}
	t.Cleanup(func() {
		if err := KillLeftover(context.Background(), s); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return s
}

// both runs a test with a shim and without.
func both(t *testing.T, test func(t *testing.T, shim bool)) {
	for name, shim := range map[string]bool{"shim": true, "direct": false} {
		t.Run(name, func(t *testing.T) { test(t, shim) })
	}
}

func mustStart(t *testing.T, s Spec) *Process {
	t.Helper()
	p, err := Start(t.Context(), s)
	require.NoError(t, err)
	t.Cleanup(p.Detach)
	return p
}

// awaitLog waits until the worker has said something.
func awaitLog(t *testing.T, s Spec, text string) {
	t.Helper()
	require.Eventually(t, func() bool {
		lines, err := Tail(s.LogFile, 50)
		return err == nil && strings.Contains(strings.Join(lines, "\n"), text)
	}, patience, 5*time.Millisecond, "the worker never said %q", text)
}

func awaitDone(t *testing.T, p *Process) Exit {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(patience):
		t.Fatal("the process did not end")
	}
	return p.Exit()
}

// gone waits until no living process has the number.
func gone(t *testing.T, pid int) {
	t.Helper()
	require.Eventually(t, func() bool {
		e, err := readEntry(pid)
		return err != nil || e.dead()
	}, patience, 5*time.Millisecond, "process %d is still there", pid)
}

// readPID waits for a file that a worker writes a process number to.
func readPID(t *testing.T, file string) int {
	t.Helper()
	var pid int
	require.Eventually(t, func() bool {
		raw, err := os.ReadFile(file)
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(string(raw))
		return err == nil
	}, patience, 5*time.Millisecond)
	return pid
}
