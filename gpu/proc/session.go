package proc

import (
	"syscall"
	"time"
)

const (
	// sweepRounds and sweepPause bound how long endSession tries: a process can fork while we kill, but not outrun
	// two seconds of rounds; one that hangs in the kernel is left to the kernel.
	sweepRounds = 100
	sweepPause  = 20 * time.Millisecond
)

// session is the set of processes that a worker may have made: everything that it started and that did not open a
// session of its own.
type session struct {
	// leader is the shim, or the worker itself without one. The kernel does not give the leader's number away while
	// the session has members.
	leader identity
	// spare is a member that is not to be touched (the shim), 0 for none.
	spare int
}

// members are the living processes of the session.
func (s session) members() []entry {
	if s.leader.PID <= 1 {
		return nil // 0 is the kernel's session, 1 that of init: never ours
	}
	all, err := processes()
	if err != nil {
		return nil
	}
	var in []entry
	for _, e := range all {
		if e.PID == s.leader.PID && e.Start != s.leader.Start {
			return nil // the number belongs to somebody else now, so our session has no members
		}
		if e.Session == s.leader.PID && e.Start >= s.leader.Start && e.PID != s.spare && !e.dead() {
			in = append(in, e)
		}
	}
	return in
}

// end kills what is left of the session and waits until it is gone.
func (s session) end() {
	for range sweepRounds {
		left := s.members()
		if len(left) == 0 {
			return
		}
		for _, e := range left {
			_ = syscall.Kill(e.PID, syscall.SIGKILL)
		}
		time.Sleep(sweepPause)
	}
}
