package jobs

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"comfyfleet/models"
)

const (
	// showEvery bounds how often percentages are written, and so how late readers see one rise: ten times a second for
	// all jobs together. A prompt that is younger has no commit of its own for it; its end is written soon enough.
	showEvery = 100 * time.Millisecond
	// saveEvery is the same for what else progress holds, which is shown at once and is only a hint after a crash.
	saveEvery = time.Second
)

// progressSaver writes the newest progress of running jobs to the store, so that it survives the server. A percentage
// must never fall under the eyes of a reader, also when the server is killed in between: it is shown when it is stored,
// and not before.
type progressSaver struct {
	store interface {
		SaveProgress(ctx context.Context, updates []models.ProgressUpdate) (stored []string, err error)
	}
	// show is told what percentage of a job is stored.
	show func(jobID string, percent int)

	mu       sync.Mutex
	attempts map[string]*attemptProgress // that run here, by attempt
}

// attemptProgress is the newest progress of one attempt and what is stored of it.
type attemptProgress struct {
	newest  models.ProgressUpdate
	unsaved bool
	percent int       // stored
	first   time.Time // when it was first told
	savedAt time.Time
}

// due reports whether newest is to be written now.
func (a *attemptProgress) due(now time.Time) bool {
	if !a.unsaved {
		return false
	}
	if a.newest.Progress.Percent > a.percent {
		return now.Sub(a.first) >= showEvery
	}
	return now.Sub(a.savedAt) >= saveEvery
}

// note takes an attempt's newest progress.
func (p *progressSaver) note(u models.ProgressUpdate) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.attempts[u.AttemptID]
	if a == nil {
		a = &attemptProgress{first: now, savedAt: now}
		p.attempts[u.AttemptID] = a
	}
	a.newest, a.unsaved = u, true
}

// end forgets an attempt that tells no more, and answers what is not written yet of it; nil when there is nothing.
func (p *progressSaver) end(attemptID string) []models.ProgressUpdate {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.attempts[attemptID]
	delete(p.attempts, attemptID)
	if a == nil || !a.unsaved {
		return nil
	}
	return []models.ProgressUpdate{a.newest}
}

func (p *progressSaver) due() (updates []models.ProgressUpdate) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.attempts {
		if a.due(now) {
			updates = append(updates, a.newest)
		}
	}
	return updates
}

// save writes updates and shows what is written. What was not, because the start of its attempt is not stored yet, stays
// unsaved and is written the next time.
func (p *progressSaver) save(ctx context.Context, updates []models.ProgressUpdate) error {
	ctx, cancel := context.WithTimeout(ctx, writeLimit)
	defer cancel()
	stored, err := p.store.SaveProgress(ctx, updates)
	if err != nil {
		return err
	}
	for _, u := range updates {
		if slices.Contains(stored, u.AttemptID) {
			p.saved(u)
			p.show(u.JobID, u.Progress.Percent)
		}
	}
	return nil
}

func (p *progressSaver) saved(u models.ProgressUpdate) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.attempts[u.AttemptID]; a != nil {
		a.percent, a.savedAt = u.Progress.Percent, now
		a.unsaved = a.newest != u
	}
}

// run saves until ctx ends.
func (p *progressSaver) run(ctx context.Context, log *slog.Logger) error {
	ticker := time.NewTicker(showEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		updates := p.due()
		if len(updates) == 0 {
			continue
		}
		if err := p.save(context.WithoutCancel(ctx), updates); err != nil {
			log.Error("save progress", "error", err)
			ticker.Reset(saveEvery) // a store in trouble is not asked ten times a second
			continue
		}
		ticker.Reset(showEvery)
	}
}
