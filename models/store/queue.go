package store

import (
	"context"
	"slices"
	"time"

	"gorm.io/gorm"

	"comfyfleet/models"
)

// positionCap is where counting the jobs ahead in one's own queue stops.
const positionCap = 1000

// waiting is the condition of the partial index that queues are read by. It is spelled out, not bound: only then the
// planner may always use the index.
const waiting = "state = 'queued' AND phase = 'waiting'"

// shareRow is a tenant's part in the queue and the fleet.
type shareRow struct {
	ID          string
	Weight      int
	MaxRunning  int
	SuspendedAt *time.Time
	Queued      int
	Claimed     int
}

// waitingRow is what the planner needs of a waiting job.
type waitingRow struct {
	Seq          int64
	ID           string
	Priority     int
	CreatedAt    time.Time
	WorkflowSlug string
	Revision     int64
}

// Queue reads the head of every tenant's queue, at most perTenant jobs of each in the order they should run, and what
// every tenant with open jobs has in the fleet. The jobs of suspended tenants are left out.
func (s *Store) Queue(ctx context.Context, perTenant int) (models.QueueView, error) {
	var view models.QueueView
	err := s.readTogether(ctx, func(tx *gorm.DB) error {
		view = models.QueueView{Tenants: map[string]models.TenantLoad{}}
		shares, err := sharesOf(tx)
		if err != nil {
			return err
		}
		var again []string // jobs that may have had an attempt
		for _, sh := range shares {
			view.Tenants[sh.ID] = models.TenantLoad{Weight: max(1, sh.Weight), Claimed: sh.Claimed, MaxRunning: sh.MaxRunning}
			if sh.Queued == 0 || sh.SuspendedAt != nil {
				continue
			}
			rows, err := headOf(tx, sh.ID, perTenant)
			if err != nil {
				return err
			}
			for _, r := range rows {
				view.Jobs = append(view.Jobs, models.QueuedJob{ID: r.ID, TenantID: sh.ID, Priority: r.Priority,
					Seq: r.Seq, At: r.CreatedAt, WorkflowSlug: r.WorkflowSlug})
				if r.Revision > 1 { // more happened to it than its acceptance
					again = append(again, r.ID)
				}
			}
		}
		return avoidLost(tx, view.Jobs, again)
	})
	return view, translate(err, "read queue", "job")
}

// QueuePosition is about how many jobs run before this one does, itself included: exact within its tenant up to 1000,
// and between tenants as if the fleet took one of each in turn. A staged job is 1, one that does not wait 0.
func (s *Store) QueuePosition(ctx context.Context, job models.Job) (int, error) {
	switch {
	case job.State != models.JobQueued:
		return 0, nil
	case job.Phase != models.PhaseWaiting:
		return 1, nil
	}
	var ahead int
	err := s.readTogether(ctx, func(tx *gorm.DB) error {
		own := func() *gorm.DB { return tx.Table("jobs").Where(waiting).Where("tenant_id = ?", job.TenantID) }
		higher, err := countUpTo(tx, own().Where("priority > ?", job.Priority), positionCap)
		if err != nil {
			return err
		}
		older, err := countUpTo(tx, own().Where("priority = ? AND seq < ?", job.Priority, job.Seq), positionCap)
		if err != nil {
			return err
		}
		ahead = min(higher+older, positionCap)
		var others int
		err = tx.Raw(`SELECT COALESCE(SUM(CASE WHEN l.queued < ? THEN l.queued ELSE ? END), 0) FROM tenant_load l
			JOIN tenants t ON t.id = l.tenant_id AND t.suspended_at IS NULL WHERE l.tenant_id <> ?`,
			ahead, ahead, job.TenantID).Scan(&others).Error
		ahead += others
		return err
	})
	return ahead + 1, translate(err, "read queue position", "job")
}

// OldestWaiting is when the longest waiting job that has no worker yet was accepted; ok is false when there is none.
func (s *Store) OldestWaiting(ctx context.Context) (at time.Time, ok bool, err error) {
	return s.oldest(ctx, waiting)
}

// OldestQueued is the same of all jobs that do not run yet, also of those that a worker has next.
func (s *Store) OldestQueued(ctx context.Context) (at time.Time, ok bool, err error) {
	return s.oldest(ctx, "state = 'queued'")
}

func (s *Store) oldest(ctx context.Context, condition string) (at time.Time, ok bool, err error) {
	var oldest []time.Time
	err = s.read(ctx).Table("jobs").Where(condition).Order("seq").Limit(1).Pluck("created_at", &oldest).Error
	if err != nil || len(oldest) == 0 {
		return time.Time{}, false, translate(err, "read oldest waiting job", "job")
	}
	return oldest[0], true, nil
}

// SetPriority moves a queued job within its tenant's queue: CodeInvalid outside models.MinPriority to MaxPriority,
// CodeConflict "not_queued" once it runs or has ended. An empty tenantID is an operator.
func (s *Store) SetPriority(ctx context.Context, tenantID, jobID string, priority int) (models.Job, error) {
	if priority < models.MinPriority || priority > models.MaxPriority {
		return models.Job{}, models.FieldErrorf(models.CodeInvalid, "", "priority", "must be from %d to %d",
			models.MinPriority, models.MaxPriority)
	}
	at := stamp(s.now())
	var job models.Job
	err := s.write(ctx, "set priority", "job", func(tx *gorm.DB) error {
		before, err := lockJob(tx, tenantID, jobID)
		if err != nil {
			return err
		}
		job = before
		if job.State != models.JobQueued {
			return models.Errorf(models.CodeConflict, "not_queued", "the job is %s; only a queued job has a priority", job.State)
		}
		if job.Priority == priority {
			return nil
		}
		job.Priority = priority
		moved := step(&job, models.Event{At: at, Kind: models.EventPriority, AttemptID: job.AttemptID})
		return s.record(tx, before, job, moved)
	})
	if err != nil {
		return models.Job{}, err
	}
	return job, nil
}

func sharesOf(tx *gorm.DB) (shares []shareRow, err error) {
	return shares, tx.Table("tenant_load AS l").Select("t.id, t.weight, t.max_running, t.suspended_at, l.queued, l.claimed").
		Joins("JOIN tenants t ON t.id = l.tenant_id").Where("l.queued > 0 OR l.claimed > 0").Order("t.id").Find(&shares).Error
}

func headOf(tx *gorm.DB, tenantID string, limit int) (rows []waitingRow, err error) {
	return rows, tx.Table("jobs").Where(waiting).Where("tenant_id = ?", tenantID).
		Order("priority DESC, seq").Limit(limit).Find(&rows).Error
}

// avoidLost fills Avoid of the jobs named by ids: the workers that lost an attempt of theirs, latest first.
func avoidLost(tx *gorm.DB, jobs []models.QueuedJob, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	var lost []models.Attempt
	if err := tx.Table("attempts").Select("job_id, worker").Where("job_id IN ? AND state = 'lost'", ids).
		Order("number DESC").Find(&lost).Error; err != nil {
		return err
	}
	avoid := map[string][]string{}
	for _, a := range lost {
		if !slices.Contains(avoid[a.JobID], a.Worker) {
			avoid[a.JobID] = append(avoid[a.JobID], a.Worker)
		}
	}
	for i := range jobs {
		jobs[i].Avoid = avoid[jobs[i].ID]
	}
	return nil
}
