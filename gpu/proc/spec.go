package proc

import (
	"errors"
	"syscall"
	"time"
)

const (
	// defaultGrace is how long a process has to obey the stop signal. ComfyUI leaves within 1.3 s of SIGINT, but
	// only when no node blocks it.
	defaultGrace = 5 * time.Second
	// killWait bounds the wait after SIGKILL. A process that is still there then hangs in the kernel (a driver
	// call): nobody can end it, and waiting longer helps nobody.
	killWait = 10 * time.Second
	// startWait bounds how long a shim may take to start its worker.
	startWait = 15 * time.Second
)

// ErrRunning is what Start answers while the process of an earlier Start still lives.
var ErrRunning = errors.New("the process of this state file is still running")

// Spec says what to run and where to keep what is known about it.
type Spec struct {
	// Name is for error texts.
	Name string
	// Dir is the working directory; "" for the server's own.
	Dir  string
	Argv []string
	// Env is the whole environment of the worker; see BaseEnv. It is never written to a file.
	Env []string
	// LogFile gets stdout and stderr; it is made with its directory, and appended to.
	LogFile string
	// StateFile lets a later server adopt the process. Required; it is made with its directory.
	StateFile string
	// StopGrace is the time between StopSignal and SIGKILL; 0 means 5 s.
	StopGrace time.Duration
	// StopSignal is SIGINT when zero (ComfyUI ends cleanly on it, and dies at once of SIGTERM).
	StopSignal syscall.Signal
	// Shim is the argv prefix of the hidden run-worker command; empty makes the worker a direct child.
	Shim []string
	// Port is recorded for the server that adopts the process; 0 for none.
	Port int
	// Meta is recorded too: what the owner wants to find again, no secrets.
	Meta map[string]string
	// LogLimit is the size in bytes at which the log is rotated, 0 for 32 MiB; LogKeep the number of old logs kept,
	// 0 for 3; LogEvery how often the size is looked at, 0 for 5 s.
	LogLimit int64
	LogKeep  int
	LogEvery time.Duration
}

func (s Spec) check() error {
	switch {
	case len(s.Argv) == 0:
		return errors.New("no command")
	case s.StateFile == "":
		return errors.New("no state file")
	case s.LogFile == "":
		return errors.New("no log file")
	}
	return nil
}

func (s Spec) grace() time.Duration {
	if s.StopGrace <= 0 {
		return defaultGrace
	}
	return s.StopGrace
}

func (s Spec) signal() syscall.Signal {
	if s.StopSignal == 0 {
		return syscall.SIGINT
	}
	return s.StopSignal
}

func (s Spec) rotation() rotation {
	r := rotation{path: s.LogFile, limit: s.LogLimit, keep: s.LogKeep, every: s.LogEvery}
	if r.limit <= 0 {
		r.limit = defaultLogLimit
	}
	if r.keep <= 0 {
		r.keep = defaultLogKeep
	}
	if r.every <= 0 {
		r.every = defaultLogEvery
	}
	return r
}
