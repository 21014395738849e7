package jobs

import (
	"context"
	"slices"
	"sync"
)

const (
	// unmeasuredSeconds is the guide's estimate before anything was measured.
	unmeasuredSeconds = 30
	// estimateSamples is how many recent jobs of a workflow its estimate looks at.
	estimateSamples = 20
)

// estimator remembers how long recent jobs took on their worker, per workflow ("" for all together), in milliseconds.
type estimator struct {
	mu     sync.Mutex
	recent map[string][]int64
	// waiting and workers are as of the last plan.
	waiting, workers int
}

func (e *estimator) add(slug string, ms int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.recent == nil {
		e.recent = map[string][]int64{}
	}
	keys := []string{""}
	if slug != "" {
		keys = append(keys, slug)
	}
	for _, k := range keys {
		r := append(e.recent[k], ms)
		if len(r) > estimateSamples {
			r = r[1:]
		}
		e.recent[k] = r
	}
}

func (e *estimator) queue(waiting, workers int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.waiting, e.workers = waiting, workers
}

// seconds is until a job accepted now is done: the median of its workflow, times the rounds before it.
func (e *estimator) seconds(slug string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	own, all := median(e.recent[slug]), median(e.recent[""])
	if own == 0 {
		own = all
	}
	if own == 0 {
		return unmeasuredSeconds
	}
	rounds := int64(e.waiting / max(1, e.workers))
	return int(max(1, (own+rounds*all+999)/1000))
}

func median(ms []int64) int64 {
	if len(ms) == 0 {
		return 0
	}
	s := slices.Clone(ms)
	slices.Sort(s)
	return s[len(s)/2]
}

func (s *Service) estimate(slug string) int { return s.estimator.seconds(slug) }

// measureHistory primes the estimates from finished jobs.
func (s *Service) measureHistory(ctx context.Context) error {
	recent, err := s.Store.RecentDurations(ctx, "", estimateSamples)
	if err != nil {
		return err
	}
	for _, ms := range slices.Backward(recent) {
		s.estimator.add("", ms)
	}
	return nil
}
