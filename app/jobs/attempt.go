package jobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"comfyfleet/gpu"
	"comfyfleet/models"
	"comfyfleet/workflows"
)

// writeLimit bounds what an attempt still writes after the server was told to stop.
const writeLimit = 20 * time.Second

// attempt takes one attempt from its claim to its end: claim, prepare, execute, settle.
func (s *Service) attempt(ctx context.Context, a models.Attempt) {
	// What is read does not change, so it is read while the claim is being committed.
	reading := make(chan source, 1)
	go func() { reading <- s.source(ctx, a.JobID) }()
	claimed, job, err := s.Store.Claim(ctx, a)
	read := <-reading
	s.claimed(a.JobID)
	if err != nil {
		s.release(a)
		s.Wake() // the job may wait as before
		if !errors.Is(err, models.ErrFenced) && ctx.Err() == nil {
			s.Log.Error("claim", "job", a.JobID, "worker", a.Worker, "error", err)
		}
		return
	}
	s.follow(ctx, job, claimed, read, nil, false)
}

// follow runs a claimed attempt, a new one or one that an earlier server began (resume). An attempt whose claim is still
// being committed is prepared meanwhile: the fence before its prompt waits for the commit.
func (s *Service) follow(ctx context.Context, job models.Job, a models.Attempt, read source, claim *commit, resume bool) {
	log := s.Log.With("job", job.ID, "tenant", job.TenantID, "attempt", a.ID, "worker", a.Worker)
	defer s.hub.end(job.ID, a.ID)
	if claim == nil {
		s.hub.begin(job, a.ID)
	}

	o := &observer{s: s, job: job, attempt: a, early: s.earlyOutputs(ctx, job, a)}
	defer o.early.discard()
	task, err := s.task(job, a, read, resume)
	if claim != nil {
		task.Fence = func(context.Context) error {
			if err := claim.wait(); err != nil {
				return err
			}
			if s.revoked(a) { // so soon that the fleet may not have known what to stop
				return models.ErrFenced
			}
			return nil
		}
		for i, m := range task.Media { // a refused job must leave nothing on a worker that is not ours to clear
			task.Media[i].Open = func(ctx context.Context) (io.ReadCloser, error) {
				if err := claim.wait(); err != nil {
					return nil, err
				}
				return m.Open(ctx)
			}
		}
	}
	var out gpu.Outcome
	if err != nil {
		out = unprepared(err)
	} else {
		log.Debug("attempt begins", "number", a.Number, "resume", resume)
		out = s.Fleet.Execute(ctx, a.Worker, task, o)
	}
	refused := claim.wait()
	s.release(a)
	if refused != nil { // there is no such job
		s.Fleet.Forget(ctx, a.Worker, a.ID, job.ID)
		return
	}
	if out.Cause != models.CauseNone || out.Detached {
		o.flush(ctx)
	}
	unsaved := s.saver.end(a.ID)
	wctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeLimit)
	defer cancel()
	if out.Detached {
		if _, err := s.Store.SaveProgress(wctx, unsaved); err != nil {
			log.Warn("save progress", "error", err)
		}
		log.Info("left running for the next server")
		return
	}
	if out.Cause == models.CauseNone {
		wctx = context.WithoutCancel(ctx) // collecting takes as long as the outputs are big; each read has its own limit
	}
	if err := s.settle(wctx, o, out, unsaved); err != nil && !errors.Is(err, models.ErrFenced) {
		log.Error("settle attempt", "cause", out.Cause, "error", err)
		return
	}
	log.Info("attempt ended", "cause", string(out.Cause), "detail", out.Detail, "exec_ms", out.ExecMS)
	s.Fleet.Forget(wctx, a.Worker, a.ID, job.ID)
}

// unprepared is the outcome of an attempt that never reached its worker.
func unprepared(err error) gpu.Outcome {
	var refused *models.Error
	if errors.As(err, &refused) && refused.Code == models.CodeUnprocessed {
		return gpu.Outcome{Cause: models.CauseRejected, Detail: refused.Detail, NodeErrors: refused.NodeErrors}
	}
	return gpu.Outcome{Cause: models.CauseInternal, Detail: err.Error()}
}

// source is what a job runs, as it was accepted.
type source struct {
	payload models.JobPayload
	graph   *workflows.Graph
	err     error
}

func (s *Service) source(ctx context.Context, jobID string) (read source) {
	if read.payload, read.err = s.Store.Payload(ctx, jobID); read.err != nil {
		read.err = fmt.Errorf("read payload: %w", read.err)
		return read
	}
	return parsed(read.payload)
}

func parsed(payload models.JobPayload) source {
	read := source{payload: payload}
	if read.graph, read.err = workflows.Parse(payload.Graph); read.err != nil {
		read.err = fmt.Errorf("stored graph: %w", read.err)
	}
	return read
}

// task makes what a worker runs of a claimed job.
func (s *Service) task(job models.Job, a models.Attempt, read source, resume bool) (gpu.Task, error) {
	if read.err != nil {
		return gpu.Task{}, read.err
	}
	payload, graph := read.payload, read.graph
	defs := s.NodeDefs()
	t := gpu.Task{
		JobID: job.ID, AttemptID: a.ID,
		Nodes: graph.Reachable(defs), LoaderNodes: graph.LoaderNodes(defs), ModelFiles: graph.ModelFiles(defs),
		Floor: job.Progress, DeadlineAt: job.DeadlineAt, ExtraPNGInfo: payload.ExtraPNGInfo,
		FreeFirst: job.OOMs == 1, FreshProcess: job.OOMs > 1,
		Resume: resume, Started: a.StartedAt != nil,
		// Asked right before the prompt is sent: a job cancelled before that never reaches an engine, and one cancelled
		// after it is stopped through Fleet.Stop, which knows the attempt by then.
		Fence: func(ctx context.Context) error { return s.Store.Fence(ctx, job.ID, a.ID) },
	}
	files := map[string]string{}
	for i, m := range payload.Media {
		file := fmt.Sprintf("%d%s", i, mediaExtension(m))
		files[m.Name] = file
		id := m.AssetID
		t.Media = append(t.Media, gpu.Media{File: file, Open: func(ctx context.Context) (io.ReadCloser, error) {
			r, _, err := s.Blobs.Open(ctx, id)
			return r, err
		}})
	}
	var err error
	t.Graph, err = graph.Prepare(workflows.Prepared{JobID: job.ID, AttemptID: a.ID, Media: files, Defs: defs})
	if err != nil {
		return gpu.Task{}, fmt.Errorf("prepare graph: %w", err)
	}
	return t, nil
}

// mediaExtension is a short extension for a staged file: that of the name when it is harmless, else by content type.
// Loaders choose their decoder by it.
func mediaExtension(m models.MediaRef) string {
	ext := strings.ToLower(path.Ext(strings.ReplaceAll(m.Name, "\\", "/")))
	if len(ext) >= 2 && len(ext) <= 6 && strings.Trim(ext[1:], "abcdefghijklmnopqrstuvwxyz0123456789") == "" {
		return ext
	}
	_, sub, _ := strings.Cut(m.ContentType, "/")
	switch sub, _, _ = strings.Cut(sub, ";"); sub {
	case "png", "webp", "gif", "mp4", "webm", "flac":
		return "." + sub
	case "jpeg":
		return ".jpg"
	case "mpeg":
		return ".mp3"
	case "x-wav", "wav":
		return ".wav"
	}
	return ".bin"
}
