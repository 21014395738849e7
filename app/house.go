package main

import (
	"context"
	"sync"
	"time"

	"comfyfleet/gpu"
	"comfyfleet/models"
	"comfyfleet/models/store"
)

// statsLife is how long the day's figures are shown before they are computed again: many open dashboards ask at once.
const statsLife = 10 * time.Second

// house are the figures of the dashboard's overview: the store's, seen with the number of cards.
type house struct {
	*store.Store
	fleet *gpu.Manager

	mu   sync.Mutex
	day  models.DayStats
	read time.Time
}

// DayStats are the figures of the 24 hours before now, at most statsLife old.
func (h *house) DayStats(ctx context.Context, now time.Time) (models.DayStats, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Sub(h.read) < statsLife {
		return h.day, nil
	}
	day, err := h.Store.DayStats(ctx, now, len(h.fleet.Workers()))
	if err != nil {
		return models.DayStats{}, err
	}
	h.day, h.read = day, now
	return day, nil
}
