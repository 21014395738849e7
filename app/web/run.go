package web

import (
	"context"
	"encoding/json"
	"time"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/app/auth"
	"comfyfleet/models"
	"comfyfleet/views"
	"comfyfleet/workflows"
)

// latestRun is how many outputs of a workflow its run page shows.
const latestRun = 3

// runAny opens the first workflow of the library.
func (w *Web) runAny(c *fiber.Ctx) error {
	list, err := w.Library.Workflows(c.UserContext(), "")
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return w.sendRun(c, recipe{title: "No workflow", path: "/run", note: "The library is empty. Drop a graph to run it."}, "", nil)
	}
	return c.Redirect("/run/"+list[0].Slug, fiber.StatusSeeOther)
}

func (w *Web) runPage(c *fiber.Ctx) error {
	r, err := w.libraryRecipe(c.UserContext(), c.Params("slug"))
	if err != nil {
		return err
	}
	return w.sendRun(c, r, c.Query("job"), nil)
}

func (w *Web) runGraphPage(c *fiber.Ctx) error {
	r, err := w.uploadedRecipe(c.UserContext(), c.Params("id"))
	if err != nil {
		return err
	}
	return w.sendRun(c, r, c.Query("job"), nil)
}

func (w *Web) runJobPage(c *fiber.Ctx) error {
	r, err := w.jobRecipe(c.UserContext(), c.Params("id"))
	if err != nil {
		return err
	}
	return w.sendRun(c, r, c.Query("job"), nil)
}

// sendRun sends the whole page. wrong is why the form was refused.
func (w *Web) sendRun(c *fiber.Ctx, r recipe, jobID string, wrong error) error {
	ctx := c.UserContext()
	library, err := w.Library.Workflows(ctx, "")
	if err != nil {
		return err
	}
	p := views.Run{Library: presentLibrary(library, r.slug)}
	if p.Form, err = w.runForm(c, r, wrong); err != nil {
		return err
	}
	if p.Result, err = w.runResult(ctx, r.slug, jobID, refusal(personOf(c).operator.Role)); err != nil {
		return err
	}
	p.Result.Samples = w.recipeSamples(r)
	if p.Shell, err = w.shell(c, "Run "+r.title, "run", runStream(r.slug, jobID)); err != nil {
		return err
	}
	return send(c, views.RunPage(p))
}

// runStream is the stream of a run page.
func runStream(slug, jobID string) string {
	return withParam(withParam("/live/run", "slug", slug), "job", jobID)
}

func presentLibrary(list []models.Workflow, current string) []views.LibraryItem {
	items := make([]views.LibraryItem, 0, len(list))
	for _, x := range list {
		items = append(items, views.LibraryItem{
			Slug: x.Slug, Title: x.Title, Note: x.Description, URL: "/run/" + x.Slug, Icon: "workflow", Current: x.Slug == current,
			Find: x.Slug + " " + x.Title + " " + x.Description,
		})
	}
	return items
}

// runForm is the recipe's form with what the reader may do.
func (w *Web) runForm(c *fiber.Ctx, r recipe, wrong error) (views.RunForm, error) {
	ctx := c.UserContext()
	who := personOf(c)
	f := w.presentForm(r, formProblems(wrong), func(p workflows.Param) views.Media {
		m := mediaField(p.Key, p.Label, p.Type)
		if m.Label == "" {
			m.Label = p.Key
		}
		if ref := r.refs[p.Key]; ref != "" {
			m = w.withRef(ctx, m, ref, "")
		}
		return m
	})
	f.CSRF = auth.CSRFToken(who.session)
	f.Disabled = refusal(who.operator.Role)
	if r.graph == nil {
		f.Disabled = "There is nothing to run yet."
	}
	_, tenants, err := w.names(ctx)
	if err != nil {
		return f, err
	}
	f.Tenants = tenantChoice(tenants, r.tenant)
	recent, err := w.Stats.RecentDurations(ctx, r.slug, 20)
	if err != nil {
		return f, err
	}
	if typical := median(recent); typical > 0 && r.slug != "" {
		f.Hint = "About " + tookText(typical) + "."
	}
	if w.Jobs.Paused().Dispatch {
		f.Hint = "Dispatch is paused: it will wait. " + f.Hint
	}
	return f, nil
}

// tenantChoice lets the operator choose for whom to run, when there is a choice.
func tenantChoice(tenants []models.Tenant, current string) *views.Choice {
	if len(tenants) < 2 {
		return nil
	}
	ch := &views.Choice{Name: "tenant", Label: "For tenant"}
	for _, t := range tenants {
		ch.Options = append(ch.Options, views.Option{Value: t.ID, Label: t.Name, Selected: t.ID == current || current == "" && t.Name == models.DefaultTenant})
	}
	return ch
}

func (w *Web) recipeSamples(r recipe) []views.Sample {
	if r.graph == nil {
		return nil
	}
	k := call{base: w.PublicURL, graphFile: "workflow.json"}
	if r.slug != "" {
		k.workflowID, k.graphFile = r.slug, ""
		values := map[string]json.RawMessage{}
		for _, p := range r.params {
			if p.Default != nil {
				values[p.Key] = p.Default
			}
			if p.Media() && p.Default != nil {
				k.media = append(k.media, jsonText(p.Default))
			}
		}
		if b, err := json.Marshal(values); err == nil && len(values) > 0 {
			k.params = string(b)
		}
	}
	return k.samples()
}

// runResult is the job of the page, or what stands in for it.
func (w *Web) runResult(ctx context.Context, slug, jobID, refused string) (r views.RunResult, err error) {
	if jobID == "" {
		r.Empty = &views.Empty{Trace: true, Title: "Nothing run yet", Text: "The result appears here, with progress and previews while it is made."}
	} else {
		in, err := w.jobInput(ctx, jobID)
		if err != nil {
			return r, err
		}
		feed := w.Follow(jobID)
		in.update, _ = feed.Latest()
		feed.Close()
		r = presentResult(in, refused)
	}
	if slug != "" {
		r.Latest, err = w.latest(ctx, slug, latestRun)
	}
	return r, err
}

// liveRun keeps the result of a run page current.
func (w *Web) liveRun(c *fiber.Ctx) error {
	refused, slug, id := refusal(personOf(c).operator.Role), c.Query("slug"), c.Query("job")
	on := watch{job: id, every: time.Second}
	if id == "" {
		on = watch{fleet: true}
	}
	return w.stream(c, on, func(feed Feed) page {
		ended := id == "" // what has ended and was sent does not change any more
		return func(ctx context.Context) ([]part, error) {
			parts, err := w.frame(ctx, w.Fleet.Workers())
			if err != nil || ended {
				return parts, err
			}
			result, err := w.runResult(ctx, slug, id, refused)
			if err != nil {
				return nil, err
			}
			ended = result.Cancel == nil
			return append(parts, box("result", views.Result(result))), nil
		}
	})
}
