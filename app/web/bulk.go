package web

import (
	"context"
	"fmt"
	"strings"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/models"
	"comfyfleet/views"
)

// maxBulk is how many jobs one bulk act changes; the answer says when there were more.
const maxBulk = models.CountCap

// presentBulk is the bar that appears when rows are selected.
func presentBulk(q query, total, shown int) views.Bulk {
	b := views.Bulk{Query: q.String(), Total: capped(total, models.CountCap), Verbs: []views.BulkVerb{
		{Name: "front", Label: "Move to front", Icon: "arrow-up-to-line", Text: "Highest priority within the tenant. Only waiting jobs are moved."},
		{Name: "raise", Label: "Raise priority", Icon: "chevrons-up", Text: "Priority rises by 10. Only waiting jobs are changed."},
		{Name: "retry", Label: "Retry {n} {jobs}", Icon: "rotate-ccw", Text: "Finished jobs run again as new jobs with the same graph and inputs."},
		{Name: "cancel", Label: "Cancel {n} {jobs}", Icon: "ban", Kind: "danger", Text: "Ends as canceled what waits or runs. Finished jobs are left alone."},
	}}
	if total > shown {
		b.Matching = "Select all " + b.Total
		if s := q.get("state"); s != "" {
			b.Matching += " " + s
		}
	}
	return b
}

// bulkVerb does one thing to one job. changed is false for a job that it does not concern.
type bulkVerb struct {
	does   func(ctx context.Context, w *Web, j models.Job, by string) (changed bool, err error)
	done   string // "canceled"
	states []models.JobState
}

var bulkVerbs = map[string]bulkVerb{
	"cancel": {done: "canceled", states: []models.JobState{models.JobQueued, models.JobRunning}, does: func(ctx context.Context, w *Web, j models.Job, by string) (bool, error) {
		_, changed, err := w.Jobs.Cancel(ctx, "", j.ID, by)
		return changed, err
	}},
	"retry": {done: "queued again", states: []models.JobState{models.JobSucceeded, models.JobFailed, models.JobCanceled, models.JobExpired}, does: func(ctx context.Context, w *Web, j models.Job, _ string) (bool, error) {
		_, err := w.Jobs.Retry(ctx, "", j.ID)
		return err == nil, err
	}},
	"raise": {done: "raised", states: []models.JobState{models.JobQueued}, does: func(ctx context.Context, w *Web, j models.Job, _ string) (bool, error) {
		return true, w.Jobs.SetPriority(ctx, "", j.ID, min(models.MaxPriority, j.Priority+10))
	}},
	"front": {done: "moved to the front", states: []models.JobState{models.JobQueued}, does: func(ctx context.Context, w *Web, j models.Job, _ string) (bool, error) {
		return true, w.Jobs.SetPriority(ctx, "", j.ID, models.MaxPriority)
	}},
}

// bulk does one thing to the selected jobs, or to all that match the filter.
func (w *Web) bulk(c *fiber.Ctx) error {
	values, err := w.form(c)
	if err != nil {
		return err
	}
	ctx := c.UserContext()
	verb, ok := bulkVerbs[values.Get("verb")]
	if !ok {
		return models.Errorf(models.CodeInvalid, "unknown_verb", "there is no such action")
	}
	list, more, err := w.selected(ctx, strings.Fields(values.Get("ids")), values.Get("matching") != "", values.Get("q"), verb)
	if err != nil {
		return err
	}
	by := personOf(c).operator.Email
	changed, left, failed := 0, 0, error(nil)
	for _, j := range list {
		ok, err := verb.does(ctx, w, j, by)
		switch code := models.ErrorCode(err); {
		case err == nil && ok:
			changed++
		case err == nil || code == models.CodeConflict || code == models.CodeNotFound:
			left++ // it moved on between the page and now
		default:
			left++
			failed = err
		}
	}
	w.audit(c, "job.bulk_"+values.Get("verb"), plural(changed, "job"), values.Get("q"))
	if failed != nil && changed == 0 {
		return failed
	}
	return w.done(c, parseQuery(values.Get("q")).url(), plural(changed, "job")+" "+verb.done, bulkNote(left, more, failed))
}

func bulkNote(left int, more bool, failed error) string {
	var parts []string
	if left > 0 {
		parts = append(parts, fmt.Sprintf("%s left alone.", plural(left, "job")))
	}
	if more {
		parts = append(parts, "There were more than "+count(maxBulk)+"; do it again for the rest.")
	}
	if failed != nil {
		parts = append(parts, reason(failed))
	}
	return strings.Join(parts, " ")
}

// selected finds the jobs that a bulk act is about.
func (w *Web) selected(ctx context.Context, ids []string, matching bool, text string, verb bulkVerb) (list []models.Job, more bool, err error) {
	if !matching {
		if len(ids) > jobsPerPage {
			return nil, false, models.Errorf(models.CodeInvalid, "too_many_ids", "more jobs than a page has")
		}
		for _, id := range ids {
			v, err := w.Jobs.Job(ctx, "", id)
			if models.ErrorCode(err) == models.CodeNotFound {
				continue
			}
			if err != nil {
				return nil, false, err
			}
			list = append(list, v.Job)
		}
		return list, false, nil
	}
	q := parseQuery(text)
	_, tenants, err := w.names(ctx)
	if err != nil {
		return nil, false, err
	}
	f, err := q.filter(tenants, w.Fleet.Workers(), w.Now())
	if err != nil {
		return nil, false, err
	}
	if len(f.States) == 0 {
		f.States = verb.states
	}
	page, err := w.Jobs.Jobs(ctx, f, models.Page{Limit: maxBulk})
	return page.Jobs, page.Next > 0, err
}
