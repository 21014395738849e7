package jobs

import (
	"comfyfleet/gpu"
	"comfyfleet/models"
	"comfyfleet/workflows"
)

// offer asks the planner about a job that is about to be accepted: when nothing waits and a worker would take it now, its
// acceptance can claim it too, which spares a commit and a look at the queue. The attempt holds its place until begin or
// decline; nil when the job has to wait for the dispatcher.
func (s *Service) offer(job models.Job, tenant models.Tenant) *models.Attempt {
	if !s.backlog.empty() || tenant.MaxRunning > 0 {
		return nil // what a tenant has in the fleet is for the queue to say
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
			return &a
		}
	}
	return nil
}

// begin runs the attempt of an offer whose job has been accepted.
func (s *Service) begin(job models.Job, a models.Attempt, payload models.JobPayload, graph *workflows.Graph) {
	s.claimed(job.ID)
	go func() {
		defer s.running.Done()
		read := source{payload: payload, graph: graph}
		if graph == nil {
			read = parsed(payload)
		}
		s.follow(s.life, job, a, read, false)
	}()
}

// decline gives the place of an offer back, nil for none.
func (s *Service) decline(a *models.Attempt) {
	if a == nil {
		return
	}
	s.release(*a)
	s.running.Done()
}
