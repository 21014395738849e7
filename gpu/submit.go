package gpu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"comfyfleet/models"
)

const (
	// connectWait is how long the first prompt of a session waits for the socket: HTTP tells the end without it.
	connectWait = 3 * time.Second
	// submitLimit bounds POST /prompt.
	submitLimit = 30 * time.Second
	// lookLimit is how long a prompt whose sending failed is looked for.
	lookLimit = time.Minute
	lookEvery = 500 * time.Millisecond
	// mediaLimit bounds the staging of one input file.
	mediaLimit = 5 * time.Minute
)

// send brings media and prompt to the engine. It returns nil when the engine has the prompt.
func (x *execution) send() *Outcome {
	// What is done before the prompt is sent ends with the session, the server and any stop.
	ctx, cancel := context.WithCancelCause(x.s.ctx)
	defer cancel(nil)
	defer context.AfterFunc(x.intake, func() { cancel(context.Cause(x.intake)) })()

	if out := x.prepare(ctx); out != nil {
		return out
	}
	if x.task.Fence != nil {
		if err := x.observe(x.task.Fence); err != nil {
			cause := models.CauseInternal
			if errors.Is(err, models.ErrFenced) {
				cause = models.CauseCanceled
			}
			return x.refused(cause, "not sent: "+err.Error())
		}
	}
	if ctx.Err() != nil {
		return x.interrupted(ctx)
	}
	if out := x.submit(); out != nil {
		return out
	}
	if err := x.observe(x.obs.Staged); err != nil {
		x.drop("staged", err)
	}
	return nil
}

// prepare makes the engine ready for the prompt: memory, input files, socket.
func (x *execution) prepare(ctx context.Context) *Outcome {
	if x.task.FreeFirst {
		if err := x.s.free(true); err != nil {
			x.w.log.Warn("free memory before a prompt", "error", err)
		}
	}
	for _, m := range x.task.Media {
		if err := x.stageOne(ctx, m); err != nil {
			if ctx.Err() != nil {
				return x.interrupted(ctx)
			}
			return x.mediaFailed(m, err)
		}
	}
	// Subscribe before sending: a fast prompt ends before anybody could ask.
	wait := time.NewTimer(connectWait)
	defer wait.Stop()
	select {
	case <-x.s.once:
	case <-wait.C:
	case <-ctx.Done():
		return x.interrupted(ctx)
	}
	return nil
}

// interrupted is the outcome of a prompt whose sending was given up.
func (x *execution) interrupted(ctx context.Context) *Outcome {
	if x.s.ctx.Err() != nil && x.intake.Err() == nil {
		return x.refused(models.CauseTakenBack, x.w.spec.Name+": "+x.s.ending.detail)
	}
	return x.turnedAway()
}

// openError says that our own storage failed, not the engine.
type openError struct{ error }

func (x *execution) mediaFailed(m Media, err error) *Outcome {
	var ours openError
	var path *fs.PathError
	switch {
	case errors.Is(err, ErrUnreachable):
		return x.refused(models.CauseUnreachable, fmt.Sprintf("input file %s: %v", m.File, err))
	case errors.As(err, &ours), errors.As(err, &path):
		return x.refused(models.CauseInternal, fmt.Sprintf("input file %s: %v", m.File, err))
	}
	return x.refused(models.CauseMedia, fmt.Sprintf("input file %s: %v", m.File, err))
}

func (x *execution) stageOne(ctx context.Context, m Media) error {
	ctx, cancel := context.WithTimeout(ctx, mediaLimit)
	defer cancel()
	r, err := m.Open(ctx)
	if err != nil {
		return openError{err}
	}
	defer r.Close()
	if x.s.local {
		return writeInput(x.w.dirs.input, x.task.JobID, m.File, r)
	}
	name, err := x.s.engine.Upload(ctx, x.task.JobID, m.File, r)
	if err != nil {
		return err
	}
	// The engine may have stored it under another name; the graph must use that one.
	if want := x.task.JobID + "/" + m.File; name != want {
		from, _ := json.Marshal(want)
		to, err := json.Marshal(name)
		if err != nil {
			return err
		}
		x.task.Graph = bytes.ReplaceAll(x.task.Graph, from, to)
	}
	return nil
}

// writeInput stores an input file of a job beneath dir. It appears whole or not at all.
func writeInput(dir, jobID, name string, r io.Reader) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Mkdir(jobID, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	part := filepath.Join(jobID, name+".part")
	f, err := root.Create(part)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err = errors.Join(err, f.Close()); err == nil {
		err = root.Rename(part, filepath.Join(jobID, name))
	}
	if err != nil {
		_ = root.Remove(part)
	}
	return err
}

// submit sends the prompt, once. When it is not certain whether the engine took it, the engine is looked at; the same
// id is never sent again.
func (x *execution) submit() *Outcome {
	x.sentAt, x.heard = x.now(), x.awake()
	x.sentNS.Store(x.sentAt.UnixNano())
	ctx, cancel := context.WithTimeout(x.s.ctx, submitLimit)
	defer cancel()
	err := x.s.engine.Submit(ctx, Prompt{ID: x.task.AttemptID, ClientID: x.s.clientID, Graph: x.task.Graph,
		Previews: x.w.m.cfg.Previews, ExtraPNGInfo: x.task.ExtraPNGInfo})
	var rejected *Rejection
	switch {
	case err == nil:
		return nil
	case errors.As(err, &rejected):
		out := x.refused(models.CauseRejected, rejected.Error())
		out.NodeErrors, out.PID = rejected.NodeErrors, x.s.pid
		if rejected.Details != "" {
			out.Detail += ": " + rejected.Details
		}
		return out
	}
	x.w.log.Warn("send a prompt", "attempt", x.task.AttemptID, "error", err)
	return x.lookFor(err)
}

// lookFor finds out whether a prompt arrived whose sending failed; nil when it did.
func (x *execution) lookFor(sent error) *Outcome {
	limit := time.NewTimer(lookLimit)
	defer limit.Stop()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	absent := 0
	for {
		switch where, _, _ := x.look(); where {
		case placeRunning, placePending, placeDone, placeBroken:
			return nil
		case placeNowhere:
			if absent++; absent >= 3 {
				return x.refused(models.CauseUnreachable, "the engine did not take the prompt: "+sent.Error())
			}
		case placeUnknown:
			absent = 0
		}
		select {
		case <-tick.C:
		case <-x.s.ctx.Done():
			return nil // follow says how the session ended
		case <-limit.C:
			x.w.fault(x.s, ending{cause: models.CauseUnreachable, now: true, detail: "did not answer: " + sent.Error()})
			return x.refused(models.CauseUnreachable, "the engine did not say whether it took the prompt: "+sent.Error())
		}
	}
}
