package api

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/app/jobs"
	"comfyfleet/app/server"
	"comfyfleet/models"
)

// smallAnswer is up to which size an answer is put together before it is sent: an error can then still be told.
const smallAnswer = 64 << 10

// job answers with a job's status object: GET /v1/jobs/{id}. data=none leaves the files' base64 out.
func (a *api) job(c *fiber.Ctx) error {
	if err := checkData(c); err != nil {
		return err
	}
	ctx, done := a.call(c)
	defer done()
	v, err := a.Jobs.Job(ctx, server.PrincipalOf(c).Tenant.ID, c.Params("id"))
	if err != nil {
		return err
	}
	return a.sendJob(c, v, nil)
}

func checkData(c *fiber.Ctx) error {
	switch c.Query("data") {
	case "", "base64", "none":
		return nil
	}
	return models.FieldErrorf(models.CodeInvalid, "bad_query", "data", "must be base64 or none")
}

// sendJob writes the status object, with the outputs' contents unless data=none. estimate is in the answer to POST only.
func (a *api) sendJob(c *fiber.Ctx, v jobs.View, estimate *int) error {
	if err := checkData(c); err != nil {
		return err
	}
	outputs, err := a.outputsOf(c, v)
	if err != nil {
		return err
	}
	s := statusOf(v)
	s.EstimatedTime = estimate
	doc, err := a.jobDocument(s, outputs, c.Query("data") != "none", a.baseURL(c))
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	if doc.size <= smallAnswer {
		body, err := io.ReadAll(doc)
		if err != nil {
			return errors.Join(err, doc.Close())
		}
		return c.Send(body)
	}
	a.server.SendStream(c, doc, doc.size)
	return nil
}

// outputsOf are the outputs of a job that has succeeded.
func (a *api) outputsOf(c *fiber.Ctx, v jobs.View) ([]models.Output, error) {
	if v.State != models.JobSucceeded || v.Outputs != nil {
		return v.Outputs, nil
	}
	ctx, done := a.call(c)
	defer done()
	return a.Jobs.Outputs(ctx, v.TenantID, v.ID)
}

// jobDocument is the status object with its outputs at the end. Every kind of output is base64, text too: the guide's
// client decodes them all.
func (a *api) jobDocument(s status, outputs []models.Output, data bool, base string) (*document, error) {
	head, err := server.EncodeJSON(s)
	if err != nil {
		return nil, fmt.Errorf("encode job %s: %w", s.JobID, err)
	}
	d := &document{}
	d.addText(append(head[:len(head)-1], `,"outputs":[`...))
	for i, o := range outputs {
		b, err := server.EncodeJSON(outputOf(o, base+a.Signer.Path(o.ID)))
		if err != nil {
			return nil, fmt.Errorf("encode output %s: %w", o.ID, err)
		}
		if i > 0 {
			b = append([]byte{','}, b...)
		}
		if !data {
			d.addText(b)
			continue
		}
		d.addText(append(b[:len(b)-len(`null}`)], '"')) // data is the last member
		d.addFile(o.Size, a.opener(o))
		d.addText([]byte(`"}`))
	}
	d.addText([]byte("]}"))
	return d, nil
}

// opener opens an output when the answer reaches it: the request's own context has ended by then.
func (a *api) opener(o models.Output) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		ctx, done := context.WithTimeout(a.server.Context(), callLimit)
		defer done()
		return a.Jobs.OpenContent(ctx, o)
	}
}

// baseURL is what links in the answer begin with.
func (a *api) baseURL(c *fiber.Ctx) string {
	if a.PublicURL != "" {
		return a.PublicURL
	}
	return c.BaseURL()
}
