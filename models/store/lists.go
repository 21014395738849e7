package store

import (
	"cmp"
	"context"
	"slices"

	"gorm.io/gorm"

	"comfyfleet/models"
)

// Bounds of a page.
const (
	defaultPage = 50
	maxPage     = 1000
)

// allStates is every state that Counts knows.
var allStates = [...]models.JobState{models.JobQueued, models.JobRunning, models.JobSucceeded, models.JobFailed,
	models.JobCanceled, models.JobExpired}

// Jobs reads one page of jobs, newest first. With page.After it is the rows just above that Seq, and Next always
// continues below the page. Other lists than by tenant and state scan from the newest until the page is full.
func (s *Store) Jobs(ctx context.Context, f models.JobFilter, page models.Page) (models.JobPage, error) {
	limit := page.Limit
	if limit <= 0 {
		limit = defaultPage
	}
	limit = min(limit, maxPage)
	var jobs []models.Job
	err := s.readTogether(ctx, func(tx *gorm.DB) error {
		jobs = nil
		for _, q := range walks(tx, f) {
			var part []models.Job
			if err := onPage(q, page).Limit(limit + 1).Find(&part).Error; err != nil {
				return err
			}
			jobs = append(jobs, part...)
		}
		return nil
	})
	if err != nil {
		return models.JobPage{}, translate(err, "list jobs", "job")
	}
	return cutPage(jobs, page, limit), nil
}

// Counts counts jobs by state, each up to models.CountCap+1: exact counts of a million rows are not cheap. With
// filter.States it counts only those.
func (s *Store) Counts(ctx context.Context, f models.JobFilter) (map[models.JobState]int, error) {
	states := f.States
	if len(states) == 0 {
		states = allStates[:]
	}
	counts := map[models.JobState]int{}
	err := s.readTogether(ctx, func(tx *gorm.DB) error {
		for _, state := range states {
			n, err := countUpTo(tx, filtered(tx, f).Where("state = ?", state), models.CountCap+1)
			if err != nil {
				return err
			}
			counts[state] = n
		}
		return nil
	})
	return counts, translate(err, "count jobs", "job")
}

// walks are the index walks that together find the jobs of a filter: one per state, because an index on state is in
// order of seq only within one.
func walks(tx *gorm.DB, f models.JobFilter) []*gorm.DB {
	if len(f.States) == 0 {
		return []*gorm.DB{filtered(tx, f)}
	}
	states := slices.Clone(f.States)
	slices.Sort(states)
	var qs []*gorm.DB
	for _, state := range slices.Compact(states) {
		qs = append(qs, filtered(tx, f).Where("state = ?", state))
	}
	return qs
}

// filtered applies all of f but the states.
func filtered(tx *gorm.DB, f models.JobFilter) *gorm.DB {
	q := tx.Table("jobs")
	for _, equal := range []struct{ where, value string }{{"tenant_id = ?", f.TenantID},
		{"workflow_slug = ?", f.WorkflowSlug}, {"worker = ?", f.Worker}, {"error_code = ?", f.ErrorCode}} {
		if equal.value != "" {
			q = q.Where(equal.where, equal.value)
		}
	}
	if f.IDPrefix != "" {
		q = q.Where("id >= ? AND id < ?", f.IDPrefix, f.IDPrefix+"~") // ids are hex and hyphens, which sort below ~
	}
	if f.CreatedAfter != nil {
		q = q.Where("created_at > ?", f.CreatedAfter)
	}
	if f.CreatedBefore != nil {
		q = q.Where("created_at < ?", f.CreatedBefore)
	}
	return q
}

func onPage(q *gorm.DB, page models.Page) *gorm.DB {
	if page.After > 0 {
		return q.Where("seq > ?", page.After).Order("seq")
	}
	if page.Before > 0 {
		q = q.Where("seq < ?", page.Before)
	}
	return q.Order("seq DESC")
}

// cutPage puts the rows of all walks in order and cuts them to a page.
func cutPage(jobs []models.Job, page models.Page, limit int) models.JobPage {
	newestFirst := func(a, b models.Job) int { return cmp.Compare(b.Seq, a.Seq) }
	slices.SortFunc(jobs, newestFirst)
	p := models.JobPage{Jobs: jobs}
	switch {
	case page.After > 0:
		p.Jobs = jobs[max(0, len(jobs)-limit):]
		if len(p.Jobs) > 0 {
			p.Next = p.Jobs[len(p.Jobs)-1].Seq
		}
	case len(jobs) > limit:
		p.Jobs = jobs[:limit]
		p.Next = jobs[limit-1].Seq
	}
	if p.Jobs == nil {
		p.Jobs = []models.Job{}
	}
	return p
}

// countUpTo counts the rows of q, and stops at limit.
func countUpTo(tx *gorm.DB, q *gorm.DB, limit int) (n int, err error) {
	return n, tx.Raw("SELECT COUNT(*) FROM (?) AS found", q.Select("1").Limit(limit)).Scan(&n).Error
}
