package api

import (
	"context"
	"io"
	"time"

	"comfyfleet/app/jobs"
	"comfyfleet/app/server"
	"comfyfleet/app/storage"
	"comfyfleet/models"
)

// Deps is what the API needs of the rest.
type Deps struct {
	Keys server.Authenticator
	Jobs Jobs
	// Follow subscribes to a job; see FollowJobs.
	Follow func(jobID string) Follower
	// FollowEnd is Follow for those who only wait for the job's end; see FollowJobEnds.
	FollowEnd func(jobID string) Follower

	Blobs   Blobs
	Library Library
	Usage   Usage
	Fleet   Fleet
	Signer  *Signer
	// FreeDisk is what is left for blobs, in bytes; ok is false where nobody knows. New jobs are refused below
	// MinFreeDisk.
	FreeDisk    func() (bytes uint64, ok bool)
	MinFreeDisk uint64
	// PublicURL is where clients reach us, without a slash at the end; "" for the host that the request names.
	PublicURL string
	// Version is shown by /health.
	Version string
	Rates   Rates
	// MaxFollowers is how many streams one tenant may have open; 0 for the default.
	MaxFollowers int
	Now          func() time.Time
	NewID        func() string
}

// Jobs is what the API needs of jobs.Service. Methods with a tenantID answer CodeNotFound for another tenant's.
type Jobs interface {
	Submit(ctx context.Context, s jobs.Submission) (jobs.Accepted, error)
	Job(ctx context.Context, tenantID, id string) (jobs.View, error)
	Jobs(ctx context.Context, f models.JobFilter, p models.Page) (models.JobPage, error)
	Cancel(ctx context.Context, tenantID, id, by string) (job models.Job, changed bool, err error)
	Outputs(ctx context.Context, tenantID, id string) ([]models.Output, error)
	OpenOutput(ctx context.Context, tenantID, outputID string) (models.Output, io.ReadSeekCloser, error)
	// OpenContent opens an output of Outputs.
	OpenContent(ctx context.Context, o models.Output) (io.ReadSeekCloser, error)
	Events(ctx context.Context, tenantID, id string, after int64, limit int) ([]models.Event, error)
}

// Follower is a subscription to one job: jobs.Follower in a form that others can stand in for.
type Follower struct {
	Wake   <-chan struct{}
	Latest func() (jobs.Update, bool)
	Close  func()
}

// FollowJobs makes Deps.Follow of a service.
func FollowJobs(s *jobs.Service) func(jobID string) Follower {
	return func(jobID string) Follower {
		return wrapped(s.Follow(jobID))
	}
}

// FollowJobEnds makes Deps.FollowEnd of a service.
func FollowJobEnds(s *jobs.Service) func(jobID string) Follower {
	return func(jobID string) Follower {
		return wrapped(s.FollowEnd(jobID))
	}
}

func wrapped(f *jobs.Follower) Follower {
	return Follower{Wake: f.Wake, Latest: f.Latest, Close: f.Close}
}

// Blobs stores what comes with a request.
type Blobs interface {
	Create(ctx context.Context, id string) (BlobWriter, error)
	Delete(ctx context.Context, ids ...string) error
}

// BlobWriter is one blob being written; *storage.Writer is one. It ends with Commit or Abort, and Abort after Commit
// does nothing.
type BlobWriter interface {
	io.Writer
	Commit() (storage.Blob, error)
	Abort()
}

// StoreBlobs makes Deps.Blobs of a store.
func StoreBlobs(s *storage.Store) Blobs { return blobStore{s} }

type blobStore struct{ *storage.Store }

func (b blobStore) Create(ctx context.Context, id string) (BlobWriter, error) {
	w, err := b.Store.Create(ctx, id)
	if err != nil {
		return nil, err // a nil *Writer would not be a nil BlobWriter
	}
	return w, nil
}

// Library is the workflows that a tenant may run.
type Library interface {
	Workflows(ctx context.Context, tenantID string) ([]models.Workflow, error)
	Workflow(ctx context.Context, tenantID, slug string) (models.Workflow, error)
	// Version is an immutable version; 0 is the newest.
	Version(ctx context.Context, slug string, version int) (models.WorkflowVersion, error)
	Aliases(ctx context.Context, slug string) ([]models.WorkflowAlias, error)
}

// Usage is what tenants used, by UTC day.
type Usage interface {
	UsageOf(ctx context.Context, tenantID, fromDay, toDay string) ([]models.Usage, error)
}

// Fleet is what health needs of the workers.
type Fleet interface {
	Workers() []models.Worker
}

// Rates are the service's requests a minute for each key; 0 for no limit. A tenant's own numbers win.
type Rates struct{ Submit, Status, Manage int }

func (r Rates) submit(t models.Tenant) int { return rate(t.RateSubmit, r.Submit) }
func (r Rates) status(t models.Tenant) int { return rate(t.RateStatus, r.Status) }
func (r Rates) manage(t models.Tenant) int { return rate(t.RateManage, r.Manage) }

func rate(own, house int) int {
	if own != 0 {
		return own // -1 is none
	}
	return house
}
