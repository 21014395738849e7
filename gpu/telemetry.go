package gpu

import (
	"context"
	"sync"
	"time"

	"comfyfleet/models"
)

const (
	readEvery  = time.Second
	fineKept   = 10 * time.Minute
	coarseStep = time.Minute
	coarseKept = 24 * time.Hour
)

// thermometer reads the cards of managed workers: each second for ten minutes, each minute for a day.
type thermometer struct {
	cfg   Config
	mu    sync.Mutex
	cards map[string]*readings // by worker; fixed once Run has begun
}

type readings struct {
	uuid         string
	fine, coarse []models.Telemetry
	failed       bool
}

func newThermometer(cfg Config) *thermometer {
	return &thermometer{cfg: cfg, cards: map[string]*readings{}}
}

func (t *thermometer) add(worker, uuid string) { t.cards[worker] = &readings{uuid: uuid} }

func (t *thermometer) run(ctx context.Context) {
	if len(t.cards) == 0 {
		return
	}
	tick := time.NewTicker(readEvery)
	defer tick.Stop()
	for {
		for worker, r := range t.cards {
			t.read(worker, r)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// read takes one reading. A driver that hangs must not hold those who look at older readings.
func (t *thermometer) read(worker string, r *readings) {
	v, err := t.cfg.Cards.Read(r.uuid)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		if !r.failed {
			t.cfg.Log.Warn("read a card", "worker", worker, "error", err)
		}
		r.failed = true
		return
	}
	r.failed = false
	r.fine = keep(append(r.fine, v), v.At.Add(-fineKept))
	if n := len(r.coarse); n == 0 || v.At.Sub(r.coarse[n-1].At) >= coarseStep {
		r.coarse = keep(append(r.coarse, v), v.At.Add(-coarseKept))
	}
}

// keep drops what is older than t from the front.
func keep(list []models.Telemetry, t time.Time) []models.Telemetry {
	for len(list) > 0 && list[0].At.Before(t) {
		list = list[1:]
	}
	return list
}

func (t *thermometer) newest(worker string) *models.Telemetry {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.cards[worker]
	if r == nil || len(r.fine) == 0 || r.failed {
		return nil
	}
	v := r.fine[len(r.fine)-1]
	return &v
}

func (t *thermometer) since(worker string, since time.Time) []models.Telemetry {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.cards[worker]
	if r == nil {
		return nil
	}
	var out []models.Telemetry
	for _, v := range r.coarse {
		if !v.At.Before(since) && (len(r.fine) == 0 || v.At.Before(r.fine[0].At)) {
			out = append(out, v)
		}
	}
	for _, v := range r.fine {
		if !v.At.Before(since) {
			out = append(out, v)
		}
	}
	return out
}
