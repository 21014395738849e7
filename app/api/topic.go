package api

import (
	"context"
	"fmt"
	"sync"
	"time"

	"comfyfleet/app/jobs"
	"comfyfleet/models"
)

const (
	// defaultFollowers is how many streams one tenant may have open.
	defaultFollowers = 2500
	// replayLimit is how many stored events one look-up takes. A job has a few for each attempt.
	replayLimit = 1000
)

// topics are the jobs that somebody follows here.
type topics struct {
	api *api
	max int

	mu       sync.Mutex
	byJob    map[string]*topic
	byTenant map[string]int // followers
}

func newTopics(a *api, most int) *topics {
	if most <= 0 {
		most = defaultFollowers
	}
	return &topics{api: a, max: most, byJob: map[string]*topic{}, byTenant: map[string]int{}}
}

// room answers CodeLimited when the tenant has all the streams that it may have.
func (ts *topics) room(tenantID string) error {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return ts.roomLocked(tenantID)
}

func (ts *topics) roomLocked(tenantID string) error {
	if ts.byTenant[tenantID] < ts.max {
		return nil
	}
	e := models.Errorf(models.CodeLimited, "followers_limit", "%d streams are open; close some, or ask for the job's status instead", ts.max)
	e.RetryAfter = 10
	return e
}

// join adds a follower of a job. base is what links in its messages begin with.
func (ts *topics) join(tenantID, jobID, base string) (t *topic, leave func(), err error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if err := ts.roomLocked(tenantID); err != nil {
		return nil, nil, err
	}
	key := jobID + "\n" + base
	if t = ts.byJob[key]; t == nil {
		t = &topic{api: ts.api, tenantID: tenantID, jobID: jobID, base: base}
		ts.byJob[key] = t
	}
	t.followers++
	ts.byTenant[tenantID]++
	return t, sync.OnceFunc(func() {
		ts.mu.Lock()
		defer ts.mu.Unlock()
		if ts.byTenant[tenantID]--; ts.byTenant[tenantID] == 0 {
			delete(ts.byTenant, tenantID)
		}
		if t.followers--; t.followers == 0 {
			delete(ts.byJob, key)
		}
	}), nil
}

// topic is what all followers of a job share: the newest of it, read once and rendered once.
type topic struct {
	api                   *api
	tenantID, jobID, base string
	followers             int // guarded by topics.mu

	mu     sync.Mutex
	readAt time.Time
	view   jobs.View
	// steps are the stored events after base revision from, as messages; rev is the newest.
	steps []*message
	from  int64
	rev   int64
	// final is set with the last step: what comes before it.
	final   bool
	closing []*message

	progress        *message
	progressVersion uint64
	preview         *message
	previewVersion  uint64
}

// refresh reads the job again when update says that there is more, or when it was not looked at for a while: another
// process may have changed it.
func (t *topic) refresh(ctx context.Context, u jobs.Update, known bool) error {
	now := t.api.Now()
	if t.final || !t.readAt.IsZero() && (!known || u.Revision <= t.rev) && now.Sub(t.readAt) < recheckEvery {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	first := t.readAt.IsZero()
	if first {
		v, err := t.api.Jobs.Job(ctx, t.tenantID, t.jobID)
		if err != nil {
			return err
		}
		t.view, t.rev, t.from = v, v.Revision, v.Revision
		if !v.State.Final() {
			t.readAt = now
			return nil
		}
		// The last step says how it ended, and ends the stream.
		t.rev, t.from = v.Revision-1, v.Revision-1
	}
	if err := t.readSteps(ctx); err != nil {
		return err
	}
	t.readAt = now
	return nil
}

// readSteps appends the stored events after rev. The job is read after them, so it is at least as new as they are.
func (t *topic) readSteps(ctx context.Context) error {
	events, err := t.api.Jobs.Events(ctx, t.tenantID, t.jobID, t.rev, replayLimit)
	if err != nil {
		return err
	}
	v, err := t.api.Jobs.Job(ctx, t.tenantID, t.jobID)
	if err != nil {
		return err
	}
	t.view = v
	for _, e := range events {
		m, err := statusMessage(e, v)
		if err != nil {
			return err
		}
		if e.State.Final() {
			if t.closing, err = t.closingMessages(ctx); err != nil {
				return err
			}
			t.final = true
		}
		t.steps = append(t.steps, m)
		t.rev = e.Rev
	}
	return nil
}

// closingMessages are what a job leaves: its outputs, or its log when it failed.
func (t *topic) closingMessages(ctx context.Context) (out []*message, err error) {
	outputs, err := t.outputs(ctx)
	if err != nil {
		return nil, err
	}
	for _, o := range outputs {
		m, err := newMessage(eventOutput, 0, o)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	if tail := lines(t.view.LogTail); len(tail) > 0 {
		m, err := newMessage(eventLog, 0, logData{t.jobID, tail})
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

func (t *topic) outputs(ctx context.Context) ([]output, error) {
	out := []output{}
	if t.view.State != models.JobSucceeded {
		return out, nil
	}
	stored, err := t.api.Jobs.Outputs(ctx, t.tenantID, t.jobID)
	if err != nil {
		return nil, err
	}
	for _, o := range stored {
		out = append(out, outputOf(o, t.base+t.api.Signer.Path(o.ID)))
	}
	return out, nil
}

// since are the steps after rev.
func (t *topic) since(ctx context.Context, rev int64) ([]*message, error) {
	if err := t.readBack(ctx, rev); err != nil {
		return nil, err
	}
	for i, m := range t.steps {
		if m.rev > rev {
			return t.steps[i:], nil
		}
	}
	return nil, nil
}

// readBack reads the steps after rev that were stored before the topic began, for the first follower who asks.
func (t *topic) readBack(ctx context.Context, rev int64) error {
	if rev >= t.from {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	var older []*message
	for at := rev; at < t.from; {
		events, err := t.api.Jobs.Events(ctx, t.tenantID, t.jobID, at, replayLimit)
		if err != nil {
			return err
		}
		if len(events) == 0 {
			break // the job's history was cut
		}
		for _, e := range events {
			if at = e.Rev; at > t.from {
				break
			}
			m, err := statusMessage(e, t.view)
			if err != nil {
				return err
			}
			older = append(older, m)
		}
	}
	t.steps, t.from = append(older, t.steps...), rev
	return nil
}

// snapshot is the whole job as it is now. resumed leaves its revision out: the client resumes after the steps that follow.
func (t *topic) snapshot(ctx context.Context, u jobs.Update, known, resumed bool) (*message, error) {
	v := t.view
	if known && u.State == v.State && !v.State.Final() && u.Progress.Percent >= v.Progress.Percent {
		v.Progress, v.Phase = u.Progress, u.Phase
	}
	outputs, err := t.outputs(ctx)
	if err != nil {
		return nil, fmt.Errorf("snapshot of job %s: %w", t.jobID, err)
	}
	rev := t.rev
	if resumed || t.final {
		rev = 0
	}
	return newMessage(eventSnapshot, rev, snapshotData{status: statusOf(v), Revision: t.view.Revision, Outputs: outputs})
}

// latest are the messages of progress and preview, rendered when a new update came.
func (t *topic) latest(u jobs.Update) (progress, preview *message, err error) {
	u.Progress.Percent = max(u.Progress.Percent, t.view.Progress.Percent) // the store knows of a rise a moment earlier
	if t.progress == nil || t.progressVersion != u.Version {
		m, err := newMessage(eventProgress, 0, progressData{t.jobID, progressOf(u.State, u.Phase, u.Progress, t.view.PromptID)})
		if err != nil {
			return nil, nil, err
		}
		t.progress, t.progressVersion = m, u.Version
	}
	if len(u.Preview) > 0 && (t.preview == nil || t.previewVersion != u.PreviewVersion) {
		m, err := newMessage(eventPreview, 0, previewData{t.jobID, orNull(u.PreviewNode), u.PreviewType, u.Preview})
		if err != nil {
			return nil, nil, err
		}
		t.preview, t.previewVersion = m, u.PreviewVersion
	}
	return t.progress, t.preview, nil
}
