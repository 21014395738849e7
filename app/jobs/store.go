package jobs

import (
	"context"
	"io"
	"time"

	"comfyfleet/app/outbound"
	"comfyfleet/app/storage"
	"comfyfleet/gpu"
	"comfyfleet/models"
)

// Store is what jobs need of models/store.
type Store interface {
	AcceptJob(ctx context.Context, n models.NewJob) (job models.Job, replayed bool, err error)
	LookupIdempotency(ctx context.Context, tenantID, key string) (fingerprint string, job models.Job, err error)
	Claim(ctx context.Context, a models.Attempt) (models.Attempt, models.Job, error)
	AttemptStaged(ctx context.Context, attemptID string, at time.Time) error
	AttemptStarted(ctx context.Context, attemptID string, at time.Time, simulated bool) error
	AttemptCollecting(ctx context.Context, attemptID string, at time.Time, loadMS, execMS int64) error
	SaveProgress(ctx context.Context, updates []models.ProgressUpdate) (stored []string, err error)
	FinishAttempt(ctx context.Context, f models.Finish) (models.Job, error)
	Fence(ctx context.Context, jobID, attemptID string) error
	RequeueAttempt(ctx context.Context, r models.Requeue) (models.Job, error)
	CancelJob(ctx context.Context, tenantID, jobID string, at time.Time, message string) (models.Job, bool, error)
	ExpireJobs(ctx context.Context, now time.Time, limit int) ([]models.Job, error)
	SetPriority(ctx context.Context, tenantID, jobID string, priority int) (models.Job, error)
	Queue(ctx context.Context, perTenant int) (models.QueueView, error)
	OpenAttempts(ctx context.Context) ([]models.OpenAttempt, error)
	SweepJobs(ctx context.Context, finishedBefore time.Time, limit int) (assetIDs []string, jobs int, err error)

	Job(ctx context.Context, tenantID, id string) (models.Job, error)
	JobState(ctx context.Context, tenantID, id string) (models.JobState, error)
	Jobs(ctx context.Context, f models.JobFilter, p models.Page) (models.JobPage, error)
	Counts(ctx context.Context, f models.JobFilter) (map[models.JobState]int, error)
	QueuePosition(ctx context.Context, job models.Job) (int, error)
	Payload(ctx context.Context, jobID string) (models.JobPayload, error)
	Outputs(ctx context.Context, jobID string) ([]models.Output, error)
	Output(ctx context.Context, id string) (models.Output, error)
	Asset(ctx context.Context, id string) (models.Asset, error)
	Attempts(ctx context.Context, jobID string) ([]models.Attempt, error)
	Events(ctx context.Context, jobID string, after int64, limit int) ([]models.Event, error)
	RecentDurations(ctx context.Context, slug string, n int) ([]int64, error)

	Tenant(ctx context.Context, id string) (models.Tenant, error)
	Workflow(ctx context.Context, tenantID, slug string) (models.Workflow, error)
	Version(ctx context.Context, slug string, version int) (models.WorkflowVersion, error)
	Alias(ctx context.Context, slug, alias string) (int, error)
	Setting(ctx context.Context, name string) (string, bool, error)
	SetSetting(ctx context.Context, name, value string) error
}

// Blobs is what jobs need of app/storage.
type Blobs interface {
	Create(ctx context.Context, id string) (*storage.Writer, error)
	Open(ctx context.Context, id string) (io.ReadSeekCloser, int64, error)
	Delete(ctx context.Context, ids ...string) error
	// IDs calls fn for every blob that was written before older.
	IDs(ctx context.Context, older time.Time, fn func(id string) error) error
}

// Fleet is what jobs need of gpu.Manager.
type Fleet interface {
	Workers() []models.Worker
	Worker(name string) (models.Worker, bool)
	// Changes fires when a snapshot changed; cancel ends the subscription.
	Changes() (wake <-chan struct{}, cancel func())
	Execute(ctx context.Context, worker string, t gpu.Task, o gpu.Observer) gpu.Outcome
	Stop(attemptID string, cause models.Cause)
	OpenOutput(ctx context.Context, worker string, f gpu.FileRef) (io.ReadCloser, int64, error)
	OutputStamp(worker string, f gpu.FileRef) string
	Forget(ctx context.Context, worker, attemptID, jobID string)
	Start(name string)
	Release(name string)
}

// Fetcher is what jobs need of app/outbound.
type Fetcher interface {
	Fetch(ctx context.Context, url string, w io.Writer, maxBytes int64) (outbound.Fetched, error)
	Check(url string) error
}
