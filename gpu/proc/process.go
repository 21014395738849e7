package proc

import (
	"context"
	"fmt"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// shimWait is how long the shim may take to write the exit record and leave after its worker has ended.
const shimWait = 30 * time.Second

// Process is one worker process, started by us or adopted. Its methods may be called from several goroutines.
type Process struct {
	spec   Spec
	state  state
	worker *handle
	// shim is nil without one, or when it was gone already.
	shim *handle
	// child is to be reaped by us: the shim or the worker; nil for an adopted process.
	child *exec.Cmd

	done chan struct{}
	// exit is written before done is closed and read after it.
	exit Exit
	// over ends the log keeper and is closed when the process ends or is let go.
	over    chan struct{}
	release sync.Once
	owned   sync.WaitGroup
}

// newProcess takes over the handles and starts to follow the worker.
func newProcess(s Spec, st state, worker, shim *handle, child *exec.Cmd) *Process {
	p := &Process{spec: s, state: st, worker: worker, shim: shim, child: child,
		done: make(chan struct{}), over: make(chan struct{})}
	p.owned.Go(p.follow)
	if st.Shim.PID == 0 {
		p.owned.Go(p.keepLog)
	}
	return p
}

// endedProcess stands for a worker that ended while no server was there.
func endedProcess(s Spec, st state, e Exit) *Process {
	p := &Process{spec: s, state: st, done: make(chan struct{}), over: make(chan struct{}), exit: e}
	close(p.done)
	close(p.over)
	return p
}

// PID is the worker's process number.
func (p *Process) PID() int { return p.state.Worker.PID }

// Port is what the Spec recorded when the process was started, 0 for none.
func (p *Process) Port() int { return p.state.Port }

// Argv is the command line it was started with.
func (p *Process) Argv() []string { return p.state.Argv }

// Meta is what the Spec recorded when the process was started.
func (p *Process) Meta() map[string]string { return p.state.Meta }

// StartedAt is when it was started.
func (p *Process) StartedAt() time.Time { return p.state.StartedAt }

// Done is closed when the process has ended and Exit says how. It is never closed after Detach.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit is how the process ended; the zero Exit while it runs.
func (p *Process) Exit() Exit {
	select {
	case <-p.done:
		return p.exit
	default:
		return Exit{}
	}
}

// RSS is the resident memory of the worker in bytes, without what it started; 0 when it has ended.
func (p *Process) RSS() int64 {
	e, err := readEntry(p.state.Worker.PID)
	if err != nil || e.Start != p.state.Worker.Start || e.dead() {
		return 0
	}
	return e.RSS
}

// Stop asks the process to end, and kills its group after the grace or when ctx ends. It waits for the end, at most
// 10 s beyond the kill; an error says that the process is still there.
func (p *Process) Stop(ctx context.Context) (Exit, error) {
	p.signal(p.spec.signal())
	grace := time.NewTimer(p.spec.grace())
	defer grace.Stop()
	select {
	case <-p.done:
		return p.exit, nil
	case <-grace.C:
	case <-ctx.Done():
	}
	p.Kill()
	last := time.NewTimer(killWait)
	defer last.Stop()
	select {
	case <-p.done:
		return p.exit, nil
	case <-last.C:
		return Exit{}, fmt.Errorf("%s (process %d) is still there %v after SIGKILL", p.spec.Name, p.PID(), killWait)
	}
}

// Kill ends the process and its group at once. It does not wait; Done tells the end.
func (p *Process) Kill() { p.signal(syscall.SIGKILL) }

// signal reaches the worker's group. Before the first signal the worker has had no reason to leave, so its group is
// the one that we made.
func (p *Process) signal(sig syscall.Signal) {
	if p.worker != nil {
		p.worker.signalGroup(sig)
	}
}

// Detach lets go of the process without ending it, so that a later server can adopt it. Afterwards the Process only
// knows what was recorded.
func (p *Process) Detach() {
	p.letGo()
	p.owned.Wait()
}

// letGo wakes our goroutines and closes the handles.
func (p *Process) letGo() {
	p.release.Do(func() {
		select {
		case <-p.over:
		default:
			close(p.over)
		}
		for _, h := range []*handle{p.worker, p.shim} {
			if h != nil {
				h.close()
			}
		}
	})
}

// follow waits for the worker's end, learns how it ended, and ends what it left behind.
func (p *Process) follow() {
	if err := p.worker.wait(0); err != nil {
		return // let go
	}
	p.exit = p.collect()
	close(p.done)
	p.letGo()
}

func (p *Process) collect() Exit {
	at := time.Now()
	if p.state.Shim.PID != 0 {
		return p.collectFromShim(at)
	}
	// While we have not reaped the worker its number, and with it the session, cannot change hands.
	p.state.session().end()
	if p.child == nil {
		return unseen(at)
	}
	_ = p.child.Wait() // the error only repeats the status
	return exitOf(p.child.ProcessState, at)
}

// collectFromShim waits for the shim's record. A shim that is gone or stuck leaves none.
func (p *Process) collectFromShim(at time.Time) Exit {
	gone := p.shim == nil || p.shim.wait(shimWait) == nil
	if !gone {
		p.shim.signal(syscall.SIGKILL)
		gone = p.shim.wait(shimWait) == nil
	}
	p.state.session().end()
	if p.child != nil && gone {
		_ = p.child.Wait()
	}
	if e, ok := loadExit(p.spec.StateFile, p.state); ok {
		return e
	}
	return unseen(at)
}

// keepLog rotates the log of a direct child; with a shim that is the shim's work, because it outlives us.
func (p *Process) keepLog() {
	tick := time.NewTicker(p.spec.rotation().every)
	defer tick.Stop()
	for {
		select {
		case <-p.over:
			return
		case <-tick.C:
			p.spec.rotation().apply()
		}
	}
}
