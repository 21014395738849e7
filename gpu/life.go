package gpu

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"comfyfleet/gpu/proc"
	"comfyfleet/models"
)

const (
	// readyEvery is how often a starting engine is asked whether it answers.
	readyEvery = 200 * time.Millisecond
	// startCap bounds a start whose log keeps moving: custom nodes may take minutes, not hours.
	startCap = 30 * time.Minute
	// usageWithin: an engine that ends with exit code 2 so soon did not understand a flag, and never will.
	usageWithin = 10 * time.Second
	// tailLines is how much of the log goes with an end.
	tailLines = 50
	// leaveLimit bounds what a stop waits for prompts beyond the grace and the interrupt limit.
	leaveLimit = 15 * time.Second
)

// live takes the engine from its start, or from its adoption, to its end.
func (w *worker) live(ctx context.Context) {
	w.end = nil
	began := w.m.cfg.Now()
	e := w.arise(ctx)
	if e == nil {
		e = w.serve(ctx)
	}
	if e == nil { // the server stops
		w.leave(ctx)
		return
	}
	w.close(*e)
	w.bury(*e, began)
}

// arise starts the engine if there is none, and waits until it answers. It returns nil when it does, or when ctx ended.
func (w *worker) arise(ctx context.Context) *ending {
	w.set(models.WorkerStarting, "")
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	if w.child == nil && w.spec.local() {
		type launched struct {
			c   child
			err error
		}
		result := make(chan launched, 1)
		go func() {
			c, err := w.launch(inner)
			result <- launched{c, err}
		}()
		for got := false; !got; {
			select {
			case f := <-w.calls:
				f()
				w.publish()
			case r := <-result:
				if r.err != nil {
					if ctx.Err() != nil {
						return nil
					}
					return &ending{cause: models.CauseCrashed, detail: "not started: " + r.err.Error()}
				}
				w.child, w.adopted, got = r.c, false, true
			}
		}
	}
	if w.child != nil {
		meta := w.child.Meta()
		w.url, w.clientID = meta[metaURL], meta[metaClientID]
	}
	w.started = new(w.m.cfg.Now())
	w.publish()
	return w.awaitReady(inner)
}

// awaitReady waits until HTTP answers: that, not a log line, is readiness. A log that moves extends the limit.
func (w *worker) awaitReady(ctx context.Context) *ending {
	engine := w.m.cfg.NewEngine(w.url)
	ready := make(chan EngineInfo, 1)
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	defer func() {
		if w.sess == nil {
			closeEngine(engine)
		}
	}()
	go probeUntilReady(inner, engine, w.m.cfg.Probe.Timeout, ready)

	silent := time.NewTimer(w.m.cfg.StartTimeout)
	defer silent.Stop()
	longest := time.NewTimer(startCap)
	defer longest.Stop()
	look := time.NewTicker(time.Second)
	defer look.Stop()
	size := proc.LogSize(w.dirs.logFile())
	for {
		select {
		case <-ctx.Done():
			return nil
		case f := <-w.calls:
			f()
			w.publish()
			if state, why, _ := w.next(); state != models.WorkerStarting && len(w.runs) == 0 {
				return &ending{asked: true, detail: why}
			}
		case info := <-ready:
			w.open(engine, info)
			return nil
		case <-w.childDone():
			return w.died()
		case <-look.C:
			if now := proc.LogSize(w.dirs.logFile()); now != size {
				size = now
				silent.Reset(w.m.cfg.StartTimeout)
			}
		case <-silent.C:
			return &ending{cause: models.CauseUnreachable, now: true, detail: fmt.Sprintf("did not answer within %v of its start", w.m.cfg.StartTimeout)}
		case <-longest.C:
			return &ending{cause: models.CauseUnreachable, now: true, detail: fmt.Sprintf("did not answer within %v of its start", startCap)}
		}
	}
}

func probeUntilReady(ctx context.Context, engine Engine, timeout time.Duration, ready chan<- EngineInfo) {
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	for {
		probe, cancel := context.WithTimeout(ctx, timeout)
		info, err := engine.Info(probe)
		cancel()
		if err == nil {
			ready <- info
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// open begins a session with an engine that answers.
func (w *worker) open(engine Engine, info EngineInfo) {
	w.info, w.answered = info, true
	w.resident, w.foreign, w.freed = nil, "", false
	w.sess = newSession(w, engine)
	if len(w.runs) == 0 {
		w.idle = new(w.m.cfg.Now())
	}
	w.settle()
	w.sess.begin()
}

// serve keeps the session until it has to end; nil when the server stops.
func (w *worker) serve(ctx context.Context) *ending {
	if w.sess == nil {
		return nil
	}
	for {
		if w.end == nil {
			w.end = w.leaveReason()
		}
		if w.end != nil {
			return w.end
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.childDone():
			return w.died()
		case f := <-w.calls:
			f()
			w.settle()
		}
	}
}

// childDone is nil, which blocks, for workers without a process of ours.
func (w *worker) childDone() <-chan struct{} {
	if w.child == nil {
		return nil
	}
	return w.child.Done()
}

// died is the ending of a process that nobody asked to end.
func (w *worker) died() *ending {
	return &ending{cause: models.CauseCrashed, detail: proc.Explain(w.child.Exit())}
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
	w.ends = append(w.ends, now)
	for len(w.ends) > 0 && now.Sub(w.ends[0]) > w.m.cfg.Backoff.Within {
		w.ends = w.ends[1:]
	}
	switch {
	case !w.spec.local():
	case exit.Code == 2 && never:
		w.quarantine("the engine did not understand a flag: " + strings.Join(lastOf(exit.LogTail, 3), " / "))
	case len(w.ends) >= w.m.cfg.Backoff.Ends:
		w.quarantine(fmt.Sprintf("ended %d times within %v without finishing a prompt, the last time: %s", len(w.ends), w.m.cfg.Backoff.Within, e.detail))
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

// leave ends the worker's part in a stop of the server. Prompts have been told by then (Execute's context, or
// Manager.Run's); with keep the engine goes on for the next server.
func (w *worker) leave(ctx context.Context) {
	e := ending{asked: true, detail: "the server stops", cause: models.CauseServerStop}
	if w.m.cfg.OnShutdown == ShutdownKeep {
		e.detached = true
		if s := w.sess; s != nil {
			w.sess = nil
			s.finish(e)
			s.wait(w.calls)
		}
		if w.child != nil {
			w.child.Detach()
		}
		w.child = nil
		return
	}
	if w.sess != nil {
		w.set(models.WorkerDraining, "the server stops")
		limit := time.NewTimer(w.m.cfg.ShutdownGrace + w.m.cfg.InterruptLimit + leaveLimit)
		defer limit.Stop()
		for waiting := true; waiting && len(w.runs) > 0 && w.end == nil; {
			select {
			case f := <-w.calls:
				f()
			case <-w.childDone():
				waiting = false
			case <-limit.C:
				waiting = false
			}
		}
	}
	w.close(e)
	w.child = nil
}

// recall looks for the process that an earlier server left.
func (w *worker) recall() {
	if !w.spec.local() {
		w.clientID = w.m.attachedClientID(w.spec, w.dirs)
		return
	}
	c, running, err := w.m.starter.Adopt(w.dirs.where(w.spec.Name))
	switch {
	case err != nil:
		w.log.Error("look for the engine of an earlier server", "error", err)
	case running:
		w.child, w.adopted, w.wish.up = c, true, true
		w.log.Info("took over the engine of an earlier server", "pid", c.PID())
	case c != nil && c.Exit().Seen:
		w.leftover = &ending{cause: models.CauseCrashed, detail: proc.Explain(c.Exit())}
	}
	if !running && w.leftover == nil {
		// Nobody saw it end: most likely the machine or the container went down with the server, which is no
		// fault of the prompt.
		w.leftover = &ending{cause: models.CauseServerStop, detail: "the engine ended together with the server"}
	}
	if err == nil && !running {
		// No prompt can still want these: what they belong to died with its engine's history.
		for _, d := range []string{w.dirs.input, w.dirs.output, w.dirs.temp} {
			if err := os.RemoveAll(d); err != nil {
				w.log.Warn("clear the files of an earlier engine", "error", err)
			}
		}
	}
}
