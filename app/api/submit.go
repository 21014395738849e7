package api

import (
	"strings"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/app/jobs"
	"comfyfleet/app/server"
	"comfyfleet/models"
)

const (
	// maxBody is ten media of 50 MiB in base64, and the rest. maxRest bounds that rest: graph, inputs and all.
	maxBody = 690 << 20
	maxRest = jobs.MaxGraphBytes
	// maxKeyLength bounds an Idempotency-Key.
	maxKeyLength = 255
)

// accepted is the answer to POST /v1/jobs.
type accepted struct {
	JobID         string `json:"job_id"`
	Status        string `json:"status"`
	CreatedAt     string `json:"created_at"`
	EstimatedTime int    `json:"estimated_time"`
}

// submit takes a job: POST /v1/jobs.
func (a *api) submit(c *fiber.Ctx) error {
	if err := a.roomOnDisk(c); err != nil {
		return err
	}
	key, err := idempotencyKey(c)
	if err != nil {
		return err
	}
	body, err := a.server.Body(c, maxBody)
	if err != nil {
		return err
	}
	ups := newUploads(c.UserContext(), a.Blobs, a.NewID)
	defer ups.discard()

	var sub jobs.Submission
	if boundary, ok := formBoundary(c.Get(fiber.HeaderContentType)); ok {
		sub, err = readForm(body, boundary, ups)
	} else {
		sub, err = readJSON(body, ups)
	}
	if err != nil {
		return err
	}
	p := server.PrincipalOf(c)
	sub.TenantID, sub.Tenant, sub.KeyID, sub.Origin, sub.IdempotencyKey = p.Tenant.ID, &p.Tenant, p.Key.ID, models.OriginAPI, key

	ctx, done := a.call(c) // the body took its own time
	defer done()
	ups.handOver() // Submit owns the blobs from here, also of a submission that it refuses
	acc, err := a.Jobs.Submit(ctx, sub)
	if err != nil {
		return err
	}
	if acc.Replayed {
		c.Set("Idempotency-Replayed", "true")
	}
	c.Set(fiber.HeaderLocation, "/v1/jobs/"+acc.Job.ID)
	if wait := preferredWait(c.Get("Prefer")); wait > 0 {
		return a.answerLater(c, acc, wait)
	}
	return c.JSON(accepted{
		JobID: acc.Job.ID,
		// The first answer again, for a replay too: what became of the job is GET's to say.
		Status:        statusWord(models.JobQueued),
		CreatedAt:     models.FormatTime(acc.Job.CreatedAt),
		EstimatedTime: acc.Job.EstimatedSeconds,
	})
}

// roomOnDisk refuses a job whose media, as far as they were announced, would fill the disk.
func (a *api) roomOnDisk(c *fiber.Ctx) error {
	if a.FreeDisk == nil {
		return nil
	}
	free, ok := a.FreeDisk()
	need := a.MinFreeDisk
	if n := c.Context().Request.Header.ContentLength(); n > 0 {
		need += uint64(n)
	}
	if ok && free < need {
		return models.Errorf(models.CodeFull, "storage_full", "the service has no room for new jobs at the moment; its operator has to make some")
	}
	return nil
}

func idempotencyKey(c *fiber.Ctx) (string, error) {
	key := c.Get("Idempotency-Key")
	outside := func(r rune) bool { return r < ' ' || r > '~' }
	if len(key) > maxKeyLength || strings.ContainsFunc(key, outside) {
		return "", models.FieldErrorf(models.CodeInvalid, "bad_idempotency_key", "Idempotency-Key", "must be at most %d printable ASCII characters", maxKeyLength)
	}
	return key, nil
}
