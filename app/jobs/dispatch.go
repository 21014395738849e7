package jobs

import (
	"context"
	"slices"
	"time"

	"comfyfleet/gpu"
	"comfyfleet/models"
)

const (
	// planEvery re-plans without a reason, so that a lost wake-up delays and never stops the queue; idle workers are
	// also released by it.
	planEvery = 2 * time.Second
	// perTenantWindow is how many jobs of each tenant a plan looks at beyond what the fleet could take.
	perTenantWindow = 16
	// arrivalGap is the least time between plans for jobs that arrive behind others that could not be placed: they can
	// hardly be either until a place is free, which wakes the dispatcher at once. A burst would plan for each.
	arrivalGap = 10 * time.Millisecond
)

// held is an attempt of this server on a worker. From Plan until Execute returns it fills one of the worker's two
// places: executing or staged.
type held struct {
	attemptID string
	job       models.QueuedJob
	canceled  bool // its job was ended by somebody else
}

// Wake asks for a new plan, with a look at the queue.
func (s *Service) Wake() {
	s.backlog.grow()
	signal(s.wake)
}

// queued says that a job was accepted and waits.
func (s *Service) queued() {
	s.backlog.grow()
	signal(s.arrived)
}

// dispatch plans whenever something changed, until ctx ends.
func (s *Service) dispatch(ctx context.Context) error {
	changes, cancel := s.Fleet.Changes()
	defer cancel()
	ticker := time.NewTicker(planEvery)
	defer ticker.Stop()
	gap := time.NewTimer(arrivalGap)
	defer gap.Stop()
	look := true
	for {
		behind, err := s.plan(ctx, look)
		if err != nil && ctx.Err() == nil {
			s.Log.Error("plan", "error", err)
		}
		// Where nothing waits, a worker that changes or has a place does not make the queue worth a look.
		look = behind || err != nil
		arrived := s.arrived
		if behind {
			arrived = nil
			gap.Reset(arrivalGap)
		}
		for waiting := true; waiting; {
			waiting = false
			select {
			case <-ctx.Done():
				return nil
			case <-s.wake:
				look = true
			case <-arrived:
				look = true
			case <-ticker.C:
				look = true
			case <-s.freed:
			case <-changes:
			case <-gap.C:
				waiting, arrived = true, s.arrived
			}
		}
	}
}

// plan looks at queue and fleet once and acts; without look it takes the queue for empty. behind says that jobs wait for
// which there was no place.
func (s *Service) plan(ctx context.Context, look bool) (behind bool, err error) {
	workers := s.Fleet.Workers()
	var view models.QueueView
	arrivals := s.backlog.count()
	if look = look || s.anyStaged(); look {
		if view, err = s.Store.Queue(ctx, perTenantWindow+2*len(workers)); err != nil {
			return false, err
		}
	}
	in, decision := s.decide(ctx, workers, view)
	for _, name := range decision.Start {
		s.Fleet.Start(name)
	}
	for _, attemptID := range decision.TakeBack {
		s.Fleet.Stop(attemptID, models.CauseTakenBack)
	}
	if behind = len(in.Waiting) > len(decision.Place); look && !behind {
		s.backlog.placed(arrivals)
	}
	return behind, nil
}

// decide asks the planner, places what it says, and lets idle workers go before an offer takes one of them.
func (s *Service) decide(ctx context.Context, workers []models.Worker, view models.QueueView) (gpu.Input, gpu.Decision) {
	s.planning.Lock()
	defer s.planning.Unlock()
	in := s.planInput(workers, view)
	decision := gpu.Plan(in)
	s.remember(in, decision)
	owners := map[string]models.QueuedJob{}
	for _, j := range view.Jobs {
		owners[j.ID] = j
	}
	for _, p := range decision.Place {
		j := owners[p.JobID]
		s.place(ctx, p, j, view.Tenants[j.TenantID].Weight)
	}
	for _, name := range decision.Stop {
		s.Fleet.Release(name)
	}
	return in, decision
}

// anyStaged reports whether a job is on a worker that executes another: it may be better placed, which is for the queue
// to say.
func (s *Service) anyStaged() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, mine := range s.onWorker {
		if len(mine) > 1 {
			return true
		}
	}
	return false
}

// planInput shows the planner the fleet with this server's own attempts on it, which the workers' snapshots may not
// show yet.
func (s *Service) planInput(workers []models.Worker, view models.QueueView) gpu.Input {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := gpu.Input{
		Now: s.Now(), Workers: workers, Paused: s.Paused().Dispatch,
		MinReady: s.MinReady, ScaleDownAfter: s.ScaleDownAfter,
		Groups: map[string]gpu.Load{},
	}
	for i := range workers {
		w := &workers[i]
		mine := s.onWorker[w.Name]
		if len(mine) > 1 && w.Executing == mine[1].attemptID {
			mine[0], mine[1] = mine[1], mine[0] // placed together, they came to the engine the other way round
		}
		if len(mine) > 0 {
			w.Executing, w.ExecutingJobID = mine[0].attemptID, mine[0].job.ID
		}
		if len(mine) > 1 {
			w.Staged, w.StagedJobID = mine[1].attemptID, mine[1].job.ID
			in.Staged = append(in.Staged, waiting(mine[1].job, view))
		}
	}
	for id, t := range view.Tenants {
		in.Groups[id] = gpu.Load{Running: t.Claimed, MaxRunning: t.MaxRunning, Served: s.served[id]}
	}
	placed := map[string]bool{}
	for _, mine := range s.onWorker {
		for _, h := range mine {
			placed[h.job.ID] = true
			if l, ok := in.Groups[h.job.TenantID]; ok && s.claiming[h.job.ID] {
				l.Running++ // the store does not count it yet
				in.Groups[h.job.TenantID] = l
			}
		}
	}
	for _, j := range view.Jobs {
		if placed[j.ID] {
			continue // the claim is not in the view yet
		}
		in.Waiting = append(in.Waiting, waiting(j, view))
	}
	return in
}

// waiting shows a job to the planner: its tenant is an opaque share group there.
func waiting(j models.QueuedJob, view models.QueueView) gpu.Waiting {
	return gpu.Waiting{
		JobID: j.ID, Group: j.TenantID, Weight: view.Tenants[j.TenantID].Weight,
		Priority: j.Priority, Seq: j.Seq, At: j.At, Avoid: j.Avoid,
	}
}

// remember keeps what readers ask for between plans.
func (s *Service) remember(in gpu.Input, d gpu.Decision) {
	up := 0
	for _, w := range in.Workers {
		if w.State.Up() {
			up++
		}
	}
	s.estimator.queue(len(in.Waiting)-len(d.Place), up)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = d.Why
}

// place starts one attempt. It returns at once; the claim is made by the attempt's own goroutine.
func (s *Service) place(ctx context.Context, p gpu.Placement, j models.QueuedJob, weight int) {
	a, ok := s.take(p, j, weight)
	if !ok {
		return
	}
	go func() {
		defer s.running.Done()
		s.attempt(ctx, a)
	}()
}

// take makes the attempt that a placement asks for, and holds its place until it is claimed and has run.
func (s *Service) take(p gpu.Placement, j models.QueuedJob, weight int) (a models.Attempt, ok bool) {
	a = models.Attempt{
		ID: s.NewID(), JobID: p.JobID, TenantID: j.TenantID, Worker: p.Worker,
		State: models.AttemptStaging, PlacedBecause: p.Because, CreatedAt: s.Now(),
	}
	if !s.hold(a, j) {
		return a, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claiming[j.ID] = true
	s.served[j.TenantID] += gpu.Charge(weight)
	return a, true
}

// hold takes a place on the attempt's worker; false when the service is stopping.
func (s *Service) hold(a models.Attempt, j models.QueuedJob) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	s.running.Add(1)
	s.onWorker[a.Worker] = append(s.onWorker[a.Worker], held{attemptID: a.ID, job: j})
	return true
}

// claimed says that the queue does not show the job any more.
func (s *Service) claimed(jobID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.claiming, jobID)
}

// revoke stops the attempt of a job that somebody else has ended. The engine may have it, or the fleet, or it is about to be
// given to the fleet (revoked).
func (s *Service) revoke(job models.Job) {
	if job.PromptID == "" {
		return
	}
	s.mu.Lock()
	for i, h := range s.onWorker[job.Worker] {
		if h.attemptID == job.PromptID {
			s.onWorker[job.Worker][i].canceled = true
		}
	}
	s.mu.Unlock()
	s.Fleet.Stop(job.PromptID, models.CauseCanceled)
}

// revoked reports whether an attempt that holds its place must not be sent any more.
func (s *Service) revoked(a models.Attempt) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.onWorker[a.Worker], func(h held) bool { return h.attemptID == a.ID && h.canceled })
}

// release gives the attempt's place on its worker back.
func (s *Service) release(a models.Attempt) {
	s.mu.Lock()
	mine := s.onWorker[a.Worker]
	for i, h := range mine {
		if h.attemptID == a.ID {
			s.onWorker[a.Worker] = append(mine[:i:i], mine[i+1:]...)
			break
		}
	}
	delete(s.claiming, a.JobID)
	s.mu.Unlock()
	signal(s.freed)
}
