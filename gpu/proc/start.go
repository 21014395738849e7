package proc

import (
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
	"syscall"
	"time"
)

// shimEnv keeps the shim small: it does nothing but wait.
var shimEnv = []string{"GOMAXPROCS=1", "GOGC=20"}

// Start runs the process and returns when it exists; whether it works is for the caller to probe. ctx bounds the start
// only. ErrRunning while the process of an earlier Start on this state file lives: Adopt it or KillLeftover it.
func Start(ctx context.Context, s Spec) (*Process, error) {
	p, err := start(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	return p, nil
}

func start(ctx context.Context, s Spec) (*Process, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := makeRoom(s); err != nil {
		return nil, err
	}
	if len(s.Shim) > 0 {
		return startShim(ctx, s)
	}
	return startDirect(s)
}

// makeRoom checks that no earlier process lives and makes the directories.
func makeRoom(s Spec) error {
	for _, f := range []string{s.StateFile, s.LogFile} {
		if err := os.MkdirAll(filepath.Dir(f), 0o700); err != nil {
			return err
		}
	}
	st, ok, err := loadState(s.StateFile)
	if err != nil {
		return err
	}
	if ok && st.alive() {
		return fmt.Errorf("%w (process %d)", ErrRunning, st.Worker.PID)
	}
	return forget(s.StateFile)
}

// alive says that the worker or its shim still runs.
func (st state) alive() bool {
	for _, id := range []identity{st.Worker, st.Shim} {
		if h, err := openHandle(id); err == nil {
			h.close()
			return true
		}
	}
	return false
}

// openLog opens the log for a worker. Append mode lets the log be cut while the worker writes.
func openLog(s Spec) (*os.File, error) {
	s.rotation().apply()
	return os.OpenFile(s.LogFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}

// command is the worker's command with its output in the log.
func command(s Spec, log *os.File, attr *syscall.SysProcAttr) *exec.Cmd {
	cmd := exec.Command(s.Argv[0], s.Argv[1:]...)
	cmd.Dir, cmd.Env = s.Dir, s.Env
	if cmd.Env == nil {
		cmd.Env = []string{} // nil would hand our own environment, secrets included, to the worker
	}
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, attr
	return cmd
}

func startDirect(s Spec) (*Process, error) {
	st, err := newState(s)
	if err != nil {
		return nil, err
	}
	log, err := openLog(s)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := command(s, log, &syscall.SysProcAttr{Setsid: true})
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	h, err := openChild(cmd.Process.Pid)
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, err
	}
	st.Worker = h.id
	if err := writeJSON(s.StateFile, st); err != nil {
		session{leader: h.id}.end()
		h.close()
		_ = cmd.Wait()
		return nil, err
	}
	return newProcess(s, st, h, nil, cmd), nil
}

// report is what the shim says over its descriptor 3 once the worker runs, or cannot.
type report struct {
	State state  `json:"state"`
	Error string `json:"error,omitempty"`
}

// startShim runs the shim, gives it the Spec on its standard input and waits for its report.
func startShim(ctx context.Context, s Spec) (*Process, error) {
	order, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	log, err := openLog(s)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	in, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	argv := append(append([]string{}, s.Shim...), s.StateFile)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(BaseEnv(), shimEnv...)
	cmd.Stdin = bytes.NewReader(order)
	cmd.Stderr = log // a panic of the shim belongs beside what its worker said
	cmd.ExtraFiles = []*os.File{out}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	out.Close()
	if err != nil {
		return nil, fmt.Errorf("run the shim: %w", err)
	}
	p, err := awaitReport(ctx, s, cmd, in)
	if err != nil {
		abandonShim(s, cmd)
		return nil, err
	}
	return p, nil
}

func awaitReport(ctx context.Context, s Spec, cmd *exec.Cmd, in *os.File) (*Process, error) {
	shim, err := openChild(cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	r, err := readReport(ctx, in)
	if err != nil {
		shim.close()
		return nil, err
	}
	worker, err := openHandle(r.State.Worker)
	if errors.Is(err, errGone) { // it ended at once: the shim has, or will have, written how
		defer shim.close()
		if shim.wait(shimWait) == nil {
			_ = cmd.Wait()
		}
		e, ok := loadExit(s.StateFile, r.State)
		if !ok {
			e = unseen(time.Now())
		}
		return endedProcess(s, r.State, e), nil
	}
	if err != nil {
		shim.close()
		return nil, err
	}
	return newProcess(s, r.State, worker, shim, cmd), nil
}

func readReport(ctx context.Context, in *os.File) (report, error) {
	if err := in.SetReadDeadline(time.Now().Add(startWait)); err != nil {
		return report{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = in.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := io.ReadAll(io.LimitReader(in, 1<<20))
	if ctx.Err() != nil {
		return report{}, ctx.Err()
	}
	if err != nil {
		return report{}, fmt.Errorf("wait for the shim: %w", err)
	}
	var r report
	if err := json.Unmarshal(raw, &r); err != nil {
		return report{}, errors.New("the shim ended without a word; is the run-worker command right?")
	}
	if r.Error != "" {
		return report{}, errors.New(strings.TrimSpace(r.Error))
	}
	return r, nil
}

// abandonShim ends a shim whose start went wrong, with whatever it has started, and reaps it.
func abandonShim(s Spec, cmd *exec.Cmd) {
	if h, err := openChild(cmd.Process.Pid); err == nil {
		session{leader: h.id}.end()
		h.close()
	}
	_ = cmd.Wait()
	_ = forget(s.StateFile)
}
