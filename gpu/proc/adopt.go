package proc

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Adopt finds the process that an earlier server started on the same state file. ok says that it runs and is now
// ours to follow. When it has ended meanwhile ok is false and p, if not nil, says how (Exit); when there is nothing to
// find both are empty. Only StateFile, Name, StopGrace and StopSignal of the Spec are used, and LogFile without a shim.
func Adopt(s Spec) (p *Process, ok bool, err error) {
	st, ok, err := loadState(s.StateFile)
	if err != nil || !ok || st.Worker.PID == 0 {
		return nil, false, err
	}
	worker, err := openHandle(st.Worker)
	if errors.Is(err, errGone) {
		return ended(s, st), false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("adopt %s: %w", s.Name, err)
	}
	var shim *handle
	if st.Shim.PID != 0 {
		// A shim that was killed is no reason to leave the worker: only its exit status will be missing.
		if shim, err = openHandle(st.Shim); err != nil && !errors.Is(err, errGone) {
			worker.close()
			return nil, false, fmt.Errorf("adopt %s: %w", s.Name, err)
		}
	}
	return newProcess(s, st, worker, shim, nil), true, nil
}

// ended reads how a worker ended that is gone. Its shim may be about to write it down.
func ended(s Spec, st state) *Process {
	if shim, err := openHandle(st.Shim); err == nil {
		_ = shim.wait(shimWait)
		shim.close()
	}
	if e, ok := loadExit(s.StateFile, st); ok {
		return endedProcess(s, st, e)
	}
	return endedProcess(s, st, unseen(time.Now()))
}

// KillLeftover ends everything that an earlier server left on this state file, politely first, and removes the file.
// It does nothing when nothing is left.
func KillLeftover(ctx context.Context, s Spec) error {
	p, ok, err := Adopt(s)
	if err != nil {
		return err
	}
	if ok {
		if _, err := p.Stop(ctx); err != nil {
			p.Detach()
			return err
		}
	}
	// The session may have members although the worker is gone: its own children, or a shim that lost it.
	st, ok, err := loadState(s.StateFile)
	if err != nil {
		return err
	}
	if ok {
		all := st.session()
		all.spare = 0
		all.end()
	}
	if err := forget(s.StateFile); err != nil {
		return fmt.Errorf("forget %s: %w", s.Name, err)
	}
	return nil
}
