package web

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/app/auth"
	"comfyfleet/app/jobs"
	"comfyfleet/models"
	"comfyfleet/views"
)

// shell is what surrounds a page.
func (w *Web) shell(c *fiber.Ctx, title, nav, live string) (views.Shell, error) {
	p := personOf(c)
	workers := w.Fleet.Workers()
	status, err := w.status(c.UserContext(), workers)
	if err != nil {
		return views.Shell{}, err
	}
	env := w.Env
	env.Simulated = slices.ContainsFunc(workers, models.Worker.Simulated)
	return views.Shell{
		Title: title, Nav: nav, Status: status, Env: env, LiveURL: live,
		Email: p.operator.Email, Role: string(p.operator.Role), CSRF: auth.CSRFToken(p.session),
		Theme: themeOf(c), Version: w.Version,
		Banners: banners(nav, workers, w.Jobs.Paused(), w.Demo, refusal(p.operator.Role)),
	}, nil
}

// refusal is why a role cannot act, "" when it can.
func refusal(role models.Role) string {
	if role.Allows(models.RoleOperator) {
		return ""
	}
	return fmt.Sprintf("Your role is %s. An operator or admin can do this.", role)
}

// banners say what is not as usual on every page. That workers are simulated is said at length where a reader comes in;
// elsewhere the mark at the top says it, and on phones, which have no room for it, the banner.
func banners(nav string, workers []models.Worker, p jobs.Pauses, demo, refused string) []views.Banner {
	var list []views.Banner
	if n := countWorkers(workers, models.Worker.Simulated); n > 0 {
		switch {
		case demo == "" && n == 1:
			demo = "1 simulated worker stands in for a card; its pictures carry the mark."
		case demo == "":
			demo = plural(n, "simulated worker") + " stand in for cards; their pictures carry the mark."
		}
		list = append(list, views.Banner{ID: "banner-sim", State: "warn", Bold: "Simulated.", Text: demo, Phone: nav != "overview" && nav != "run"})
	}
	resume := func(what string) *views.Verb {
		return &views.Verb{Label: "Resume", Post: "/pause/" + what + "?to=off", Small: true, Disabled: refused}
	}
	if p.Intake {
		list = append(list, views.Banner{ID: "banner-intake", State: "warn", Bold: "Intake is paused.", Text: "New jobs are refused with 503. What is queued goes on.", Act: resume("intake")})
	}
	if p.Dispatch {
		list = append(list, views.Banner{ID: "banner-dispatch", State: "warn", Bold: "Dispatch is paused.", Text: "Queued jobs wait. What runs goes on.", Act: resume("dispatch")})
	}
	return list
}

func countWorkers(workers []models.Worker, is func(models.Worker) bool) int {
	n := 0
	for _, w := range workers {
		if is(w) {
			n++
		}
	}
	return n
}

// figures are what the status sentence says.
type figures struct {
	workers []models.Worker
	queued  int
	running int
	oldest  time.Time // zero when nothing waits
	typical time.Duration
}

func (w *Web) status(ctx context.Context, workers []models.Worker) (views.Status, error) {
	f := figures{workers: workers}
	counts, err := w.Jobs.Counts(ctx, models.JobFilter{States: []models.JobState{models.JobQueued, models.JobRunning}})
	if err != nil {
		return views.Status{}, err
	}
	f.queued, f.running = counts[models.JobQueued], counts[models.JobRunning]
	if f.queued > 0 {
		if f.oldest, _, err = w.Stats.OldestQueued(ctx); err != nil {
			return views.Status{}, err
		}
		recent, err := w.Stats.RecentDurations(ctx, "", 20)
		if err != nil {
			return views.Status{}, err
		}
		f.typical = median(recent)
	}
	return presentStatus(f, w.Now()), nil
}

func median(ms []int64) time.Duration {
	if len(ms) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(ms))
	return millis(sorted[len(sorted)/2])
}

// presentStatus is the sentence that reads aloud how the fleet stands. Only what is not normal carries a tone.
func presentStatus(f figures, now time.Time) views.Status {
	s := views.Status{Sentence: []views.Clause{cardsClause(f.workers)}}
	s.Sentence = append(s.Sentence,
		views.Clause{Bold: capped(f.running, models.CountCap), Text: " running", Link: "/jobs?q=state:running"},
		views.Clause{Bold: capped(f.queued, models.CountCap), Text: " queued", Link: "/jobs?q=state:queued"})
	if !f.oldest.IsZero() {
		at := since(f.oldest, now, "")
		s.Sentence = append(s.Sentence, views.Clause{Lead: "oldest ", Before: "waits ", Since: &at})
	}
	if up := countWorkers(f.workers, takesJobs); f.typical > 0 && up > 0 && f.queued > 0 && f.queued <= models.CountCap {
		rounds := (f.queued + f.running + up - 1) / up
		s.Sentence = append(s.Sentence, views.Clause{Before: "done in about ", Bold: clock(f.typical * time.Duration(rounds)), Tail: true})
	}
	if active := f.queued + f.running; active > 0 {
		s.Active = capped(active, models.CountCap)
	}
	for i, w := range f.workers {
		state := workerState(w, models.Job{})
		s.Pips = append(s.Pips, views.Pip{State: state.Name})
		if i > 0 {
			s.Cards += ", "
		}
		s.Cards += workerLabel(w.Name) + " " + string(w.State)
	}
	return s
}

// takesJobs reports whether a worker has work or can be given some now.
func takesJobs(w models.Worker) bool {
	return w.State == models.WorkerReady || w.State == models.WorkerBusy
}

func cardsClause(workers []models.Worker) views.Clause {
	c := views.Clause{Link: "/gpus"}
	total, up, asleep, down := 0, 0, 0, false
	for _, w := range workers {
		switch {
		case w.State == models.WorkerDisabled:
			continue
		case takesJobs(w):
			up++
		case w.WantDrain || w.State == models.WorkerDraining: // wanted so: neither ready nor down
		case w.State == models.WorkerStopped || w.State == models.WorkerStopping:
			asleep++
		case w.State == models.WorkerBackoff || w.State == models.WorkerQuarantined:
			down = true
		}
		total++
	}
	switch {
	case total == 0:
		c.State, c.Bold, c.Text = "failed", "no", " card in use"
		return c
	case asleep == total:
		c.Bold, c.Wide, c.Text = plural(total, "card"), "", " asleep"
		return c
	}
	if down {
		c.State = "backoff"
	}
	c.Bold, c.Wide, c.Text = fmt.Sprintf("%d of %d", up, total), " cards", " ready"
	return c
}

// names looks up what tenants and workers are called.
func (w *Web) names(ctx context.Context) (names, []models.Tenant, error) {
	tenants, err := w.Tenants.Tenants(ctx)
	if err != nil {
		return names{}, nil, err
	}
	n := names{tenants: map[string]string{}, workers: map[string]bool{}}
	for _, t := range tenants {
		n.tenants[t.ID] = t.Name
	}
	for _, x := range w.Fleet.Workers() {
		n.workers[x.Name] = true
	}
	return n, tenants, nil
}

// note writes to the audit log. What was done is done: a log that cannot be written is reported, not undone.
func (w *Web) note(c *fiber.Ctx, actor, ip, action, target, detail string) {
	err := w.People.Audit(c.UserContext(), models.AuditEntry{At: w.Now(), Actor: actor, Action: action, Target: target, Detail: detail, IP: ip})
	if err != nil {
		w.Log.Error("audit log", "action", action, "target", target, "actor", actor, "error", err)
	}
}

func (w *Web) audit(c *fiber.Ctx, action, target, detail string) {
	p := personOf(c)
	w.note(c, p.operator.Email, p.ip, action, target, detail)
}

func (w *Web) home(c *fiber.Ctx) error { return c.Redirect("/overview", fiber.StatusSeeOther) }
