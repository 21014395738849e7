// Package storetest is what every database under comfyfleet must do: one suite that SQLite passes today and the next
// database passes before it is used.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

// Store is everything a database does for comfyfleet; *store.Store is one.
type Store interface {
	Jobs
	People
	Library
	Webhooks
	House
	Close() error
	// VerifyCounters finds tenants whose counters do not agree with their jobs.
	VerifyCounters(ctx context.Context) error
}

// Jobs is what a store does for jobs.
type Jobs interface {
	AcceptJob(ctx context.Context, n models.NewJob) (job models.Job, replayed bool, err error)
	LookupIdempotency(ctx context.Context, tenantID, key string) (fingerprint string, job models.Job, err error)
	Claim(ctx context.Context, a models.Attempt) (models.Attempt, models.Job, error)
	AttemptStaged(ctx context.Context, attemptID string, at time.Time) error
	AttemptStarted(ctx context.Context, attemptID string, at time.Time, simulated bool) error
	AttemptCollecting(ctx context.Context, attemptID string, at time.Time, loadMS, execMS int64) error
	SaveProgress(ctx context.Context, updates []models.ProgressUpdate) (stored []string, err error)
	Fence(ctx context.Context, jobID, attemptID string) error
	FinishAttempt(ctx context.Context, f models.Finish) (models.Job, error)
	RequeueAttempt(ctx context.Context, r models.Requeue) (models.Job, error)
	CancelJob(ctx context.Context, tenantID, jobID string, at time.Time, message string) (job models.Job, changed bool, err error)
	ExpireJobs(ctx context.Context, now time.Time, limit int) ([]models.Job, error)
	SetPriority(ctx context.Context, tenantID, jobID string, priority int) (models.Job, error)
	Queue(ctx context.Context, perTenant int) (models.QueueView, error)
	QueuePosition(ctx context.Context, job models.Job) (int, error)
	OldestWaiting(ctx context.Context) (at time.Time, ok bool, err error)
	OldestQueued(ctx context.Context) (at time.Time, ok bool, err error)
	OpenAttempts(ctx context.Context) ([]models.OpenAttempt, error)
	Job(ctx context.Context, tenantID, id string) (models.Job, error)
	JobState(ctx context.Context, tenantID, id string) (models.JobState, error)
	Jobs(ctx context.Context, f models.JobFilter, page models.Page) (models.JobPage, error)
	Counts(ctx context.Context, f models.JobFilter) (map[models.JobState]int, error)
	Payload(ctx context.Context, jobID string) (models.JobPayload, error)
	Outputs(ctx context.Context, jobID string) ([]models.Output, error)
	Output(ctx context.Context, id string) (models.Output, error)
	Asset(ctx context.Context, id string) (models.Asset, error)
	Attempts(ctx context.Context, jobID string) ([]models.Attempt, error)
	Attempt(ctx context.Context, id string) (models.Attempt, error)
	Events(ctx context.Context, jobID string, after int64, limit int) ([]models.Event, error)
	RecentDurations(ctx context.Context, slug string, n int) ([]int64, error)
	SweepJobs(ctx context.Context, finishedBefore time.Time, limit int) (assetIDs []string, jobs int, err error)
	UsageOf(ctx context.Context, tenantID, fromDay, toDay string) ([]models.Usage, error)
}

// People is what a store does for tenants, keys and operators.
type People interface {
	CreateTenant(ctx context.Context, t models.Tenant) error
	Tenant(ctx context.Context, id string) (models.Tenant, error)
	TenantByName(ctx context.Context, name string) (models.Tenant, error)
	Tenants(ctx context.Context) ([]models.Tenant, error)
	UpdateTenant(ctx context.Context, t models.Tenant) error
	DisableWebhooks(ctx context.Context, tenantID string, at time.Time) error
	DeleteTenant(ctx context.Context, id string) error
	CreateKey(ctx context.Context, k models.APIKey) error
	KeyByHash(ctx context.Context, hash string) (models.APIKey, models.Tenant, error)
	Key(ctx context.Context, id string) (models.APIKey, error)
	Keys(ctx context.Context, tenantID string) ([]models.APIKey, error)
	RevokeKey(ctx context.Context, id string, at time.Time) error
	TouchKeys(ctx context.Context, uses map[string]models.KeyUse) error
	CreateOperator(ctx context.Context, o models.Operator) error
	Operator(ctx context.Context, id string) (models.Operator, error)
	OperatorByEmail(ctx context.Context, email string) (models.Operator, error)
	Operators(ctx context.Context) ([]models.Operator, error)
	UpdateOperator(ctx context.Context, o models.Operator) error
	CreateSession(ctx context.Context, session models.Session) error
	SessionByHash(ctx context.Context, hash string) (models.Session, models.Operator, error)
	TouchSession(ctx context.Context, hash string, at time.Time) error
	DeleteSession(ctx context.Context, hash string) error
	DeleteSessions(ctx context.Context, operatorID string) error
	Audit(ctx context.Context, e models.AuditEntry) error
	AuditLog(ctx context.Context, before int64, limit int) ([]models.AuditEntry, error)
}

// Library is what a store does for workflows.
type Library interface {
	PutVersion(ctx context.Context, w models.Workflow, v models.WorkflowVersion) (version int, err error)
	Workflow(ctx context.Context, tenantID, slug string) (models.Workflow, error)
	Workflows(ctx context.Context, tenantID string) ([]models.Workflow, error)
	Version(ctx context.Context, slug string, version int) (models.WorkflowVersion, error)
	Versions(ctx context.Context, slug string) ([]models.WorkflowVersion, error)
	Alias(ctx context.Context, slug, alias string) (int, error)
	Aliases(ctx context.Context, slug string) ([]models.WorkflowAlias, error)
	SetAlias(ctx context.Context, slug, alias string, version int, at time.Time) error
}

// Webhooks is what a store does for webhook deliveries.
type Webhooks interface {
	DueDeliveries(ctx context.Context, now time.Time, limit int) ([]models.Delivery, error)
	NextDelivery(ctx context.Context) (at time.Time, ok bool, err error)
	RecordDelivery(ctx context.Context, a models.DeliveryAttempt, state models.DeliveryState, next *time.Time) error
	Redeliver(ctx context.Context, id string, at time.Time) error
	Delivery(ctx context.Context, id string) (models.Delivery, error)
	DeliveriesOf(ctx context.Context, jobID string) ([]models.Delivery, error)
	Deliveries(ctx context.Context, tenantID, before string, limit int) ([]models.Delivery, error)
	DeliveryAttempts(ctx context.Context, id string) ([]models.DeliveryAttempt, error)
}

// House is what a store does for the service itself.
type House interface {
	WorkerRecords(ctx context.Context) ([]models.WorkerRecord, error)
	SaveWorkerRecord(ctx context.Context, r models.WorkerRecord) error
	Setting(ctx context.Context, name string) (value string, ok bool, err error)
	SetSetting(ctx context.Context, name, value string) error
}

// Opener opens one database; called again after Close it opens the same one. The suite closes what it opened.
type Opener func(t *testing.T) Store

// Run runs the suite. fresh makes an empty database and returns what opens it.
func Run(t *testing.T, fresh func(t *testing.T) Opener) {
	for _, group := range []struct {
		name  string
		tests map[string]func(*testing.T, *bench)
	}{
		{"accept", acceptTests}, {"attempts", attemptTests}, {"ends", endTests}, {"lists", listTests},
		{"queue", queueTests}, {"races", raceTests}, {"sweep", sweepTests}, {"webhooks", webhookTests},
		{"people", peopleTests}, {"library", libraryTests}, {"house", houseTests},
	} {
		for name, test := range group.tests {
			t.Run(group.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				open := fresh(t)
				b := &bench{Store: open(t), reopen: open, tenant: "tenant-a", at: start}
				t.Cleanup(func() {
					require.NoError(t, b.VerifyCounters(context.Background()))
					require.NoError(t, b.Close())
				})
				b.addTenant(t, b.tenant)
				test(t, b)
			})
		}
	}
}

// start is a moment with microseconds that a careless format would cut, near midnight so that days matter.
var start = time.Date(2026, 11, 23, 23, 59, 58, 100_020_000, time.UTC)

// bench is an open store with a tenant, and a clock that ticks a second whenever it is read.
type bench struct {
	Store
	reopen Opener
	tenant string
	at     time.Time
	serial atomic.Int64
}

func (b *bench) now() time.Time {
	b.at = b.at.Add(time.Second)
	return b.at
}

// id is a new UUID-shaped name; names sort by the order of their making.
func (b *bench) id() string { return fmt.Sprintf("%08x-0000-4000-8000-000000000000", b.serial.Add(1)) }

// again closes the store and opens its database anew.
func (b *bench) again(t *testing.T) {
	t.Helper()
	require.NoError(t, b.Close())
	b.Store = b.reopen(t)
}

func (b *bench) addTenant(t *testing.T, id string) {
	t.Helper()
	require.NoError(t, b.CreateTenant(t.Context(), models.Tenant{ID: id, Name: id, CreatedAt: start, Weight: 1}))
}

// newJob is a request of the bench's tenant.
func (b *bench) newJob(change ...func(*models.NewJob)) models.NewJob {
	n := models.NewJob{
		Job:     models.Job{ID: b.id(), TenantID: b.tenant, Origin: models.OriginAPI, CreatedAt: b.now()},
		Payload: models.JobPayload{Graph: []byte(`{"1":{"class_type":"SaveImage","inputs":{}}}`)},
	}
	for _, c := range change {
		c(&n)
	}
	return n
}

func (b *bench) accept(t *testing.T, change ...func(*models.NewJob)) models.Job {
	t.Helper()
	job, replayed, err := b.AcceptJob(t.Context(), b.newJob(change...))
	require.NoError(t, err)
	require.False(t, replayed)
	return job
}

func (b *bench) claim(t *testing.T, jobID, worker string) models.Attempt {
	t.Helper()
	a, _, err := b.Claim(t.Context(), models.Attempt{ID: b.id(), JobID: jobID, Worker: worker,
		PlacedBecause: "it was idle", CreatedAt: b.now()})
	require.NoError(t, err)
	return a
}

// run claims a job and lets its attempt execute.
func (b *bench) run(t *testing.T, jobID, worker string) models.Attempt {
	t.Helper()
	a := b.claim(t, jobID, worker)
	require.NoError(t, b.AttemptStaged(t.Context(), a.ID, b.now()))
	require.NoError(t, b.AttemptStarted(t.Context(), a.ID, b.now(), true))
	return a
}

// succeed runs a job to its end with the given outputs.
func (b *bench) succeed(t *testing.T, jobID string, outputs ...string) models.Job {
	t.Helper()
	a := b.run(t, jobID, "sim0")
	f := models.Finish{AttemptID: a.ID, Attempt: models.AttemptSucceeded, Job: models.JobSucceeded, At: b.now(),
		LoadMS: 100, ExecMS: 200, CollectMS: 30}
	for _, id := range outputs {
		f.Outputs = append(f.Outputs, models.Output{ID: id, NodeID: "9", Filename: id + ".png", Type: "image",
			ContentType: "image/png", Size: 1000, SHA256: "ab"})
		f.Assets = append(f.Assets, models.Asset{ID: id, Size: 1000, SHA256: "ab", ContentType: "image/png"})
	}
	job, err := b.FinishAttempt(t.Context(), f)
	require.NoError(t, err)
	return job
}

func (b *bench) job(t *testing.T, id string) models.Job {
	t.Helper()
	job, err := b.Job(t.Context(), b.tenant, id)
	require.NoError(t, err)
	return job
}

func (b *bench) attempt(t *testing.T, id string) models.Attempt {
	t.Helper()
	a, err := b.Attempt(t.Context(), id)
	require.NoError(t, err)
	return a
}

// kinds are the kinds of a job's events; their revisions must count from 1 without gaps.
func (b *bench) kinds(t *testing.T, jobID string) []string {
	t.Helper()
	events, err := b.Events(t.Context(), jobID, 0, 1000)
	require.NoError(t, err)
	var kinds []string
	for i, e := range events {
		require.EqualValues(t, i+1, e.Rev)
		require.Equal(t, jobID, e.JobID)
		kinds = append(kinds, e.Kind)
	}
	require.EqualValues(t, len(events), b.job(t, jobID).Revision)
	return kinds
}

func requireCode(t *testing.T, want models.Code, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, want, models.ErrorCode(err), "%v", err)
}

func requireName(t *testing.T, want string, err error) {
	t.Helper()
	var e *models.Error
	require.True(t, errors.As(err, &e), "%v", err)
	require.Equal(t, want, e.ProblemName())
}

func ptr[T any](v T) *T { return &v }
