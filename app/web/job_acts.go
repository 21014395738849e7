package web

import (
	"errors"
	"strconv"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/models"
)

// preview is the newest preview frame of a job that runs here.
func (w *Web) preview(c *fiber.Ctx) error {
	feed := w.Follow(c.Params("id"))
	defer feed.Close()
	u, ok := feed.Latest()
	if !ok || len(u.Preview) == 0 || (u.PreviewType != "image/jpeg" && u.PreviewType != "image/png" && u.PreviewType != "image/webp") {
		return models.ErrNotFound("preview")
	}
	c.Set(fiber.HeaderContentType, u.PreviewType)
	return c.Send(u.Preview)
}

func (w *Web) cancelJob(c *fiber.Ctx) error {
	if _, err := w.form(c); err != nil {
		return err
	}
	id := c.Params("id")
	job, changed, err := w.Jobs.Cancel(c.UserContext(), "", id, personOf(c).operator.Email)
	if err != nil {
		return err
	}
	if !changed {
		return w.done(c, "/jobs/"+id, "Job "+shortID(id)+" had ended already", "It is "+string(job.State)+".")
	}
	w.audit(c, "job.cancel", id, "")
	return w.done(c, "/jobs/"+id, "Job "+shortID(id)+" canceled", "")
}

func (w *Web) retryJob(c *fiber.Ctx) error {
	if _, err := w.form(c); err != nil {
		return err
	}
	id := c.Params("id")
	again, err := w.Jobs.Retry(c.UserContext(), "", id)
	if err != nil {
		return err
	}
	w.audit(c, "job.retry", id, again.Job.ID)
	return goTo(c, "/jobs/"+again.Job.ID)
}

func (w *Web) jobPriority(c *fiber.Ctx) error {
	values, err := w.form(c)
	if err != nil {
		return err
	}
	id := c.Params("id")
	n, err := strconv.Atoi(values.Get("priority"))
	if err != nil {
		return models.FieldErrorf(models.CodeInvalid, "bad_priority", "priority", "must be a whole number")
	}
	if err := w.Jobs.SetPriority(c.UserContext(), "", id, n); err != nil {
		return err
	}
	w.audit(c, "job.priority", id, strconv.Itoa(n))
	return w.done(c, "/jobs/"+id, "Priority of job "+shortID(id)+" is "+strconv.Itoa(n), "")
}

func (w *Web) redeliver(c *fiber.Ctx) error {
	if _, err := w.form(c); err != nil {
		return err
	}
	id := c.Params("id")
	d, err := w.Deliveries.Delivery(c.UserContext(), id)
	if err != nil {
		return err
	}
	if err := w.Deliveries.Redeliver(c.UserContext(), id, w.Now()); err != nil {
		return err
	}
	w.audit(c, "webhook.redeliver", id, d.URL)
	return w.done(c, "/jobs/"+d.JobID+"?tab=deliveries", "Webhook queued again", d.URL)
}

var errNoGraph = errors.New("stored graph is empty")

// graphJSON is the job's graph to download.
func (w *Web) graphJSON(c *fiber.Ctx) error {
	p, err := w.Jobs.Payload(c.UserContext(), "", c.Params("id"))
	if err != nil {
		return err
	}
	if len(p.Graph) == 0 {
		return errNoGraph
	}
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	c.Set(fiber.HeaderContentDisposition, `attachment; filename="`+shortID(c.Params("id"))+`_workflow.json"`)
	return c.SendString(indent(p.Graph))
}
