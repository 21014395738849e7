package web

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/app/auth"
	"comfyfleet/app/jobs"
	"comfyfleet/app/server"
	"comfyfleet/app/storage"
	"comfyfleet/models"
	"comfyfleet/views"
	"comfyfleet/workflows"
)

// house is everything behind the dashboard, in memory: jobs that stand still, cards that report, people who sign in.
// Its storage is real.
type house struct {
	mu         sync.Mutex
	now        time.Time
	jobs       []models.Job // newest first
	payloads   map[string]models.JobPayload
	attempts   map[string][]models.Attempt
	outputs    map[string][]models.Output
	events     map[string][]models.Event
	deliveries []models.Delivery
	tries      map[string][]models.DeliveryAttempt
	updates    map[string]jobs.Update
	workers    []models.Worker
	spans      map[string][]models.Span
	logs       map[string][]string
	tenants    []models.Tenant
	keys       []models.APIKey
	people     []models.Operator
	sessions   map[string]models.Session
	library    []workflows.Entry
	day        models.DayStats
	paused     jobs.Pauses
	refuse     error // what Submit answers

	submitted []jobs.Submission
	done      []string // verb and object of every act
	audit     []models.AuditEntry
	followers map[*follower]bool
	blobs     *storage.Store
	detail    float64 // of pictures; 1 is full size
}

type follower struct{ wake chan struct{} }

func newHouse(t testing.TB) *house {
	t.Helper()
	blobs, err := storage.Open(context.Background(), "file:"+t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, blobs.Close()) })
	library, err := workflows.Bundled()
	require.NoError(t, err)
	return &house{
		now:      time.Date(2026, 11, 23, 12, 4, 31, 0, time.UTC),
		payloads: map[string]models.JobPayload{}, attempts: map[string][]models.Attempt{}, outputs: map[string][]models.Output{},
		events: map[string][]models.Event{}, tries: map[string][]models.DeliveryAttempt{}, updates: map[string]jobs.Update{},
		spans: map[string][]models.Span{}, logs: map[string][]string{}, sessions: map[string]models.Session{}, followers: map[*follower]bool{},
		tenants: []models.Tenant{{ID: "t-default", Name: models.DefaultTenant, Weight: 1}, {ID: "t-acme", Name: "acme", Weight: 1}},
		library: library, blobs: blobs, detail: 0.05, day: models.DayStats{BusyPercent: -1, BusyDayPercent: -1},
	}
}

// open serves the dashboard of h on a free port and answers its address.
func (h *house) open(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return h.serve(t, ln)
}

func (h *house) serve(t testing.TB, ln net.Listener) string {
	t.Helper()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	base := "http://" + ln.Addr().String()
	s := server.New(context.Background(), server.Config{Log: log, DrainFor: patience})
	require.NoError(t, Register(s, Deps{
		Jobs: h, Follow: h.follow, Fleet: h, People: h, Tenants: h, Library: houseLibrary{h}, Stats: h, Deliveries: h, Blobs: h.blobs,
		Throttle: auth.NewThrottle(h.clock), Log: log, Env: views.Env{Host: "rack-1"}, Version: "0.0.0", PublicURL: base, Now: h.clock,
	}))
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, s.Shutdown(ctx))
		require.NoError(t, <-served)
	})
	return base
}

func (h *house) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

// change alters the house and wakes everybody who follows it.
func (h *house) change(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	for x := range h.followers {
		select {
		case x.wake <- struct{}{}:
		default:
		}
	}
}

func (h *house) subscribe() (<-chan struct{}, func()) {
	x := &follower{make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.followers[x] = true
	return x.wake, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.followers, x)
	}
}

// subscriptions are those that hold now.
func (h *house) subscriptions() (list []*follower) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Keys(h.followers))
}

func (h *house) follow(id string) Feed {
	wake, end := h.subscribe()
	return Feed{Wake: wake, Close: end, Latest: func() (jobs.Update, bool) {
		h.mu.Lock()
		defer h.mu.Unlock()
		u, ok := h.updates[id]
		return u, ok
	}}
}

func (h *house) did(format string, args ...any) {
	h.done = append(h.done, fmt.Sprintf(format, args...))
}

func (h *house) acts() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.done)
}

// add puts a job on top of the list and answers it.
func (h *house) add(j models.Job) models.Job {
	j.Seq = int64(len(h.jobs) + 1)
	j.ID = cmp.Or(j.ID, fmt.Sprintf("%08x-0000-4000-8000-%012x", 0xe2d90c41+uint32(len(h.jobs))*0x9e3779b9, len(h.jobs)))
	j.TenantID = cmp.Or(j.TenantID, "t-default")
	j.Origin = cmp.Or(j.Origin, models.OriginAPI)
	j.State = cmp.Or(j.State, models.JobQueued)
	if j.State == models.JobQueued {
		j.Phase = cmp.Or(j.Phase, models.PhaseWaiting)
	}
	if j.CreatedAt.IsZero() {
		j.CreatedAt = h.now.Add(-time.Minute)
	}
	h.jobs = slices.Insert(h.jobs, 0, j)
	return j
}

func (h *house) find(id string) (*models.Job, error) {
	for i := range h.jobs {
		if h.jobs[i].ID == id {
			return &h.jobs[i], nil
		}
	}
	return nil, models.ErrNotFound("job")
}

// Jobs

func (h *house) Submit(ctx context.Context, sub jobs.Submission) (jobs.Accepted, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.submitted = append(h.submitted, sub)
	if h.refuse != nil {
		return jobs.Accepted{}, h.refuse
	}
	slug, _, _ := strings.Cut(sub.WorkflowID, "@")
	j := h.add(models.Job{TenantID: sub.TenantID, Origin: sub.Origin, WorkflowSlug: slug, WorkflowVersion: 1, CreatedAt: h.now})
	h.payloads[j.ID] = models.JobPayload{JobID: j.ID, Graph: sub.Workflow}
	return jobs.Accepted{Job: j}, nil
}

func (h *house) Job(ctx context.Context, tenantID, id string) (jobs.View, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	j, err := h.find(id)
	if err != nil {
		return jobs.View{}, err
	}
	v := jobs.View{Job: *j}
	if j.State == models.JobQueued {
		v.QueuePosition = 1
	}
	return v, nil
}

func (h *house) matches(j models.Job, f models.JobFilter) bool {
	return (f.TenantID == "" || j.TenantID == f.TenantID) &&
		(len(f.States) == 0 || slices.Contains(f.States, j.State)) &&
		(f.WorkflowSlug == "" || j.WorkflowSlug == f.WorkflowSlug) &&
		(f.Worker == "" || j.Worker == f.Worker) &&
		(f.ErrorCode == "" || j.ErrorCode == f.ErrorCode) &&
		strings.HasPrefix(j.ID, f.IDPrefix) &&
		(f.CreatedAfter == nil || j.CreatedAt.After(*f.CreatedAfter)) &&
		(f.CreatedBefore == nil || j.CreatedAt.Before(*f.CreatedBefore))
}

func (h *house) Jobs(ctx context.Context, f models.JobFilter, p models.Page) (models.JobPage, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var page models.JobPage
	for _, j := range h.jobs {
		if !h.matches(j, f) || p.Before > 0 && j.Seq >= p.Before || p.After > 0 && j.Seq <= p.After {
			continue
		}
		if len(page.Jobs) == p.Limit {
			page.Next = page.Jobs[p.Limit-1].Seq
			break
		}
		page.Jobs = append(page.Jobs, j)
	}
	return page, nil
}

func (h *house) Counts(ctx context.Context, f models.JobFilter) (map[models.JobState]int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	counts := map[models.JobState]int{}
	for _, j := range h.jobs {
		if h.matches(j, f) {
			counts[j.State]++
		}
	}
	return counts, nil
}

func (h *house) Cancel(ctx context.Context, tenantID, id, by string) (models.Job, bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	j, err := h.find(id)
	if err != nil {
		return models.Job{}, false, err
	}
	if j.State.Final() {
		return *j, false, nil
	}
	j.State, j.FinishedAt, j.Error = models.JobCanceled, &h.now, "Cancelled by user"
	h.did("cancel %s by %s", id, by)
	return *j, true, nil
}

func (h *house) Retry(ctx context.Context, tenantID, id string) (jobs.Accepted, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	j, err := h.find(id)
	if err != nil {
		return jobs.Accepted{}, err
	}
	if !j.State.Final() {
		return jobs.Accepted{}, models.Errorf(models.CodeConflict, "job_not_finished", "only a finished job can run again")
	}
	h.did("retry %s", id)
	return jobs.Accepted{Job: h.add(models.Job{TenantID: j.TenantID, WorkflowSlug: j.WorkflowSlug, WorkflowVersion: j.WorkflowVersion})}, nil
}

func (h *house) SetPriority(ctx context.Context, tenantID, id string, priority int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	j, err := h.find(id)
	if err != nil {
		return err
	}
	j.Priority = priority
	h.did("priority %s %d", id, priority)
	return nil
}

func (h *house) Outputs(ctx context.Context, tenantID, id string) ([]models.Output, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.outputs[id], nil
}

func (h *house) OpenOutput(ctx context.Context, tenantID, id string) (models.Output, io.ReadSeekCloser, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, list := range h.outputs {
		for _, o := range list {
			if o.ID == id {
				r, err := h.OpenContent(ctx, o)
				return o, r, err
			}
		}
	}
	return models.Output{}, nil, models.ErrNotFound("output")
}

func (h *house) OpenContent(ctx context.Context, o models.Output) (io.ReadSeekCloser, error) {
	r, _, err := h.blobs.Open(ctx, o.ID)
	return r, err
}

func (h *house) OpenMedia(ctx context.Context, tenantID, id string) (models.Asset, io.ReadSeekCloser, error) {
	r, size, err := h.blobs.Open(ctx, id)
	if err != nil {
		return models.Asset{}, nil, err
	}
	return models.Asset{ID: id, Size: size, ContentType: "image/png", SHA256: "00"}, r, nil
}

func (h *house) Payload(ctx context.Context, tenantID, id string) (models.JobPayload, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.payloads[id], nil
}

func (h *house) Attempts(ctx context.Context, tenantID, id string) ([]models.Attempt, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.attempts[id], nil
}

func (h *house) Events(ctx context.Context, tenantID, id string, after int64, limit int) ([]models.Event, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.events[id], nil
}

func (h *house) Paused() jobs.Pauses {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.paused
}

func (h *house) SetPaused(ctx context.Context, p jobs.Pauses) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.paused = p
	h.did("pause %+v", p)
	return nil
}

func (h *house) NodeDefs() *workflows.Defs { return nil }

// Tenants, library, stats, deliveries

func (h *house) Tenants(ctx context.Context) ([]models.Tenant, error) { return h.tenants, nil }

func (h *house) Key(ctx context.Context, id string) (models.APIKey, error) {
	for _, k := range h.keys {
		if k.ID == id {
			return k, nil
		}
	}
	return models.APIKey{}, models.ErrNotFound("key")
}

// houseLibrary is the bundled workflows as version 1 each.
type houseLibrary struct{ h *house }

func (l houseLibrary) Workflows(ctx context.Context, _ string) ([]models.Workflow, error) {
	var list []models.Workflow
	for _, e := range l.h.library {
		list = append(list, models.Workflow{Slug: e.Slug, Title: e.Title, Description: e.Description, Bundled: true})
	}
	return list, nil
}

func (l houseLibrary) Workflow(ctx context.Context, tenantID, slug string) (models.Workflow, error) {
	list, _ := l.Workflows(ctx, tenantID)
	for _, w := range list {
		if w.Slug == slug {
			return w, nil
		}
	}
	return models.Workflow{}, models.ErrNotFound("workflow")
}

func (l houseLibrary) Version(ctx context.Context, slug string, version int) (models.WorkflowVersion, error) {
	for _, e := range l.h.library {
		if e.Slug == slug {
			return models.WorkflowVersion{Slug: slug, Version: 1, Graph: e.Graph, Params: mustJSON(e.Params)}, nil
		}
	}
	return models.WorkflowVersion{}, models.ErrNotFound("workflow")
}

func (l houseLibrary) Alias(ctx context.Context, slug, alias string) (int, error) { return 1, nil }

func (h *house) OldestQueued(ctx context.Context) (time.Time, bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var oldest time.Time
	for _, j := range h.jobs {
		if j.State == models.JobQueued && (oldest.IsZero() || j.CreatedAt.Before(oldest)) {
			oldest = j.CreatedAt
		}
	}
	return oldest, !oldest.IsZero(), nil
}

func (h *house) RecentDurations(ctx context.Context, slug string, n int) ([]int64, error) {
	return []int64{18_000, 19_000, 21_000}, nil
}

func (h *house) DayStats(ctx context.Context, now time.Time) (models.DayStats, error) {
	return h.day, nil
}

func (h *house) DeliveriesOf(ctx context.Context, jobID string) ([]models.Delivery, error) {
	var list []models.Delivery
	for _, d := range h.deliveries {
		if d.JobID == jobID {
			list = append(list, d)
		}
	}
	return list, nil
}

func (h *house) Delivery(ctx context.Context, id string) (models.Delivery, error) {
	for _, d := range h.deliveries {
		if d.ID == id {
			return d, nil
		}
	}
	return models.Delivery{}, models.ErrNotFound("delivery")
}

func (h *house) DeliveryAttempts(ctx context.Context, id string) ([]models.DeliveryAttempt, error) {
	return h.tries[id], nil
}

func (h *house) Redeliver(ctx context.Context, id string, at time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.did("redeliver %s", id)
	return nil
}
