package jobs

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"comfyfleet/models"
)

// saveEvery bounds how often the progress of running jobs is written: once a second for all of them together.
const saveEvery = time.Second

// progressSaver writes the newest progress of running jobs to the store, so that it survives the server.
type progressSaver struct {
	store interface {
		SaveProgress(ctx context.Context, updates []models.ProgressUpdate) error
	}
	mu    sync.Mutex
	dirty map[string]models.ProgressUpdate
}

func (p *progressSaver) note(u models.ProgressUpdate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dirty == nil {
		p.dirty = map[string]models.ProgressUpdate{}
	}
	p.dirty[u.JobID] = u
}

// takeOne takes out what is not written yet of a job whose attempt has ended; nil when there is nothing.
func (p *progressSaver) takeOne(jobID string) []models.ProgressUpdate {
	p.mu.Lock()
	defer p.mu.Unlock()
	u, ok := p.dirty[jobID]
	if !ok {
		return nil
	}
	delete(p.dirty, jobID)
	return []models.ProgressUpdate{u}
}

func (p *progressSaver) take() []models.ProgressUpdate {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]models.ProgressUpdate, 0, len(p.dirty))
	for _, u := range p.dirty {
		out = append(out, u)
	}
	clear(p.dirty)
	return out
}

func (p *progressSaver) save(ctx context.Context, updates []models.ProgressUpdate) error {
	ctx, cancel := context.WithTimeout(ctx, writeLimit)
	defer cancel()
	return p.store.SaveProgress(ctx, updates)
}

// run saves until ctx ends.
func (p *progressSaver) run(ctx context.Context, log *slog.Logger) error {
	ticker := time.NewTicker(saveEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		updates := p.take()
		if len(updates) == 0 {
			continue
		}
		// What was taken out is written also when the server is told to stop meanwhile: nobody else has it.
		if err := p.save(context.WithoutCancel(ctx), updates); err != nil {
			log.Error("save progress", "error", err)
		}
	}
}
