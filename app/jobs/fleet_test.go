package jobs_test

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync"

	"comfyfleet/gpu"
	"comfyfleet/models"
)

// fakeFleet has one worker that does what the test says with each task.
type fakeFleet struct {
	mu      sync.Mutex
	run     func(ctx context.Context, t gpu.Task, o gpu.Observer) gpu.Outcome
	stops   map[string]chan models.Cause
	tasks   []gpu.Task
	forgot  []string
	files   map[string]string
	changes chan struct{}
}

func newFakeFleet(run func(ctx context.Context, t gpu.Task, o gpu.Observer) gpu.Outcome) *fakeFleet {
	return &fakeFleet{run: run, stops: map[string]chan models.Cause{}, files: map[string]string{}, changes: make(chan struct{}, 1)}
}

func (f *fakeFleet) Workers() []models.Worker {
	return []models.Worker{{Name: "w0", Kind: models.WorkerSimulated, State: models.WorkerReady}}
}

func (f *fakeFleet) Worker(name string) (models.Worker, bool) {
	return f.Workers()[0], name == "w0"
}

func (f *fakeFleet) Changes() (<-chan struct{}, func()) { return f.changes, func() {} }

func (f *fakeFleet) Execute(ctx context.Context, _ string, t gpu.Task, o gpu.Observer) gpu.Outcome {
	f.mu.Lock()
	f.tasks = append(f.tasks, t)
	f.stops[t.AttemptID] = make(chan models.Cause, 1)
	f.mu.Unlock()
	return f.run(ctx, t, o)
}

// stopped is closed over by scripts that wait for Stop.
func (f *fakeFleet) stopped(attemptID string) <-chan models.Cause {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stops[attemptID]
}

func (f *fakeFleet) Stop(attemptID string, cause models.Cause) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.stops[attemptID]; c != nil {
		select {
		case c <- cause:
		default:
		}
	}
}

func (f *fakeFleet) OutputStamp(string, gpu.FileRef) string { return "" }

func (f *fakeFleet) OpenOutput(_ context.Context, _ string, ref gpu.FileRef) (io.ReadCloser, int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	body, ok := f.files[ref.Filename]
	if !ok {
		return nil, 0, models.ErrNotFound("output file")
	}
	return io.NopCloser(strings.NewReader(body)), int64(len(body)), nil
}

func (f *fakeFleet) Forget(_ context.Context, _, attemptID, _ string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forgot = append(f.forgot, attemptID)
}

func (f *fakeFleet) Start(string)   {}
func (f *fakeFleet) Release(string) {}

func (f *fakeFleet) executed() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.tasks)
}

// task is the n-th that was executed.
func (f *fakeFleet) task(n int) gpu.Task {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tasks[n]
}

func (f *fakeFleet) hasForgotten(attemptID string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Contains(f.forgot, attemptID)
}

// give puts an output file on the worker.
func (f *fakeFleet) give(name, body string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files[name] = body
}
