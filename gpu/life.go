package gpu

import (
	"context"
	"fmt"
	"time"

	"comfyfleet/gpu/proc"
	"comfyfleet/models"
)

const (
	// readyEvery is how often a starting engine is asked whether it answers.
	readyEvery = 200 * time.Millisecond
	// startCap bounds a start whose log keeps moving: custom nodes may take minutes, not hours.
	startCap = 30 * time.Minute
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
		w.logFrom = proc.LogSize(w.dirs.logFile())
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
