package proc

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Exit is how a process ended.
type Exit struct {
	// Code is the exit code, -1 when a signal ended the process or nobody saw the end.
	Code int `json:"code"`
	// Signal is the name of the signal that ended it, e.g. SIGKILL; "" for none.
	Signal string    `json:"signal,omitempty"`
	At     time.Time `json:"at"`
	// Seen says that a parent saw the end. When it is false only the fact and roughly the time are known.
	Seen bool `json:"seen"`
}

// exitOf translates what wait(2) said.
func exitOf(ps *os.ProcessState, at time.Time) Exit {
	e := Exit{Code: -1, At: at.UTC(), Seen: true}
	ws, ok := ps.Sys().(syscall.WaitStatus)
	if ok && ws.Signaled() {
		e.Signal = unix.SignalName(ws.Signal())
		return e
	}
	e.Code = ps.ExitCode()
	return e
}

// unseen is the exit of a process that ended while nobody who could learn its status was there.
func unseen(at time.Time) Exit { return Exit{Code: -1, At: at.UTC()} }

// Explain says in plain words how a process ended. It describes the end alone: whether we asked for it, the caller
// knows.
func Explain(e Exit) string {
	switch {
	case !e.Seen:
		return "ended, and nobody saw how"
	case e.Signal != "":
		return explainSignal(e.Signal)
	}
	switch e.Code {
	case 0:
		return "exit 0: it ended by itself"
	case 1:
		return "exit 1: an error that ended the program, see its last log lines"
	case 2:
		return "exit 2: a flag was not understood"
	case 126:
		return "exit 126: the command is not executable"
	case 127:
		return "exit 127: the command was not found"
	case 255:
		return "exit 255: a part that it needs is missing, see its last log lines"
	}
	if e.Code > 128 && e.Code < 128+65 {
		return fmt.Sprintf("exit %d: a process that it ran was ended by signal %d", e.Code, e.Code-128)
	}
	return fmt.Sprintf("exit %d", e.Code)
}

func explainSignal(name string) string {
	text := fmt.Sprintf("killed by signal %d (%s)", int(unix.SignalNum(name)), name)
	switch name {
	case "SIGKILL":
		return text + ", likely the out-of-memory killer"
	case "SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE":
		return text + ": a crash in native code"
	case "SIGABRT":
		return text + ": native code gave up (abort)"
	case "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT":
		return text + ": somebody asked it to end"
	}
	return text
}
