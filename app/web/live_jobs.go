package web

import (
	"context"
	"slices"
	"strconv"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/models"
	"comfyfleet/views"
)

// maxFresh bounds the count of newer jobs above the list: "99+ new jobs".
const maxFresh = 99

// liveJobs keeps a page of the job list current without moving a row: newer jobs are counted above it, and a row that
// leaves the filter dims until the list is taken anew.
func (w *Web) liveJobs(c *fiber.Ctx) error {
	text, before, top := c.Query("q"), cursor(c.Query("before")), cursor(c.Query("top"))
	return w.stream(c, watch{job: "*"}, func(Feed) page {
		l := &jobsOnScreen{w: w, text: text, before: before, top: top}
		return l.parts
	})
}

// jobsOnScreen is what one reader of the list sees.
type jobsOnScreen struct {
	w           *Web
	text        string
	before, top int64
	shown       []string // ids, as they stand on the page
}

func (l *jobsOnScreen) parts(ctx context.Context) ([]part, error) {
	w := l.w
	parts, err := w.frame(ctx, w.Fleet.Workers())
	if err != nil {
		return nil, err
	}
	from := l.before
	if from == 0 && l.top > 0 {
		from = l.top + 1
	}
	list, err := w.read(ctx, l.text, from, jobsPerPage)
	if err != nil {
		return nil, err
	}
	if list.problem != nil {
		return parts, nil
	}
	counts, err := w.tabCounts(ctx, list)
	if err != nil {
		return nil, err
	}
	parts = append(parts, box("job-tabs", views.JobTabs(jobTabs(list.query, counts))))
	rows, gone, err := l.rows(ctx, list)
	if err != nil {
		return nil, err
	}
	parts = append(parts, rows...)
	fresh, err := l.fresh(ctx, list.filter, gone)
	if err != nil {
		return nil, err
	}
	return append(parts, box("job-fresh", views.FreshJobs(fresh, list.query.url()))), nil
}

// rows are the rows on the screen as they are now. The first call decides which those are.
func (l *jobsOnScreen) rows(ctx context.Context, list listing) (parts []part, gone int, err error) {
	if l.before == 0 && l.top == 0 {
		return nil, 0, nil // an empty page has no rows to keep
	}
	now := l.w.Now()
	found := map[string]models.Job{}
	for _, j := range list.page.Jobs {
		found[j.ID] = j
		if !slices.Contains(l.shown, j.ID) && len(l.shown) < jobsPerPage {
			l.shown = append(l.shown, j.ID)
		}
	}
	for _, id := range l.shown {
		j, ok := found[id]
		if !ok {
			v, err := l.w.Jobs.Job(ctx, "", id)
			if models.ErrorCode(err) == models.CodeNotFound {
				gone++
				continue // swept; its row stays as it was
			}
			if err != nil {
				return nil, 0, err
			}
			j = v.Job
			gone++
		}
		row := presentRow(j, list.names, l.w.result(ctx, j), now)
		row.Gone = !ok
		parts = append(parts, part{"job-" + id, views.LiveJobRow(row)})
	}
	return parts, gone, nil
}

// fresh is what waits to be let in.
func (l *jobsOnScreen) fresh(ctx context.Context, f models.JobFilter, gone int) (string, error) {
	if l.before > 0 {
		return "", nil
	}
	page, err := l.w.Jobs.Jobs(ctx, f, models.Page{Limit: maxFresh + 1, After: l.top})
	if err != nil {
		return "", err
	}
	switch n := len(page.Jobs); {
	case n > maxFresh:
		return strconv.Itoa(maxFresh) + "+ new jobs", nil
	case n > 0:
		return plural(n, "new job"), nil
	case gone > 0:
		return plural(gone, "row") + " moved on", nil
	}
	return "", nil
}
