package web

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/models"
	"comfyfleet/views"
)

// jobsPerPage fits two screens: more would only be scrolled past.
const jobsPerPage = 50

// maxExport bounds the JSON export; more is a job for the API.
const maxExport = 1000

// listing is one page of the job list.
type listing struct {
	query   query
	filter  models.JobFilter
	problem error
	names   names
	tenants []models.Tenant
	page    models.JobPage
	before  int64 // cursor of this page, 0 for the newest
}

// read reads a page of jobs under the query. A filter that cannot be understood is kept as problem: the page says so.
func (w *Web) read(ctx context.Context, text string, before int64, limit int) (l listing, err error) {
	l.query, l.before = parseQuery(text), before
	if l.names, l.tenants, err = w.names(ctx); err != nil {
		return l, err
	}
	if l.filter, l.problem = l.query.filter(l.tenants, w.Fleet.Workers(), w.Now()); l.problem != nil {
		return l, nil
	}
	l.page, err = w.Jobs.Jobs(ctx, l.filter, models.Page{Limit: limit, Before: before})
	return l, err
}

func (w *Web) jobsPage(c *fiber.Ctx) error {
	ctx := c.UserContext()
	if add := strings.TrimSpace(c.Query("add")); add != "" || c.Query("tab") != "" {
		// The filter form: put both parts together, so that the address says all.
		return c.Redirect(parseQuery(c.Query("q")+" "+add).url(), fiber.StatusSeeOther)
	}
	l, err := w.read(ctx, c.Query("q"), cursor(c.Query("before")), jobsPerPage)
	if err != nil {
		return err
	}
	props, err := w.presentJobs(ctx, l)
	if err != nil {
		return err
	}
	if props.Shell, err = w.shell(c, "Jobs", "jobs", l.liveURL()); err != nil {
		return err
	}
	refused := refusal(personOf(c).operator.Role)
	props.Bulk.Disabled = refused
	props.Verbs = []views.Verb{
		{Label: "Export JSON", Icon: "download", Link: withParam("/jobs.json", "q", l.query.String())},
		{Label: "Run a workflow", Icon: "play", Kind: "solid", Link: "/run"},
	}
	return send(c, views.JobsPage(props))
}

// presentJobs is everything of the page but its frame.
func (w *Web) presentJobs(ctx context.Context, l listing) (views.Jobs, error) {
	now := w.Now()
	props := views.Jobs{Filter: l.query.present(l.tenants)}
	if l.problem != nil {
		props.Tabs = jobTabs(l.query, nil)
		props.Empty = unreadable(l.problem)
		return props, nil
	}
	counts, err := w.tabCounts(ctx, l)
	if err != nil {
		return props, err
	}
	props.Tabs = jobTabs(l.query, counts)
	for _, j := range l.page.Jobs {
		props.Rows = append(props.Rows, presentRow(j, l.names, w.result(ctx, j), now))
	}
	if len(props.Rows) == 0 {
		props.Empty = noJobs(l.query)
		return props, nil
	}
	total := tabTotal(l.query, counts)
	props.Bulk = presentBulk(l.query, total, len(props.Rows))
	props.Range = plural(len(props.Rows), "job") + " of " + capped(total, models.CountCap)
	if l.before > 0 {
		props.Newer = l.query.url()
		props.Range = "older jobs, " + strconv.Itoa(len(props.Rows)) + " on this page"
	}
	if l.page.Next > 0 {
		props.Older = withParam(l.query.url(), "before", strconv.FormatInt(l.page.Next, 10))
	}
	return props, nil
}

// tabCounts counts by state under the rest of the filter.
func (w *Web) tabCounts(ctx context.Context, l listing) (map[models.JobState]int, error) {
	f := l.filter
	f.States = nil
	return w.Jobs.Counts(ctx, f)
}

func tabTotal(q query, counts map[models.JobState]int) int {
	total := 0
	states := q.get("state")
	for s, n := range counts {
		if states == "" || strings.Contains(","+states+",", ","+string(s)+",") {
			total += n
		}
	}
	return total
}

func jobTabs(q query, counts map[models.JobState]int) []views.Tab {
	all := 0
	for _, n := range counts {
		all += n
	}
	current := q.get("state")
	tabs := []views.Tab{{Label: "All", Count: capped(all, models.CountCap), URL: q.without("state").url(), Current: current == ""}}
	for _, s := range jobStates {
		t := views.Tab{Label: jobState(models.Job{State: s}).Word, Count: capped(counts[s], models.CountCap), URL: q.with("state", string(s)).url(), Current: current == string(s)}
		if s == models.JobFailed && counts[s] > 0 {
			t.State = "failed"
		}
		tabs = append(tabs, t)
	}
	return tabs
}

// unreadable says what is wrong with the filter.
func unreadable(problem error) *views.Empty {
	e := &views.Empty{Title: "This filter cannot be read", Text: reason(problem), Acts: []views.Verb{{Label: "All jobs", Link: "/jobs"}}}
	if known, ok := errors.AsType[*models.Error](problem); ok && len(known.Fields) > 0 {
		e.Title, e.Text = known.Fields[0].Field+" cannot be read", sentence(known.Fields[0].Detail)
	}
	return e
}

// noJobs is why the list is empty, and what to do next.
func noJobs(q query) *views.Empty {
	if len(q.terms) == 0 {
		return &views.Empty{Trace: true, Title: "No jobs yet", Text: "Send one with a key, or run a workflow here. It appears without a reload.",
			Acts: []views.Verb{{Label: "Run a workflow", Icon: "play", Kind: "solid", Link: "/run"}}}
	}
	e := &views.Empty{Title: "No job matches " + q.String(), Text: "Drop a filter to see more."}
	for _, t := range q.terms {
		e.Acts = append(e.Acts, views.Verb{Label: "Drop " + t.key + " filter", Link: q.without(t.key).url()})
	}
	return e
}

// liveURL is the page's stream: what is shown, and the newest row that is.
func (l listing) liveURL() string {
	if l.problem != nil {
		return ""
	}
	u := withParam("/live/jobs", "q", l.query.String())
	if l.before > 0 {
		return withParam(u, "before", strconv.FormatInt(l.before, 10))
	}
	return withParam(u, "top", strconv.FormatInt(l.top(), 10))
}

func (l listing) top() int64 {
	if len(l.page.Jobs) == 0 {
		return 0
	}
	return l.page.Jobs[0].Seq
}

func cursor(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// exportJobs is the list under the filter as JSON, newest first, at most maxExport of them.
func (w *Web) exportJobs(c *fiber.Ctx) error {
	l, err := w.read(c.UserContext(), c.Query("q"), 0, maxExport)
	if err != nil {
		return err
	}
	if l.problem != nil {
		return l.problem
	}
	list := make([]exported, 0, len(l.page.Jobs))
	for _, j := range l.page.Jobs {
		list = append(list, export(j, l.names))
	}
	body, err := json.MarshalIndent(map[string]any{"jobs": list, "truncated": l.page.Next > 0}, "", "  ")
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	c.Set(fiber.HeaderContentDisposition, `attachment; filename="jobs.json"`)
	return c.Send(body)
}

// exported is one job of the export.
type exported struct {
	ID         string     `json:"job_id"`
	Tenant     string     `json:"tenant"`
	State      string     `json:"state"`
	Origin     string     `json:"origin"`
	Workflow   string     `json:"workflow,omitempty"`
	Version    int        `json:"version,omitempty"`
	Priority   int        `json:"priority"`
	Worker     string     `json:"worker,omitempty"`
	Attempts   int        `json:"attempts"`
	Simulated  bool       `json:"simulated"`
	CreatedAt  time.Time  `json:"created_at"`
	StartedAt  *time.Time `json:"started_at"`
	FinishedAt *time.Time `json:"finished_at"`
	QueueMS    int64      `json:"queue_ms"`
	LoadMS     int64      `json:"load_ms"`
	ExecMS     int64      `json:"execution_ms"`
	GPUMS      int64      `json:"gpu_ms"`
	ErrorCode  string     `json:"error_code,omitempty"`
	Error      string     `json:"error,omitempty"`
}

func export(j models.Job, n names) exported {
	return exported{
		ID: j.ID, Tenant: n.tenant(j.TenantID), State: string(j.State), Origin: string(j.Origin),
		Workflow: j.WorkflowSlug, Version: j.WorkflowVersion, Priority: j.Priority, Worker: j.Worker, Attempts: j.Attempts,
		Simulated: j.Simulated, CreatedAt: j.CreatedAt, StartedAt: j.StartedAt, FinishedAt: j.FinishedAt,
		QueueMS: j.Metrics.QueueMS, LoadMS: j.Metrics.LoadMS, ExecMS: j.Metrics.ExecMS, GPUMS: j.Metrics.GPUMS,
		ErrorCode: j.ErrorCode, Error: j.Error,
	}
}
