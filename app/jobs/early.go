package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
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
	// maxUnsynced is the size up to which a file's way to the disk may go on while its job's end is prepared, and
	// syncsAtOnce how many may be on it beside those that are stored early.
	maxUnsynced = 1 << 20
	syncsAtOnce = 8
	// maxSmall bounds the bytes of one attempt's small outputs that are kept in memory until its end, and then with its job;
	// each counts smallOverhead more.
	maxSmall      = 256 << 10
	smallOverhead = 512
	// discardLimit bounds the deletion of those that the end did not name.
	discardLimit = 10 * time.Second
)

// earlyOutputs stores the files that the nodes of an attempt make while others still execute, so that at its end the
// bytes are there already. What a node says is a hint: an output of the job is what the history names.
type earlyOutputs struct {
	store  func(ctx context.Context, n gpu.NodeOutput) (models.Output, func() error, error)
	remove func(ctx context.Context, outputs []models.Output)
	stamp  func(f gpu.FileRef) string // changes when the file does
	now    func() time.Time
	ctx    context.Context
	cancel context.CancelFunc
	places chan struct{}
	syncs  chan struct{}
	tasks  sync.WaitGroup

	mu    sync.Mutex
	files map[gpu.FileRef]*earlyOutput
}

// earlyOutput is one output on its way into the storage.
type earlyOutput struct {
	placed chan struct{} // closed when output and err are valid
	output models.Output
	err    error

	durable chan struct{} // closed when it is on the disk, or lost says why it is not
	lost    error

	stamp string // before it was read
	again bool   // told a second time: it may have been written anew
}

func newEarlyOutput(stamp string) *earlyOutput {
	return &earlyOutput{placed: make(chan struct{}), durable: make(chan struct{}), stamp: stamp}
}

// earlyOutputs makes an empty collection for an attempt; discard ends it.
func (s *Service) earlyOutputs(ctx context.Context, job models.Job, a models.Attempt) *earlyOutputs {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	room := &atomic.Int64{}
	room.Store(maxSmall)
	return &earlyOutputs{
		store: func(ctx context.Context, n gpu.NodeOutput) (models.Output, func() error, error) {
			return s.collectOne(ctx, job, a, n, room)
		},
		stamp:  func(f gpu.FileRef) string { return s.Fleet.OutputStamp(a.Worker, f) },
		remove: s.deleteBlobs, now: s.Now, ctx: ctx, cancel: cancel,
		places: make(chan struct{}, earlyAtOnce), syncs: make(chan struct{}, syncsAtOnce), files: map[gpu.FileRef]*earlyOutput{},
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
		f := newEarlyOutput(e.stamp(*n.File))
		e.files[*n.File] = f
		e.tasks.Go(func() {
			select {
			case e.places <- struct{}{}:
				defer func() { <-e.places }()
			case <-e.ctx.Done():
			}
			e.sync(f, e.place(e.ctx, f, n))
		})
	}
}

// place stores the bytes of f; sync brings them to the disk, nil when there is nothing to bring.
func (e *earlyOutputs) place(ctx context.Context, f *earlyOutput, n gpu.NodeOutput) (sync func() error) {
	defer close(f.placed)
	if f.err = ctx.Err(); f.err == nil {
		f.output, sync, f.err = e.store(ctx, n)
	}
	if f.err != nil {
		return nil
	}
	return sync
}

func (e *earlyOutputs) sync(f *earlyOutput, sync func() error) {
	defer close(f.durable)
	if f.lost = f.err; sync != nil {
		f.lost = sync()
	}
}

// take stores an output of the job, or answers the one that is stored already and has not changed since. One that could
// not be stored then is tried again, but when its worker was silent until now: nobody waits for it twice. One of at most
// maxUnsynced may still be on its way to the disk (onDisk).
func (e *earlyOutputs) take(ctx context.Context, n gpu.NodeOutput) (*earlyOutput, error) {
	f := e.forget(n.File)
	if f == nil {
		return e.storeNow(ctx, n)
	}
	waited := false
	select {
	case <-f.placed:
	default:
		waited = true
		<-f.placed // bounded as every reading of an output is
	}
	silent := silentError{}
	switch err := f.settled(); {
	case err == nil && !e.changed(f, *n.File):
		f.output.NodeID = n.Node // two nodes may have told of it
		return f, nil
	case err == nil:
		e.remove(ctx, []models.Output{f.output})
	case waited && errors.As(err, &silent):
		return nil, err
	}
	return e.storeNow(ctx, n)
}

// storeNow stores an output that was not told of, or not as it is now.
func (e *earlyOutputs) storeNow(ctx context.Context, n gpu.NodeOutput) (*earlyOutput, error) {
	f := newEarlyOutput("")
	sync := e.place(ctx, f, n)
	if sync == nil || !e.aside(func() { e.sync(f, sync) }) {
		e.sync(f, sync)
	}
	return f, f.settled()
}

// aside does something beside its caller; when enough is being done it answers false and does not.
func (e *earlyOutputs) aside(do func()) bool {
	select {
	case e.syncs <- struct{}{}:
	default:
		return false
	}
	e.tasks.Go(func() {
		defer func() { <-e.syncs }()
		do()
	})
	return true
}

// settled is why a placed output cannot be had. It waits for the disk when there is much to write.
func (f *earlyOutput) settled() error {
	if f.err == nil && f.output.Size > maxUnsynced {
		<-f.durable
	}
	if f.synced() {
		return f.lost
	}
	return f.err
}

// synced reports whether lost is valid.
func (f *earlyOutput) synced() bool {
	select {
	case <-f.durable:
		return true
	default:
		return false
	}
}

// onDisk makes models.Finish.Durable of a job's outputs, nil when all are there.
func onDisk(outputs []*earlyOutput) func(ctx context.Context) error {
	if !slices.ContainsFunc(outputs, func(f *earlyOutput) bool { return !f.synced() || f.lost != nil }) {
		return nil
	}
	return func(ctx context.Context) error {
		for _, f := range outputs {
			if !f.synced() {
				select {
				case <-f.durable:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			if f.lost != nil {
				return lostError{node: f.output.NodeID, err: f.lost}
			}
		}
		return nil
	}
}

// lostError says that an output could not be kept.
type lostError struct {
	node string
	err  error
}

func (e lostError) Error() string { return fmt.Sprintf("output of node %s: %v", e.node, e.err) }

func (e lostError) Unwrap() error { return e.err }

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
		if f.lost == nil {
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
