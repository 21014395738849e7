package jobs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"comfyfleet/app/storage"
	"comfyfleet/gpu"
	"comfyfleet/models"
)

// collectIdle is how long a worker may send nothing of an output before collecting is given up, or stall-after when that
// is shorter.
const collectIdle = 60 * time.Second

// collect stores what the prompt made and says how the job is to finish. Only small outputs are held in memory; after an
// error nothing is left in storage.
func (s *Service) collect(ctx context.Context, o *observer, out gpu.Outcome) (models.Finish, error) {
	job, a, began := o.job, o.attempt, s.Now()
	noted := o.later(ctx, noteAfter, func(ctx context.Context) error {
		return s.Store.AttemptCollecting(ctx, a.ID, began, out.LoadMS, out.ExecMS)
	})
	defer o.cancel(noted) // one under way is waited for with the others
	s.hub.publish(job.ID, func(u *Update) { u.Phase = models.PhaseCollecting })

	f := ending(a, out)
	f.LogTail = "" // kept for failures only
	f.Attempt, f.Job = models.AttemptSucceeded, models.JobSucceeded
	f.Progress = s.lastProgress(job)
	names := map[string]bool{}
	var kept []*earlyOutput
	for _, n := range out.Outputs {
		if !isMade(n) {
			continue
		}
		one, err := o.early.take(ctx, n)
		if err != nil {
			s.deleteBlobs(context.WithoutCancel(ctx), f.Outputs)
			return models.Finish{}, lostError{node: n.Node, err: err}
		}
		kept = append(kept, one)
		stored := one.output
		stored.Index = len(f.Outputs)
		stored.Filename = unique(names, stored.Filename)
		f.Outputs = append(f.Outputs, stored)
		if stored.Content != nil {
			continue // it has no blob
		}
		f.Assets = append(f.Assets, models.Asset{
			ID: stored.ID, TenantID: job.TenantID, JobID: job.ID, Kind: models.AssetOutput,
			Size: stored.Size, SHA256: stored.SHA256, ContentType: stored.ContentType, CreatedAt: stored.CreatedAt,
		})
	}
	f.Durable = onDisk(kept)
	f.CollectMS = s.Now().Sub(began).Milliseconds()
	return f, nil
}

// collectOne stores one output; sync brings it to the disk. After an error of either there is none. A small one is kept in
// memory until the job's end while there is room bytes, and has no sync.
func (s *Service) collectOne(ctx context.Context, job models.Job, a models.Attempt, o gpu.NodeOutput, room *atomic.Int64) (made models.Output, sync func() error, err error) {
	made = models.Output{ID: s.NewID(), JobID: job.ID, TenantID: job.TenantID, NodeID: o.Node, CreatedAt: s.Now()}
	var src io.ReadCloser
	if o.File == nil {
		src = io.NopCloser(strings.NewReader(o.Text))
		made.Filename = "text_output_" + safeName(o.Node) + ".txt"
	} else {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		limit := s.collectIdle()
		timer := time.AfterFunc(limit, func() { cancel(silentError{limit}) })
		defer timer.Stop()
		body, _, err := s.Fleet.OpenOutput(ctx, a.Worker, *o.File)
		if err != nil {
			return made, nil, because(ctx, err)
		}
		src = &idleReader{ReadCloser: body, ctx: ctx, timer: timer, limit: limit}
		made.Filename = outputName(job.ID, o.File.Filename)
		made.Temp = o.File.Type == "temp"
	}
	defer src.Close()
	var blob storage.Blob
	head, err := io.ReadAll(io.LimitReader(src, models.MaxSmallOutput+1))
	switch {
	case err != nil:
		return made, nil, err
	case len(head) <= models.MaxSmallOutput && room.Add(-int64(len(head)+smallOverhead)) >= 0:
		made.Content = append(make([]byte, 0, len(head)), head...) // no bigger than it must be, and not nil
		blob = storage.Describe(made.ID, made.Content)
	default:
		if blob, sync, err = s.storeFile(ctx, made.ID, io.MultiReader(bytes.NewReader(head), src)); err != nil {
			return made, nil, err
		}
	}
	made.Size, made.SHA256, made.ContentType = blob.Size, blob.SHA256, blob.ContentType
	if o.File == nil {
		made.Type, made.ContentType = "text", "text/plain; charset=utf-8"
	} else {
		made.Type = outputType(made.Filename, made.ContentType)
	}
	return made, sync, nil
}

// storeFile stores a file; sync brings it to the disk. After an error of either there is none.
func (s *Service) storeFile(ctx context.Context, id string, src io.Reader) (blob storage.Blob, sync func() error, err error) {
	w, err := s.Blobs.Create(ctx, id)
	if err != nil {
		return blob, nil, err
	}
	defer w.Abort()
	if _, err := io.Copy(w, src); err != nil {
		return blob, nil, err
	}
	blob, err = w.Place()
	return blob, w.Sync, err
}

func (s *Service) collectIdle() time.Duration {
	if s.StallAfter > 0 {
		return min(collectIdle, s.StallAfter)
	}
	return collectIdle
}

// idleReader ends a read that waits too long: its timer is pushed on by every byte that comes.
type idleReader struct {
	io.ReadCloser
	ctx   context.Context
	timer *time.Timer
	limit time.Duration
}

func (r *idleReader) Read(p []byte) (int, error) {
	r.timer.Reset(r.limit)
	n, err := r.ReadCloser.Read(p)
	return n, because(r.ctx, err)
}

// silentError ends the reading of an output whose worker sends nothing.
type silentError struct{ limit time.Duration }

func (e silentError) Error() string { return fmt.Sprintf("the worker sent nothing for %v", e.limit) }

// because is err, or why ctx has ended when that is what ended a read.
func because(ctx context.Context, err error) error {
	if err != nil && err != io.EOF && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// outputName is <first 8 of job id>_<prefix>_<n>.<ext>. Prepare put the job's part into the prefix; files of nodes
// that have none get it here. The engine's trailing underscore is dropped.
func outputName(jobID, file string) string {
	name := safeName(path.Base(strings.ReplaceAll(file, "\\", "/")))
	ext := path.Ext(name)
	name = strings.TrimRight(strings.TrimSuffix(name, ext), "_") + ext
	if short := jobID[:8] + "_"; !strings.HasPrefix(name, short) {
		name = short + name
	}
	return name
}

// safeName keeps what is harmless in a file name on every system and in a header.
func safeName(name string) string {
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || strings.ContainsRune(`/\:*?"<>|`, r) {
			return '_'
		}
		return r
	}, name)
	if len(name) > 200 {
		ext := path.Ext(name)
		if len(ext) > 16 {
			ext = ""
		}
		name = strings.ToValidUTF8(name[:200-len(ext)], "") + ext
	}
	return name
}

// unique makes name differ from those taken and takes it.
func unique(taken map[string]bool, name string) string {
	ext := path.Ext(name)
	for n, base := 2, strings.TrimSuffix(name, ext); taken[name]; n++ {
		name = fmt.Sprintf("%s_%d%s", base, n, ext)
	}
	taken[name] = true
	return name
}

// outputType is the guide's kind of an output, by what the bytes are, else by the extension.
func outputType(name, contentType string) string {
	kind, _, _ := strings.Cut(contentType, "/")
	switch kind {
	case "image", "video", "audio", "text":
		return kind
	case "model":
		return "model"
	}
	switch strings.ToLower(path.Ext(name)) {
	case ".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif", ".apng":
		return "image"
	case ".mp4", ".webm", ".mkv", ".mov", ".avi":
		return "video"
	case ".flac", ".mp3", ".wav", ".opus", ".ogg", ".m4a":
		return "audio"
	case ".glb", ".gltf", ".obj", ".stl", ".ply":
		return "model"
	case ".txt", ".json", ".csv", ".srt", ".md":
		return "text"
	}
	return "file"
}
