package web

import (
	"context"
	"io"
	"log/slog"
	"time"

	"comfyfleet/app/auth"
	"comfyfleet/app/jobs"
	"comfyfleet/app/storage"
	"comfyfleet/models"
	"comfyfleet/views"
	"comfyfleet/workflows"
)

// Deps is what the dashboard is made of. wire.go fills it.
type Deps struct {
	Jobs Jobs
	// Follow subscribes to one job, or to all with "". FollowJobs makes it from a jobs.Service.
	Follow     func(jobID string) Feed
	Fleet      Fleet
	People     People
	Tenants    Tenants
	Library    Library
	Stats      Stats
	Deliveries Deliveries
	Blobs      Blobs
	Throttle   *auth.Throttle
	Log        *slog.Logger
	// Env names the installation; its Simulated is worked out from the workers.
	Env     views.Env
	Version string
	// PublicURL is what code samples call, without a slash at its end; https makes cookies secure.
	PublicURL string
	// Demo says why the workers are simulated, for the banner; "" for a default text.
	Demo string
	// Now and NewID default to the clock and random UUIDs.
	Now   func() time.Time
	NewID func() string
}

// Jobs is what the dashboard needs of jobs.Service. Tenant "" is an operator, who sees all.
type Jobs interface {
	Submit(ctx context.Context, sub jobs.Submission) (jobs.Accepted, error)
	Job(ctx context.Context, tenantID, id string) (jobs.View, error)
	Jobs(ctx context.Context, f models.JobFilter, p models.Page) (models.JobPage, error)
	Counts(ctx context.Context, f models.JobFilter) (map[models.JobState]int, error)
	Cancel(ctx context.Context, tenantID, id, by string) (job models.Job, changed bool, err error)
	Retry(ctx context.Context, tenantID, id string) (jobs.Accepted, error)
	SetPriority(ctx context.Context, tenantID, id string, priority int) error
	Outputs(ctx context.Context, tenantID, id string) ([]models.Output, error)
	OpenOutput(ctx context.Context, tenantID, outputID string) (models.Output, io.ReadSeekCloser, error)
	// OpenContent opens an output of Outputs.
	OpenContent(ctx context.Context, o models.Output) (io.ReadSeekCloser, error)
	OpenMedia(ctx context.Context, tenantID, assetID string) (models.Asset, io.ReadSeekCloser, error)
	Payload(ctx context.Context, tenantID, id string) (models.JobPayload, error)
	Attempts(ctx context.Context, tenantID, id string) ([]models.Attempt, error)
	Events(ctx context.Context, tenantID, id string, after int64, limit int) ([]models.Event, error)
	Paused() jobs.Pauses
	SetPaused(ctx context.Context, p jobs.Pauses) error
	NodeDefs() *workflows.Defs
}

// Feed is a subscription. Close it.
type Feed struct {
	Wake <-chan struct{}
	// Latest is the newest of a followed job; ok is false when it does not run here. nil when all jobs are followed.
	Latest func() (u jobs.Update, ok bool)
	Close  func()
}

// FollowJobs makes Deps.Follow from the service.
func FollowJobs(s *jobs.Service) func(jobID string) Feed {
	return func(jobID string) Feed {
		if jobID == "" {
			f := s.FollowAll()
			return Feed{Wake: f.Wake, Close: f.Close}
		}
		f := s.Follow(jobID)
		return Feed{Wake: f.Wake, Latest: f.Latest, Close: f.Close}
	}
}

// Fleet is what the dashboard needs of gpu.Manager.
type Fleet interface {
	Workers() []models.Worker
	Worker(name string) (models.Worker, bool)
	// Changes fires when a snapshot changed; cancel ends the subscription.
	Changes() (wake <-chan struct{}, cancel func())
	Drain(ctx context.Context, name string) error
	Resume(ctx context.Context, name string) error
	Restart(ctx context.Context, name string) error
	Free(ctx context.Context, name string) error
	Disable(ctx context.Context, name string) error
	Enable(ctx context.Context, name string) error
	ClearQuarantine(ctx context.Context, name string) error
	Start(name string)
	// Log is the last lines of the worker's process, oldest first.
	Log(name string, lines int) ([]string, error)
	Spans(name string, since time.Time) []models.Span
}

// People are operators, their sessions, and the audit log of what they change.
type People interface {
	OperatorByEmail(ctx context.Context, email string) (models.Operator, error)
	UpdateOperator(ctx context.Context, o models.Operator) error
	CreateSession(ctx context.Context, s models.Session) error
	SessionByHash(ctx context.Context, hash string) (models.Session, models.Operator, error)
	TouchSession(ctx context.Context, hash string, at time.Time) error
	DeleteSession(ctx context.Context, hash string) error
	Audit(ctx context.Context, e models.AuditEntry) error
}

// Tenants are looked up for names.
type Tenants interface {
	Tenants(ctx context.Context) ([]models.Tenant, error)
	Key(ctx context.Context, id string) (models.APIKey, error)
}

// Library is the workflows that can be run.
type Library interface {
	Workflows(ctx context.Context, tenantID string) ([]models.Workflow, error)
	Workflow(ctx context.Context, tenantID, slug string) (models.Workflow, error)
	// Version 0 is the newest.
	Version(ctx context.Context, slug string, version int) (models.WorkflowVersion, error)
	Alias(ctx context.Context, slug, alias string) (int, error)
}

// Stats are figures of the house.
type Stats interface {
	OldestQueued(ctx context.Context) (time.Time, bool, error)
	RecentDurations(ctx context.Context, slug string, n int) ([]int64, error)
	DayStats(ctx context.Context, now time.Time) (models.DayStats, error)
}

// Deliveries are a job's webhooks.
type Deliveries interface {
	DeliveriesOf(ctx context.Context, jobID string) ([]models.Delivery, error)
	Delivery(ctx context.Context, id string) (models.Delivery, error)
	DeliveryAttempts(ctx context.Context, id string) ([]models.DeliveryAttempt, error)
	Redeliver(ctx context.Context, id string, at time.Time) error
}

// Blobs is what the dashboard needs of app/storage: a place for input files that operators choose.
type Blobs interface {
	Create(ctx context.Context, id string) (*storage.Writer, error)
	Open(ctx context.Context, id string) (io.ReadSeekCloser, int64, error)
	Delete(ctx context.Context, ids ...string) error
	Free(ctx context.Context) (bytes uint64, ok bool)
}
