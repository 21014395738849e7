package gpu

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"comfyfleet/gpu/proc"
	"comfyfleet/models"
)

const (
	// usageWithin: an engine that ends with exit code 2 so soon did not understand a flag, and never will.
	usageWithin = 10 * time.Second
	// tailLines is how much of the log goes with an end.
	tailLines = 50
)

// died is the ending of a process that nobody asked to end.
func (w *worker) died() *ending {
	if w.lostPort() {
		return &ending{cause: models.CauseCrashed, blameless: true, detail: "another program took its port; it gets another one"}
	}
	return &ending{cause: models.CauseCrashed, detail: proc.Explain(w.child.Exit())}
}

// lostPort reports whether the engine found its port taken. Between the choice of a port and its use any program may
// take it; ComfyUI notices only at the end of its start.
func (w *worker) lostPort() bool {
	if w.answered || w.child.Exit().Code != 1 {
		return false
	}
	lines, err := proc.TailSince(w.dirs.logFile(), w.logFrom, tailLines)
	return err == nil && slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "already in use") })
}

// close ends the session, tells its prompts, and ends the process.
func (w *worker) close(e ending) {
	w.end = &e
	w.set(models.WorkerStopping, e.detail)
	s := w.sess
	w.sess, w.victimJob = nil, ""
	if list := w.order(); len(list) > 0 && list[0].begun.Load() {
		w.victimJob = list[0].task.JobID
	}
	if s != nil {
		s.finish(e)
	}
	if w.child != nil {
		w.stopChild(e.now)
	}
	if s != nil {
		s.wait(w.calls)
	}
}

// stopChild ends the process and answers calls meanwhile. It returns when the process is gone, or is beyond reach.
func (w *worker) stopChild(now bool) {
	done := make(chan error, 1)
	c := w.child
	go func() {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		if now {
			c.Kill()
			cancel()
		}
		_, err := c.Stop(ctx)
		done <- err
	}()
	for {
		select {
		case f := <-w.calls:
			f()
		case err := <-done:
			if err != nil {
				w.log.Error("the engine's process does not end", "error", err)
				c.Detach()
			}
			return
		}
	}
}

// bury records how the engine ended and decides when it starts again.
func (w *worker) bury(e ending, began time.Time) {
	now := w.m.cfg.Now()
	exit := models.WorkerExit{At: now, Code: -1, Reason: e.detail, Uptime: now.Sub(began), JobID: w.victimJob}
	if w.child != nil {
		how := w.child.Exit()
		exit.PID, exit.Code, exit.Signal = w.child.PID(), how.Code, how.Signal
		exit.LogTail, _ = proc.Tail(w.dirs.logFile(), tailLines)
	}
	if w.child != nil || !e.asked {
		w.exits = append(w.exits, exit)
		w.exits = w.exits[max(0, len(w.exits)-maxExits):]
	}
	never := !w.answered && exit.Uptime < usageWithin
	w.answered = false
	w.child, w.adopted, w.started, w.idle, w.rss, w.foreign, w.resident, w.end = nil, false, nil, nil, 0, "", nil, nil
	w.info = EngineInfo{}
	if e.asked {
		w.retryAt = nil
		return
	}
	w.restarts++
	w.log.Warn("the engine ended", "reason", e.detail, "pid", exit.PID, "uptime", exit.Uptime)
	if !e.blameless {
		w.ends = append(w.ends, now)
	}
	for len(w.ends) > 0 && now.Sub(w.ends[0]) > w.m.cfg.Backoff.Within {
		w.ends = w.ends[1:]
	}
	switch {
	case !w.spec.local():
	case exit.Code == 2 && never:
		w.quarantine("the engine did not understand a flag: " + strings.Join(lastOf(exit.LogTail, 3), " / "))
	case len(w.ends) >= w.m.cfg.Backoff.Ends:
		w.quarantine(fmt.Sprintf("ended %d times within %.0f min without finishing a prompt, the last time: %s", len(w.ends), w.m.cfg.Backoff.Within.Minutes(), e.detail))
	}
	w.retryAt = new(now.Add(w.m.cfg.Backoff.wait(len(w.ends))))
}

// wait is the time before the next start after n unasked ends in a row.
func (b Backoff) wait(n int) time.Duration {
	d := b.Base
	for ; n > 1 && d < b.Max; n-- {
		d *= 2
	}
	return min(d, b.Max)
}

func lastOf(lines []string, n int) []string { return lines[max(0, len(lines)-n):] }

// quarantine takes the worker out until an operator acts. The record is written aside: a slow database must not hold
// the worker.
func (w *worker) quarantine(reason string) {
	w.wish.quarantine = reason
	w.log.Error("worker quarantined", "reason", reason)
	r := w.record()
	w.m.aside(func(ctx context.Context) {
		if err := w.m.save(ctx, r); err != nil {
			w.log.Error("store quarantine", "error", err)
		}
	})
}
