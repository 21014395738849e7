package jobs

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"comfyfleet/models"
	"comfyfleet/workflows"
)

// stalledAfter is how long a running job's engine may be silent before readers see it as stalled (the guide's 30 s).
const stalledAfter = 30 * time.Second

// cancelMessage is what the guide's clients read as the error of a cancelled job.
const cancelMessage = "Cancelled by user"

// Config is what a Service is made of.
type Config struct {
	Store    Store
	Blobs    Blobs
	Fleet    Fleet
	Outbound Fetcher
	Log      *slog.Logger
	// MaxQueued and MaxQueuedPerTenant cap waiting jobs.
	MaxQueued          int
	MaxQueuedPerTenant int
	// MinReady and ScaleDownAfter go to the planner.
	MinReady       int
	ScaleDownAfter time.Duration
	// StallAfter bounds, up to a minute, how long a worker may send nothing of an output; 0 means that minute.
	StallAfter time.Duration
	// Retention is how long finished jobs are kept; 0 keeps them for ever.
	Retention time.Duration
	// Finished is called after a job's final state was committed: its webhook is due. It must not block.
	Finished func(job models.Job)
	// Now and NewID default to the clock and random UUIDs.
	Now   func() time.Time
	NewID func() string
}

// Service is everything that can be done to jobs. Methods with a tenantID answer CodeNotFound for a job of another
// tenant; an empty tenantID is an operator, who sees all.
type Service struct {
	Config
	hub       *hub
	twins     keyedMutex
	graphs    *parsedGraphs
	defs      atomic.Pointer[workflows.Defs]
	pauses    atomic.Pointer[Pauses]
	estimator estimator
	saver     progressSaver
	backlog   backlog

	wake    chan struct{} // one token: plan again
	arrived chan struct{} // a job was accepted and waits
	freed   chan struct{} // a place on a worker, or of a tenant, was given back

	// life is the context of attempts, which outlive the requests that bring their jobs. Run sets it before the dispatcher
	// first finds the backlog empty, and it is read after.
	life context.Context

	// planning is held from a look at the fleet until what was decided of it holds its place: one place is given once.
	planning sync.Mutex

	mu sync.Mutex
	// onWorker lists the attempts that this server has on each worker, oldest first.
	onWorker map[string][]held
	// claiming holds jobs between Plan and Claim, which the queue may still show.
	claiming map[string]bool
	// served is what each tenant's placements were charged, by its weight.
	served  map[string]int64
	waiting map[string]string // why each waiting job waits, as of the last plan
	running sync.WaitGroup
	stopped bool
}

// New makes a service. Run starts its loops.
func New(c Config) *Service {
	if c.Now == nil {
		c.Now = func() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
	}
	if c.NewID == nil {
		c.NewID = uuid.NewString
	}
	if c.Finished == nil {
		c.Finished = func(models.Job) {}
	}
	s := &Service{
		Config:   c,
		hub:      newHub(c.Now),
		graphs:   newParsedGraphs(),
		wake:     make(chan struct{}, 1),
		arrived:  make(chan struct{}, 1),
		freed:    make(chan struct{}, 1),
		onWorker: map[string][]held{},
		claiming: map[string]bool{},
		served:   map[string]int64{},
		waiting:  map[string]string{},
	}
	s.backlog.grow() // an earlier server may have left some
	s.pauses.Store(&Pauses{})
	s.saver = progressSaver{store: c.Store, show: s.hub.show, attempts: map[string]*attemptProgress{}}
	return s
}

// SetNodeDefs gives the node definitions that new graphs are checked against.
func (s *Service) SetNodeDefs(raw []byte) error {
	d, err := workflows.ParseDefs(raw)
	if err != nil {
		return err
	}
	s.defs.Store(d)
	return nil
}

// NodeDefs are the definitions in use, nil when none were seen.
func (s *Service) NodeDefs() *workflows.Defs { return s.defs.Load() }

// View is a job as readers see it: the stored row with the newest progress from the hub.
type View struct {
	models.Job
	// QueuePosition is 1 for the next to run, 0 when it does not wait or when unknown.
	QueuePosition int
	// Stalled says that a running job's engine has been silent for 30 s.
	Stalled bool
	// Outputs are set where they are known without a look, of a job that has just ended.
	Outputs []models.Output
}

// Job is one job.
func (s *Service) Job(ctx context.Context, tenantID, id string) (View, error) {
	job, err := s.Store.Job(ctx, tenantID, id)
	if err != nil {
		return View{}, err
	}
	return s.view(ctx, job)
}

func (s *Service) view(ctx context.Context, job models.Job) (View, error) {
	s.overlay(&job)
	v := View{Job: job}
	if job.State == models.JobQueued {
		pos, err := s.Store.QueuePosition(ctx, job)
		if err != nil {
			return View{}, err
		}
		v.QueuePosition = pos
	}
	v.Stalled = job.State == models.JobRunning && job.Phase != models.PhaseCollecting &&
		job.Progress.LastEventAt != nil && s.Now().Sub(*job.Progress.LastEventAt) > stalledAfter
	return v, nil
}

// overlay adds what only this server's memory knows.
func (s *Service) overlay(job *models.Job) {
	s.hub.live(job)
	if job.State == models.JobQueued {
		job.WaitingReason = s.why(job.ID)
	}
}

func (s *Service) why(jobID string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting[jobID]
}

// Jobs is one page of jobs, newest first, with live progress.
func (s *Service) Jobs(ctx context.Context, f models.JobFilter, p models.Page) (models.JobPage, error) {
	page, err := s.Store.Jobs(ctx, f, p)
	if err != nil {
		return models.JobPage{}, err
	}
	for i := range page.Jobs {
		s.overlay(&page.Jobs[i])
	}
	return page, nil
}

// Counts are jobs by state under a filter, each capped at models.CountCap+1.
func (s *Service) Counts(ctx context.Context, f models.JobFilter) (map[models.JobState]int, error) {
	return s.Store.Counts(ctx, f)
}

// Cancel ends a job; by is for the log. changed is false when it had ended before; the job is then as it ended. What an engine still does
// for it is stopped in the background and changes nothing any more.
func (s *Service) Cancel(ctx context.Context, tenantID, id, by string) (job models.Job, changed bool, err error) {
	job, changed, err = s.Store.CancelJob(ctx, tenantID, id, s.Now(), cancelMessage)
	if err != nil || !changed {
		return job, changed, err
	}
	s.Log.Info("job cancelled", "job", job.ID, "tenant", job.TenantID, "by", by)
	s.revoke(job)
	s.ended(job, nil)
	return job, true, nil
}

// ended tells everybody who waits for a final state.
func (s *Service) ended(job models.Job, outputs []models.Output) {
	s.hub.publishEnd(job, outputs)
	s.Finished(job)
	signal(s.freed)
}

// Retry submits a finished job's graph, inputs and media again as a new job.
func (s *Service) Retry(ctx context.Context, tenantID, id string) (Accepted, error) {
	job, err := s.Store.Job(ctx, tenantID, id)
	if err != nil {
		return Accepted{}, err
	}
	if !job.State.Final() {
		return Accepted{}, models.Errorf(models.CodeConflict, "job_not_finished", "the job is %s; only a finished job can run again", job.State)
	}
	payload, err := s.Store.Payload(ctx, job.ID)
	if err != nil {
		return Accepted{}, err
	}
	tenant, err := s.Store.Tenant(ctx, job.TenantID)
	if err != nil {
		return Accepted{}, err
	}
	again := models.Job{
		TenantID: job.TenantID, KeyID: job.KeyID, Origin: models.OriginDashboard, Priority: job.Priority,
		WorkflowSlug: job.WorkflowSlug, WorkflowVersion: job.WorkflowVersion,
		WebhookURL: job.WebhookURL, Metadata: job.Metadata,
	}
	return s.accept(ctx, admission{tenant: tenant, job: again, payload: payload})
}

// SetPriority changes the priority of a waiting job.
func (s *Service) SetPriority(ctx context.Context, tenantID, id string, priority int) error {
	if priority < models.MinPriority || priority > models.MaxPriority {
		return models.FieldErrorf(models.CodeInvalid, "bad_priority", "priority", "must be between %d and %d", models.MinPriority, models.MaxPriority)
	}
	job, err := s.Store.SetPriority(ctx, tenantID, id, priority)
	if err != nil {
		return err
	}
	s.hub.publishJob(job)
	s.Wake()
	return nil
}

// Outputs are the job's outputs in order.
func (s *Service) Outputs(ctx context.Context, tenantID, id string) ([]models.Output, error) {
	outputs, err := s.Store.Outputs(ctx, id)
	if err != nil || len(outputs) > 0 && (tenantID == "" || outputs[0].TenantID == tenantID) {
		return outputs, err
	}
	_, err = s.Store.JobState(ctx, tenantID, id) // none yet, or not theirs
	return []models.Output{}, err
}

// OpenOutput opens an output's bytes. The reader seeks.
func (s *Service) OpenOutput(ctx context.Context, tenantID, outputID string) (models.Output, io.ReadSeekCloser, error) {
	out, err := s.Store.Output(ctx, outputID)
	if err != nil {
		return models.Output{}, nil, err
	}
	if tenantID != "" && out.TenantID != tenantID {
		return models.Output{}, nil, models.ErrNotFound("output")
	}
	r, err := s.OpenContent(ctx, out)
	return out, r, err
}

// OpenContent opens the bytes of an output that has been read.
func (s *Service) OpenContent(ctx context.Context, out models.Output) (io.ReadSeekCloser, error) {
	if out.Content != nil {
		return content{bytes.NewReader(out.Content)}, nil
	}
	r, _, err := s.Blobs.Open(ctx, out.ID)
	return r, err
}

// content is a small output.
type content struct{ *bytes.Reader }

func (content) Close() error { return nil }

// OpenMedia opens an input medium's bytes.
func (s *Service) OpenMedia(ctx context.Context, tenantID, assetID string) (models.Asset, io.ReadSeekCloser, error) {
	a, err := s.Store.Asset(ctx, assetID)
	if err != nil {
		return models.Asset{}, nil, err
	}
	if tenantID != "" && a.TenantID != tenantID {
		return models.Asset{}, nil, models.ErrNotFound("medium")
	}
	r, _, err := s.Blobs.Open(ctx, a.ID)
	return a, r, err
}

// Payload is the job's graph, inputs and media.
func (s *Service) Payload(ctx context.Context, tenantID, id string) (models.JobPayload, error) {
	if _, err := s.Store.Job(ctx, tenantID, id); err != nil {
		return models.JobPayload{}, err
	}
	return s.Store.Payload(ctx, id)
}

// Attempts are the job's attempts, oldest first.
func (s *Service) Attempts(ctx context.Context, tenantID, id string) ([]models.Attempt, error) {
	if _, err := s.Store.Job(ctx, tenantID, id); err != nil {
		return nil, err
	}
	return s.Store.Attempts(ctx, id)
}

// Events are the job's stored events with Rev > after, oldest first, at most limit.
func (s *Service) Events(ctx context.Context, tenantID, id string, after int64, limit int) ([]models.Event, error) {
	if _, err := s.Store.Job(ctx, tenantID, id); err != nil {
		return nil, err
	}
	return s.Store.Events(ctx, id, after, limit)
}

// Follow subscribes to one job. The caller checks with Job that it may. Close the follower when done.
func (s *Service) Follow(id string) *Follower { return s.hub.follow(id, false) }

// FollowEnd is Follow for one who is to be woken by the job's end alone.
func (s *Service) FollowEnd(id string) *Follower { return s.hub.follow(id, true) }

// FollowAll subscribes to a digest of all jobs: its wake channel fires, at most every 250 ms, when any job changed.
func (s *Service) FollowAll() *Follower { return s.hub.followAll() }
