package web

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/app/jobs"
	"comfyfleet/app/server"
	"comfyfleet/models"
	"comfyfleet/views"
	"comfyfleet/workflows"
)

func (w *Web) run(c *fiber.Ctx) error {
	r, err := w.libraryRecipe(c.UserContext(), c.Params("slug"))
	if err != nil {
		return err
	}
	return w.submit(c, r)
}

func (w *Web) runGraph(c *fiber.Ctx) error {
	r, err := w.uploadedRecipe(c.UserContext(), c.Params("id"))
	if err != nil {
		return err
	}
	return w.submit(c, r)
}

func (w *Web) runJob(c *fiber.Ctx) error {
	r, err := w.jobRecipe(c.UserContext(), c.Params("id"))
	if err != nil {
		return err
	}
	return w.submit(c, r)
}

// submit runs a recipe with the posted form, and answers its result or the form with what was wrong.
func (w *Web) submit(c *fiber.Ctx, r recipe) error {
	form, err := w.form(c)
	if err != nil {
		return err
	}
	ctx := c.UserContext()
	r.take(form)
	tenantID, err := w.runTenant(ctx, r.tenant)
	if err != nil {
		return err
	}
	var accepted jobs.Accepted
	sub, err := w.submission(ctx, r, tenantID)
	if err == nil {
		accepted, err = w.Jobs.Submit(ctx, sub)
	}
	if err != nil {
		if server.ProblemOf(err).Status >= fiber.StatusInternalServerError && models.ErrorCode(err) == models.CodeInternal {
			return err
		}
		return w.refuseRun(c, r, err)
	}
	id := accepted.Job.ID
	w.audit(c, "job.run", id, r.slug)
	if !isHTMX(c) {
		return c.Redirect(withParam(r.path, "job", id), fiber.StatusSeeOther)
	}
	return w.sendStarted(c, r, id)
}

// sendStarted answers a started run: its result, the form as it was sent, and what the page now follows.
func (w *Web) sendStarted(c *fiber.Ctx, r recipe, id string) error {
	result, err := w.runResult(c.UserContext(), r.slug, id, refusal(personOf(c).operator.Role))
	if err != nil {
		return err
	}
	form, err := w.runForm(c, r, nil)
	if err != nil {
		return err
	}
	form.Submit = "Run again"
	trigger, err := json.Marshal(map[string]string{"live": runStream(r.slug, id)})
	if err != nil {
		return err
	}
	c.Set("HX-Trigger", string(trigger))
	c.Set("HX-Push-Url", withParam(r.path, "job", id))
	return w.sendParts(c, box("result", views.Result(result)), part{"run-form", views.RunFormPart(form, true)})
}

// refuseRun answers the form with what was wrong in it.
func (w *Web) refuseRun(c *fiber.Ctx, r recipe, wrong error) error {
	c.Status(server.ProblemOf(wrong).Status)
	if !isHTMX(c) {
		return w.sendRun(c, r, "", wrong)
	}
	form, err := w.runForm(c, r, wrong)
	if err != nil {
		return err
	}
	return w.sendParts(c, part{"run-form", views.RunFormPart(form, true)})
}

// sendParts answers elements that replace those with their ids.
func (w *Web) sendParts(c *fiber.Ctx, parts ...part) error {
	var b bytes.Buffer
	for _, p := range parts {
		html, err := render(c.UserContext(), p.component)
		if err != nil {
			return err
		}
		b.Write(html)
	}
	c.Set(fiber.HeaderContentType, fiber.MIMETextHTMLCharsetUTF8)
	return c.Send(b.Bytes())
}

// runTenant is for whom to run: the chosen tenant, else the default one.
func (w *Web) runTenant(ctx context.Context, chosen string) (string, error) {
	tenants, err := w.Tenants.Tenants(ctx)
	if err != nil {
		return "", err
	}
	for _, t := range tenants {
		if t.ID == chosen || chosen == "" && t.Name == models.DefaultTenant {
			return t.ID, nil
		}
	}
	return "", models.FieldErrorf(models.CodeUnprocessed, "unknown_tenant", "tenant", "there is no such tenant")
}

// uploadGraph takes a dropped graph and opens its form, or says why it was not taken.
func (w *Web) uploadGraph(c *fiber.Ctx) error {
	if err := checkToken(c, ""); err != nil {
		return err
	}
	id := w.NewID()
	_, err := w.takeFile(c, func(name string, r io.Reader) error {
		raw, err := io.ReadAll(io.LimitReader(r, jobs.MaxGraphBytes+1))
		if err != nil {
			return err
		}
		if len(raw) > jobs.MaxGraphBytes {
			return models.Errorf(models.CodeTooLarge, "workflow_too_large", "the graph is larger than %d MiB", jobs.MaxGraphBytes>>20)
		}
		if _, err := workflows.Parse(raw); err != nil {
			return err
		}
		_, err = w.uploads.store(c.UserContext(), id, strings.TrimSuffix(name, ".json"), bytes.NewReader(raw), jobs.MaxGraphBytes)
		return err
	})
	if err != nil {
		if models.ErrorCode(err) == models.CodeInternal {
			return err
		}
		c.Status(server.ProblemOf(err).Status)
		return w.sendParts(c, part{"graph-problem", views.GraphProblem(reason(err), true)})
	}
	return goTo(c, "/run/graph/"+id)
}
