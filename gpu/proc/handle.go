package proc

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// handle is a pidfd: it means one process for ever, whatever becomes of its number.
type handle struct {
	id   identity
	file *os.File
	conn syscall.RawConn
}

// openHandle opens the process that id names. The descriptor is opened first and the start time compared afterwards:
// the other way round the number could change hands in between. errGone when it is gone, or dead and unreaped.
func openHandle(id identity) (*handle, error) {
	h, err := openPID(id.PID)
	if err != nil {
		return nil, err
	}
	e, err := readEntry(id.PID)
	if err != nil || e.Start != id.Start || e.dead() {
		h.close()
		return nil, errGone
	}
	h.id = id
	return h, nil
}

// openChild opens a child that we have not reaped, so that its number cannot have changed hands. It may be dead.
func openChild(pid int) (*handle, error) {
	h, err := openPID(pid)
	if err != nil {
		return nil, err
	}
	e, err := readEntry(pid)
	if err != nil {
		h.close()
		return nil, fmt.Errorf("read the entry of our child %d: %w", pid, err)
	}
	h.id = e.identity
	return h, nil
}

func openPID(pid int) (*handle, error) {
	if pid <= 0 {
		return nil, errGone
	}
	// Non-blocking makes the Go runtime poll the descriptor, so that no thread waits for the end.
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil, errGone
	}
	if err != nil {
		return nil, fmt.Errorf("open a handle on process %d: %w", pid, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	conn, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &handle{file: f, conn: conn}, nil
}

// wait blocks until the process has ended (nil), until the limit (os.ErrDeadlineExceeded) or until close
// (os.ErrClosed). 0 means no limit.
func (h *handle) wait(limit time.Duration) error {
	var deadline time.Time
	if limit > 0 {
		deadline = time.Now().Add(limit)
	}
	if err := h.file.SetReadDeadline(deadline); err != nil {
		return err
	}
	return h.conn.Read(readable)
}

// ended reports whether the process has ended, reaped or not. A closed handle counts as ended: nothing may be
// signalled through it.
func (h *handle) ended() bool {
	over := true
	if err := h.conn.Control(func(fd uintptr) { over = readable(fd) }); err != nil {
		return true
	}
	return over
}

// readable says that a pidfd reports its process's end.
func readable(fd uintptr) bool {
	set := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(set, 0)
	return err == nil && n > 0
}

// signal sends to this one process; nothing happens when it has ended.
func (h *handle) signal(sig syscall.Signal) {
	_ = h.conn.Control(func(fd uintptr) { _ = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
}

// signalGroup sends to the whole group that the process leads, if it has not ended.
func (h *handle) signalGroup(sig syscall.Signal) {
	if !h.ended() {
		_ = syscall.Kill(-h.id.PID, sig)
	}
}

func (h *handle) close() { _ = h.file.Close() }
