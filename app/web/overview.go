package web

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/app/jobs"
	"comfyfleet/models"
	"comfyfleet/views"
)

// latestShown is how many outputs the overview and the run page show; latestJobs how many finished jobs are looked at
// for them.
const (
	latestShown = 7
	latestJobs  = 12
)

func (w *Web) overviewPage(c *fiber.Ctx) error {
	ctx := c.UserContext()
	refused := refusal(personOf(c).operator.Role)
	props, err := w.presentOverview(ctx, refused)
	if err != nil {
		return err
	}
	if props.Shell, err = w.shell(c, "Overview", "overview", "/live/overview"); err != nil {
		return err
	}
	props.Verbs = pauseVerbs(w.Jobs.Paused(), refused)
	props.Verbs = append(props.Verbs, drainAllVerb(w.Fleet.Workers(), refused))
	return send(c, views.OverviewPage(props))
}

func pauseVerbs(p jobs.Pauses, refused string) []views.Verb {
	verb := func(what, icon, text string, on bool) views.Verb {
		if on {
			return views.Verb{Label: "Resume " + what, Icon: "play", Post: "/pause/" + what + "?to=off", Disabled: refused, TestID: "resume-" + what}
		}
		return views.Verb{Label: "Pause " + what, Icon: icon, Disabled: refused, TestID: "pause-" + what, Confirm: &views.Confirm{
			ID: "pause-" + what + "-dlg", Title: "Pause " + what + "?", Text: text, Button: "Pause " + what, Keep: "Go on", Action: "/pause/" + what + "?to=on",
		}}
	}
	return []views.Verb{
		verb("intake", "pause", "New jobs are refused with 503 until you resume. What is queued goes on.", p.Intake),
		verb("dispatch", "circle-pause", "Queued jobs wait until you resume. What runs goes on.", p.Dispatch),
	}
}

// pause sets or clears one of the two switches.
func (w *Web) pause(c *fiber.Ctx) error {
	if _, err := w.form(c); err != nil {
		return err
	}
	p, on := w.Jobs.Paused(), c.Query("to") == "on"
	switch c.Params("what") {
	case "intake":
		p.Intake = on
	case "dispatch":
		p.Dispatch = on
	default:
		return models.ErrNotFound("switch")
	}
	if err := w.Jobs.SetPaused(c.UserContext(), p); err != nil {
		return err
	}
	action := "resume"
	if on {
		action = "pause"
	}
	w.audit(c, c.Params("what")+"."+action, "service", "")
	return goTo(c, "/overview") // the banner and the buttons of the page say it
}

func (w *Web) presentOverview(ctx context.Context, refused string) (views.Overview, error) {
	now := w.Now()
	workers := w.Fleet.Workers()
	n, _, err := w.names(ctx)
	if err != nil {
		return views.Overview{}, err
	}
	day, err := w.Stats.DayStats(ctx, now)
	if err != nil {
		return views.Overview{}, err
	}
	oldest, _, err := w.Stats.OldestQueued(ctx)
	if err != nil {
		return views.Overview{}, err
	}
	running, err := w.Jobs.Jobs(ctx, models.JobFilter{States: []models.JobState{models.JobRunning}}, models.Page{Limit: 20})
	if err != nil {
		return views.Overview{}, err
	}
	p := views.Overview{Axis: hourAxis(now), Idle: "Nothing runs."}
	byID := map[string]models.Job{}
	for _, j := range running.Jobs {
		byID[j.ID] = j
		p.Running = append(p.Running, presentRun(j, n, now))
	}
	spans := map[string][]models.Span{}
	for _, x := range workers {
		spans[x.Name] = w.Fleet.Spans(x.Name, now.Add(-time.Hour))
		p.Strips = append(p.Strips, presentStrip(x, byID[x.ExecutingJobID], n, spans[x.Name], now))
	}
	p.Stats = presentStats(day, busyShare(spans, now), oldest, now)
	free, known := w.Blobs.Free(ctx)
	p.Attention = attention(trouble{workers: workers, spans: spans, diskFree: free, diskKnown: known, pauses: w.Jobs.Paused(), day: day, refused: refused}, now)
	p.Latest, err = w.latest(ctx, "", latestShown)
	return p, err
}

// latest are the newest pictures and videos, of one workflow or of all.
func (w *Web) latest(ctx context.Context, slug string, n int) ([]views.Shot, error) {
	f := models.JobFilter{States: []models.JobState{models.JobSucceeded}, WorkflowSlug: slug}
	page, err := w.Jobs.Jobs(ctx, f, models.Page{Limit: latestJobs})
	if err != nil {
		return nil, err
	}
	var shots []views.Shot
	for _, j := range page.Jobs {
		outputs, err := w.Jobs.Outputs(ctx, "", j.ID)
		if err != nil {
			return nil, err
		}
		for _, o := range kept(outputs) {
			if s, ok := presentShot(j, o, w.Now()); ok && len(shots) < n {
				shots = append(shots, s)
				break
			}
		}
	}
	slices.SortStableFunc(shots, func(a, b views.Shot) int { return strings.Compare(b.Note.ISO, a.Note.ISO) })
	return shots, nil
}

func (w *Web) liveOverview(c *fiber.Ctx) error {
	refused := refusal(personOf(c).operator.Role)
	return w.shared(c, "overview", refused, watch{job: "*", fleet: true, every: 2 * time.Second}, func(ctx context.Context) ([]part, error) {
		parts, err := w.frame(ctx, w.Fleet.Workers())
		if err != nil {
			return nil, err
		}
		p, err := w.presentOverview(ctx, refused)
		if err != nil {
			return nil, err
		}
		return append(parts,
			box("stats", views.Stats(p.Stats)),
			box("strips", views.Strips(p.Strips, p.Axis)),
			box("attention", views.AttentionList(p.Attention)),
			box("running", views.RunningList(p.Running, p.Idle)),
			box("latest", views.LatestOutputs(p.Latest)),
		), nil
	})
}
