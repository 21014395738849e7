package proc

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// reportFD is where the shim reports to the server that started it.
const reportFD = 3

// ShimMain is the hidden command "run-worker STATEFILE": it reads a Spec from standard input, starts the worker,
// reports on descriptor 3 and stays until the worker has ended. It does not depend on the server: no pipe, no
// parent-death signal. It returns the exit code of the shim, which says nothing about the worker.
func ShimMain(args []string) int {
	err := runShim(args)
	if err == nil {
		return 0
	}
	answer(report{Error: err.Error()})
	fmt.Fprintln(os.Stderr, "run-worker:", err)
	return 1
}

func runShim(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: run-worker STATEFILE (started by the server, not by hand)")
	}
	// An inherited descriptor stays open over the next exec: the worker would hold the report pipe for ever.
	syscall.CloseOnExec(reportFD)
	var s Spec
	if err := json.NewDecoder(io.LimitReader(os.Stdin, 4<<20)).Decode(&s); err != nil {
		return fmt.Errorf("read the order: %w", err)
	}
	if s.StateFile = args[0]; s.check() != nil {
		return s.check()
	}
	lock, err := takeLock(s.StateFile + lockSuffix)
	if err != nil {
		return err
	}
	defer lock.Close()
	// Catching these also gives the worker their default action: a server started in the background by a shell
	// ignores SIGINT, its children would inherit that, and Python then never stops on SIGINT.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)

	st, cmd, worker, err := startWorker(s)
	if err != nil {
		return err
	}
	defer worker.close()
	answer(report{State: st})
	debug.FreeOSMemory()
	follow(s, worker, signals)
	return settle(s, st, cmd)
}

// takeLock makes sure that a state file has one shim. The lock goes with the process, however it ends.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%w: another shim holds %s", ErrRunning, filepath.Base(path))
	}
	return f, nil
}

// startWorker starts the worker in a group of its own. The state is written before, too: a shim that is killed in
// between can then be found by its session.
func startWorker(s Spec) (state, *exec.Cmd, *handle, error) {
	fail := func(err error) (state, *exec.Cmd, *handle, error) { return state{}, nil, nil, err }
	st, err := newState(s)
	if err != nil {
		return fail(err)
	}
	me, err := readEntry(os.Getpid())
	if err != nil {
		return fail(err)
	}
	st.Shim = me.identity
	if err := writeJSON(s.StateFile, st); err != nil {
		return fail(err)
	}
	log, err := openLog(s)
	if err != nil {
		return fail(err)
	}
	defer log.Close()
	cmd := command(s, log, &syscall.SysProcAttr{Setpgid: true})
	if err := cmd.Start(); err != nil {
		return fail(err)
	}
	worker, err := openChild(cmd.Process.Pid)
	if err == nil {
		st.Worker = worker.id
		err = writeJSON(s.StateFile, st)
	}
	if err != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		return fail(err)
	}
	return st, cmd, worker, nil
}

// answer reports to the server. When that is gone already nobody reads it, which changes nothing: the next server
// finds the state file.
func answer(r report) {
	f := os.NewFile(reportFD, "report")
	if f == nil {
		return
	}
	defer f.Close()
	if raw, err := json.Marshal(r); err == nil {
		_, _ = f.Write(raw)
	}
}

// follow waits for the worker, forwards signals to its group and keeps the log small.
func follow(s Spec, worker *handle, signals <-chan os.Signal) {
	over := make(chan struct{})
	go func() { defer close(over); _ = worker.wait(0) }()
	tick := time.NewTicker(s.rotation().every)
	defer tick.Stop()
	for {
		select {
		case <-over:
			return
		case sig := <-signals:
			if sig != syscall.SIGHUP {
				worker.signalGroup(sig.(syscall.Signal))
			}
		case <-tick.C:
			s.rotation().apply()
		}
	}
}

// settle ends what the worker left behind, then writes down how it ended. The order matters: whoever reads the record
// may start the next worker, which needs the card's memory.
func settle(s Spec, st state, cmd *exec.Cmd) error {
	at := time.Now()
	st.session().end()
	_ = cmd.Wait() // the error only repeats the status
	return writeJSON(s.StateFile+exitSuffix, exitRecord{BootID: st.BootID, Worker: st.Worker,
		Exit: exitOf(cmd.ProcessState, at)})
}
