package gpu

import (
	"context"
	"os"
	"time"

	"comfyfleet/gpu/proc"
	"comfyfleet/models"
)

// leaveLimit bounds what a stop waits for prompts beyond the grace and the interrupt limit.
const leaveLimit = 15 * time.Second

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
