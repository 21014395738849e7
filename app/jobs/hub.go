package jobs

import (
	"sync"
	"time"

	"comfyfleet/models"
)

// digestEvery bounds how often followers of all jobs are woken.
const digestEvery = 250 * time.Millisecond

// hub keeps the newest update of every job that runs here or is followed, and wakes followers. It never blocks: a
// follower that does not read misses intermediate updates, not the newest one.
type hub struct {
	now func() time.Time

	mu     sync.Mutex
	topics map[string]*topic

	all       map[*Follower]chan struct{}
	digest    *time.Timer
	digestDue bool
}

type topic struct {
	update    Update
	attemptID string
	known     bool // an update was published, so Latest has something to say
	running   bool // an attempt of the job runs here
	followers map[*Follower]chan struct{}
}

func newHub(now func() time.Time) *hub {
	return &hub{now: now, topics: map[string]*topic{}, all: map[*Follower]chan struct{}{}}
}

// progress notes how far a running job is, all but the percentage: that waits for show. Engines say each step twice;
// followers are woken for what they can see.
func (h *hub) progress(jobID string, p models.Progress, phase models.Phase) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.topics[jobID]
	if t == nil || t.update.State.Final() || p.Percent < t.update.Progress.Percent {
		return
	}
	old := t.update.Progress
	old.LastEventAt = p.LastEventAt
	p.Percent = old.Percent
	seen := t.known && old == p && t.update.Phase == phase
	t.update.Progress, t.update.Phase = p, phase
	if !seen {
		h.wake(jobID, t)
	}
}

// show raises the percentage of a running job to one that is stored.
func (h *hub) show(jobID string, percent int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.topics[jobID]
	if t == nil || t.update.State.Final() || percent <= t.update.Progress.Percent {
		return
	}
	t.update.Progress.Percent = percent
	h.wake(jobID, t)
}

// publish changes a job's newest update and wakes its followers.
func (h *hub) publish(jobID string, change func(u *Update)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.topics[jobID]
	if t == nil {
		h.wakeAll()
		return // nobody follows it and nothing runs: the store knows all there is to know
	}
	change(&t.update)
	h.wake(jobID, t)
}

// wake tells the followers of a topic, and those of all jobs, that it has changed.
func (h *hub) wake(jobID string, t *topic) {
	h.wakeAll()
	t.known = true
	t.update.Version++
	t.update.At = h.now()
	for f, wake := range t.followers {
		if !f.endOnly || t.update.State.Final() {
			signal(wake)
		}
	}
	h.drop(jobID, t)
}

// begin marks that an attempt of the job runs here, so that its progress is kept in memory.
func (h *hub) begin(job models.Job, attemptID string) {
	h.mu.Lock()
	t := h.topic(job.ID)
	t.running = true
	t.attemptID = attemptID
	h.mu.Unlock()
	h.publishJob(job)
}

// end marks that no attempt of the job runs here any more.
func (h *hub) end(jobID, attemptID string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.topics[jobID]; t != nil && t.attemptID == attemptID {
		t.running = false
		h.drop(jobID, t)
	}
}

// publishJob publishes what the store has just committed.
func (h *hub) publishJob(job models.Job) {
	h.publish(job.ID, func(u *Update) { u.become(job) })
}

// publishEnd publishes a final state that the store has just committed, with the outputs.
func (h *hub) publishEnd(job models.Job, outputs []models.Output) {
	h.publish(job.ID, func(u *Update) {
		u.become(job)
		u.Ended = &View{Job: job, Outputs: outputs}
	})
}

// become takes over what a commit stored, unless a newer one was published first.
func (u *Update) become(job models.Job) {
	if u.Revision > job.Revision {
		return
	}
	u.Revision = job.Revision
	u.State = job.State
	u.Phase = job.Phase
	if job.Progress.Percent >= u.Progress.Percent {
		u.Progress = job.Progress
	}
}

// latest is the newest update of a job that is kept in memory.
func (h *hub) latest(jobID string) (Update, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.topics[jobID]
	if t == nil || !t.known {
		return Update{}, false
	}
	return t.update, true
}

// live overlays the progress of a running job with what the hub knows.
func (h *hub) live(job *models.Job) {
	u, ok := h.latest(job.ID)
	if !ok || job.State.Final() || u.State != job.State || u.Progress.Percent < job.Progress.Percent {
		return
	}
	job.Progress = u.Progress
	job.Phase = u.Phase
}

func (h *hub) follow(jobID string, endOnly bool) *Follower {
	wake := make(chan struct{}, 1)
	f := &Follower{Wake: wake, hub: h, jobID: jobID, endOnly: endOnly}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.topic(jobID).followers[f] = wake
	return f
}

func (h *hub) followAll() *Follower {
	wake := make(chan struct{}, 1)
	f := &Follower{Wake: wake, hub: h}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all[f] = wake
	return f
}

func (h *hub) unfollow(f *Follower) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.all, f)
	if t := h.topics[f.jobID]; t != nil {
		delete(t.followers, f)
		h.drop(f.jobID, t)
	}
}

func (h *hub) topic(jobID string) *topic {
	t := h.topics[jobID]
	if t == nil {
		t = &topic{followers: map[*Follower]chan struct{}{}}
		h.topics[jobID] = t
	}
	return t
}

// drop forgets a topic that nothing needs.
func (h *hub) drop(jobID string, t *topic) {
	if !t.running && len(t.followers) == 0 {
		delete(h.topics, jobID)
	}
}

// wakeAll wakes the followers of all jobs, now or when the digest interval is over.
func (h *hub) wakeAll() {
	if len(h.all) == 0 || h.digestDue {
		return
	}
	h.digestDue = true
	h.digest = time.AfterFunc(digestEvery, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.digestDue = false
		for _, wake := range h.all {
			signal(wake)
		}
	})
}

func signal(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// Follower is woken when there is something new. Wake holds one token: many changes may be one wake.
type Follower struct {
	Wake <-chan struct{}

	hub     *hub
	jobID   string
	endOnly bool
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
	// Ended is the job with its outputs, when it ended here. It is shared: nobody changes it.
	Ended *View
}

// Latest is the newest update; ok is false when nothing is known in memory (the job does not run here).
func (f *Follower) Latest() (u Update, ok bool) { return f.hub.latest(f.jobID) }

// Close ends the subscription. It may be called twice.
func (f *Follower) Close() { f.hub.unfollow(f) }
