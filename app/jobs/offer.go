package jobs

import (
	"comfyfleet/gpu"
	"comfyfleet/models"
	"comfyfleet/workflows"
)

// offer asks the planner about a job that is about to be accepted: when nothing waits and a worker would take it now, its
// acceptance can claim it too, which spares a commit and a look at the queue. The attempt holds its place until it has
// run; nil when the job has to wait for the dispatcher.
func (s *Service) offer(job models.Job, tenant models.Tenant) *models.Attempt {
	if !s.backlog.empty() || tenant.MaxRunning > 0 || tenant.SuspendedAt != nil {
		return nil // what a tenant has in the fleet is for the queue to say, which leaves out the suspended ones
	}
	s.planning.Lock()
	defer s.planning.Unlock()
	if !s.backlog.empty() || s.anyStaged() {
		return nil // so is which of two jobs goes first
	}
	j := models.QueuedJob{ID: job.ID, TenantID: job.TenantID, Priority: job.Priority, At: job.CreatedAt, WorkflowSlug: job.WorkflowSlug}
	view := models.QueueView{
		Jobs:    []models.QueuedJob{j},
		Tenants: map[string]models.TenantLoad{job.TenantID: {Weight: max(1, tenant.Weight)}},
	}
	for _, p := range gpu.Plan(s.planInput(s.Fleet.Workers(), view)).Place {
		if a, ok := s.take(p, j, tenant.Weight); ok {
			a.Number = 1 // the job is new
			return &a
		}
	}
	return nil
}

// begin prepares the attempt of an offer, nil for none, while its job is being accepted, and runs it when that is
// committed.
func (s *Service) begin(job models.Job, a *models.Attempt, payload models.JobPayload, graph *workflows.Graph) *commit {
	if a == nil {
		return nil
	}
	c := &commit{done: make(chan struct{})}
	go func() {
		defer s.running.Done()
		read := source{payload: payload, graph: graph}
		if graph == nil {
			read = parsed(payload)
		}
		s.follow(s.life, job, *a, read, c, false)
	}()
	return c
}

// commit is an acceptance under way. Nil is one that is over.
type commit struct {
	done chan struct{}
	err  error // valid once done
}

// end says what became of it.
func (c *commit) end(err error) {
	if c != nil {
		c.err = err
		close(c.done)
	}
}

// wait returns when it has ended, with an error when there is no such job. The writer bounds the wait.
func (c *commit) wait() error {
	if c == nil {
		return nil
	}
	<-c.done
	return c.err
}
