package api

import (
	"github.com/gofiber/fiber/v2"

	"comfyfleet/app/server"
)

// cancel ends a job: DELETE /v1/jobs/{id}. A job that had ended before stays as it is, and that is no error.
func (a *api) cancel(c *fiber.Ctx) error {
	ctx, done := a.call(c)
	defer done()
	p := server.PrincipalOf(c)
	job, changed, err := a.Jobs.Cancel(ctx, p.Tenant.ID, c.Params("id"), "key "+p.Key.Prefix)
	if err != nil {
		return err
	}
	word := statusWord(job.State)
	message := "Job cancelled"
	if !changed {
		message = "Job was already finalised: " + word
	}
	return c.JSON(struct {
		JobID   string `json:"job_id"`
		Status  string `json:"status"`
		Message string `json:"message"`
	}{job.ID, word, message})
}
