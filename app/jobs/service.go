package jobs

import (
	"context"
	"io"
	"time"

	"comfyfleet/models"
)

// Service is everything that can be done to jobs. Methods with a tenantID answer CodeNotFound for a job of another
// tenant; an empty tenantID is an operator, who sees all.
type Service struct{}

// Submit checks s, stores its media and commits the job. It owns s's blobs from here: a refused or replayed submission
// leaves nothing behind. The answer may be sent: the job is durable.
func (s *Service) Submit(ctx context.Context, sub Submission) (Accepted, error) { panic("unwritten") }

// View is a job as readers see it: the stored row with the newest progress from the hub.
type View struct {
	models.Job
	// QueuePosition is 1 for the next to run, 0 when it does not wait or when unknown.
	QueuePosition int
	// Stalled says that a running job's engine has been silent for 30 s.
	Stalled bool
}

// Job is one job.
func (s *Service) Job(ctx context.Context, tenantID, id string) (View, error) { panic("unwritten") }

// Jobs is one page of jobs, newest first, with live progress.
func (s *Service) Jobs(ctx context.Context, f models.JobFilter, p models.Page) (models.JobPage, error) {
	panic("unwritten")
}

// Counts are jobs by state under a filter, each capped at models.CountCap+1.
func (s *Service) Counts(ctx context.Context, f models.JobFilter) (map[models.JobState]int, error) {
	panic("unwritten")
}

// Cancel ends a job. changed is false when it had ended before; the job is then as it ended.
func (s *Service) Cancel(ctx context.Context, tenantID, id, by string) (job models.Job, changed bool, err error) {
	panic("unwritten")
}

// Retry submits a finished job's graph, inputs and media again as a new job.
func (s *Service) Retry(ctx context.Context, tenantID, id string) (Accepted, error) {
	panic("unwritten")
}

// SetPriority changes the priority of a waiting job.
func (s *Service) SetPriority(ctx context.Context, tenantID, id string, priority int) error {
	panic("unwritten")
}

// Outputs are the job's outputs in order.
func (s *Service) Outputs(ctx context.Context, tenantID, id string) ([]models.Output, error) {
	panic("unwritten")
}

// OpenOutput opens an output's bytes. The reader seeks.
func (s *Service) OpenOutput(ctx context.Context, tenantID, outputID string) (models.Output, io.ReadSeekCloser, error) {
	panic("unwritten")
}

// OpenMedia opens an input medium's bytes.
func (s *Service) OpenMedia(ctx context.Context, tenantID, assetID string) (models.Asset, io.ReadSeekCloser, error) {
	panic("unwritten")
}

// Payload is the job's graph, inputs and media.
func (s *Service) Payload(ctx context.Context, tenantID, id string) (models.JobPayload, error) {
	panic("unwritten")
}

// Attempts are the job's attempts, oldest first.
func (s *Service) Attempts(ctx context.Context, tenantID, id string) ([]models.Attempt, error) {
	panic("unwritten")
}

// Events are the job's stored events with Rev > after, oldest first, at most limit.
func (s *Service) Events(ctx context.Context, tenantID, id string, after int64, limit int) ([]models.Event, error) {
	panic("unwritten")
}

// Follow subscribes to one job. The caller checks with Job that it may. Close the follower when done.
func (s *Service) Follow(id string) *Follower { panic("unwritten") }

// FollowAll subscribes to a digest of all jobs: its wake channel fires, at most every 250 ms, when any job changed.
func (s *Service) FollowAll() *Follower { panic("unwritten") }

// Follower is woken when there is something new. Wake holds one token: many changes may be one wake.
type Follower struct {
	Wake <-chan struct{}
}

// Update is the newest of what a followed job has.
type Update struct {
	// Version counts changes of the topic in this server's life.
	Version uint64
	// Revision is the newest stored event; readers fetch events after the one that they know.
	Revision int64
	Progress models.Progress
	Phase    models.Phase
	State    models.JobState
	// Preview is the newest preview frame; PreviewVersion changes with it.
	Preview        []byte
	PreviewType    string
	PreviewNode    string
	PreviewVersion uint64
	At             time.Time
}

// Latest is the newest update; ok is false when nothing is known in memory (the job does not run here).
func (f *Follower) Latest() (u Update, ok bool) { panic("unwritten") }

// Close ends the subscription.
func (f *Follower) Close() { panic("unwritten") }

// Intake and dispatch switches for operators.

// Pauses are the operator's switches; they outlive the server.
type Pauses struct{ Intake, Dispatch bool }

// Paused reads the switches.
func (s *Service) Paused() Pauses { panic("unwritten") }

// SetPaused writes them. While intake is paused Submit answers CodeUnavailable "intake_paused".
func (s *Service) SetPaused(ctx context.Context, p Pauses) error { panic("unwritten") }
