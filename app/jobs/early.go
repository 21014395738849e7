package jobs

import (
	"context"
	"errors"
	"sync"
	"time"

	"comfyfleet/gpu"
	"comfyfleet/models"
)

const (
	// maxEarly bounds how many outputs of one attempt are stored before its end.
	maxEarly = 200
	// earlyAtOnce bounds how many of them are being stored at a time.
	earlyAtOnce = 2
	// earlyLife is how long a stored file may wait for its job's end: what belongs to no job is swept after orphanAge.
	earlyLife = orphanAge / 2
	// discardLimit bounds the deletion of those that the end did not name.
	discardLimit = 10 * time.Second
)

// earlyOutputs stores the files that the nodes of an attempt make while others still execute, so that at its end the
// bytes are there already. What a node says is a hint: an output of the job is what the history names.
type earlyOutputs struct {
	store  func(ctx context.Context, n gpu.NodeOutput) (models.Output, error)
	remove func(ctx context.Context, outputs []models.Output)
	stamp  func(f gpu.FileRef) string // changes when the file does
	now    func() time.Time
	ctx    context.Context
	cancel context.CancelFunc
	places chan struct{}
	tasks  sync.WaitGroup

	mu    sync.Mutex
	files map[gpu.FileRef]*earlyOutput
}

// earlyOutput is one file. output and err are valid once done is closed.
type earlyOutput struct {
	done   chan struct{}
	stamp  string // before it was read
	output models.Output
	err    error
	again  bool // told a second time: it may have been written anew
}

// earlyOutputs makes an empty collection for an attempt; discard ends it.
func (s *Service) earlyOutputs(ctx context.Context, job models.Job, a models.Attempt) *earlyOutputs {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	return &earlyOutputs{
		store: func(ctx context.Context, n gpu.NodeOutput) (models.Output, error) {
			return s.collectOne(ctx, job, a, n)
		},
		stamp:  func(f gpu.FileRef) string { return s.Fleet.OutputStamp(a.Worker, f) },
		remove: s.deleteBlobs, now: s.Now, ctx: ctx, cancel: cancel,
		places: make(chan struct{}, earlyAtOnce), files: map[gpu.FileRef]*earlyOutput{},
	}
}

// begin starts to store files. It does not wait.
func (e *earlyOutputs) begin(outputs []gpu.NodeOutput) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range outputs {
		if !isMade(n) || n.File == nil {
			continue
		}
		if known := e.files[*n.File]; known != nil {
			known.again = true
			continue
		}
		if len(e.files) >= maxEarly {
			continue
		}
		f := &earlyOutput{done: make(chan struct{}), stamp: e.stamp(*n.File)}
		e.files[*n.File] = f
		e.tasks.Go(func() {
			defer close(f.done)
			select {
			case e.places <- struct{}{}:
				defer func() { <-e.places }()
			case <-e.ctx.Done():
			}
			if f.err = e.ctx.Err(); f.err == nil {
				f.output, f.err = e.store(e.ctx, n)
			}
		})
	}
}

// take stores an output of the job, or answers the one that is stored already and has not changed since. One that could
// not be stored then is tried again, but when its worker was silent until now: nobody waits for it twice.
func (e *earlyOutputs) take(ctx context.Context, n gpu.NodeOutput) (models.Output, error) {
	f := e.forget(n.File)
	if f == nil {
		return e.store(ctx, n)
	}
	waited := false
	select {
	case <-f.done:
	default:
		waited = true
		<-f.done // bounded as every reading of an output is
	}
	silent := silentError{}
	switch {
	case f.err == nil && !e.changed(f, *n.File):
		f.output.NodeID = n.Node // two nodes may have told of it
		return f.output, nil
	case f.err == nil:
		e.remove(ctx, []models.Output{f.output})
	case waited && errors.As(f.err, &silent):
		return f.output, f.err
	}
	return e.store(ctx, n)
}

// changed reports whether what was stored of a file is not, or may soon not be, what the job is to keep.
func (e *earlyOutputs) changed(f *earlyOutput, ref gpu.FileRef) bool {
	return f.again || f.stamp != e.stamp(ref) || e.now().Sub(f.output.CreatedAt) >= earlyLife
}

// forget hands a file over to the caller, nil when it is not here.
func (e *earlyOutputs) forget(ref *gpu.FileRef) *earlyOutput {
	if ref == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	f := e.files[*ref]
	delete(e.files, *ref)
	return f
}

// discard ends what is under way and deletes what nobody took.
func (e *earlyOutputs) discard() {
	e.cancel()
	e.tasks.Wait()
	var left []models.Output
	for _, f := range e.files {
		if f.err == nil {
			left = append(left, f.output)
		}
	}
	if len(left) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.ctx), discardLimit)
	defer cancel()
	e.remove(ctx, left)
}

// isMade reports whether an output was made by its node: one that echoes its input made nothing.
func isMade(n gpu.NodeOutput) bool { return n.File == nil || n.File.Type != "input" }
