package api

import (
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/app/server"
	"comfyfleet/models"
)

// How many jobs a page of the list has.
const (
	defaultPage = 20
	largestPage = 100
)

// listed is one job of the list.
type listed struct {
	JobID      string  `json:"job_id"`
	Status     string  `json:"status"`
	CreatedAt  string  `json:"created_at"`
	Progress   int     `json:"progress"`
	StartedAt  *string `json:"started_at"`
	FinishedAt *string `json:"finished_at"`
	WorkflowID *string `json:"workflow_id"`
	Simulated  bool    `json:"simulated"`
	Error      *string `json:"error"`
	ErrorCode  *string `json:"error_code"`
}

// list answers with the tenant's jobs, newest first: GET /v1/jobs.
func (a *api) list(c *fiber.Ctx) error {
	filter, page, err := a.listQuery(c)
	if err != nil {
		return err
	}
	ctx, done := a.call(c)
	defer done()
	found, err := a.Jobs.Jobs(ctx, filter, page)
	if err != nil {
		return err
	}
	answer := struct {
		Jobs []listed `json:"jobs"`
		Next *string  `json:"next_cursor"`
	}{Jobs: make([]listed, 0, len(found.Jobs))}
	for _, j := range found.Jobs {
		answer.Jobs = append(answer.Jobs, listed{
			JobID: j.ID, Status: statusWord(j.State), CreatedAt: models.FormatTime(j.CreatedAt), Progress: j.Progress.Percent,
			StartedAt: timeOrNull(j.StartedAt), FinishedAt: timeOrNull(j.FinishedAt), WorkflowID: orNull(workflowID(j)),
			Simulated: j.Simulated, Error: orNull(j.Error), ErrorCode: orNull(j.ErrorCode),
		})
	}
	if found.Next > 0 {
		answer.Next = orNull(a.cursor.encode(found.Next))
	}
	return c.JSON(answer)
}

func (a *api) listQuery(c *fiber.Ctx) (f models.JobFilter, p models.Page, err error) {
	f = models.JobFilter{TenantID: server.PrincipalOf(c).Tenant.ID, WorkflowSlug: c.Query("workflow")}
	p.Limit = defaultPage
	if f.States, err = statesOf(c.Query("status")); err != nil {
		return f, p, err
	}
	if s := c.Query("limit"); s != "" {
		if p.Limit, err = strconv.Atoi(s); err != nil || p.Limit < 1 || p.Limit > largestPage {
			return f, p, models.FieldErrorf(models.CodeInvalid, "bad_query", "limit", "must be a number from 1 to %d", largestPage)
		}
	}
	if s := c.Query("cursor"); s != "" {
		if p.Before, err = a.cursor.decode(s); err != nil {
			return f, p, err
		}
	}
	if s := c.Query("created_after"); s != "" {
		at, err := time.Parse(time.RFC3339, s)
		if err != nil {
			return f, p, models.FieldErrorf(models.CodeInvalid, "bad_query", "created_after", "must be a time as in 2026-01-31T12:00:00Z")
		}
		at = at.UTC()
		f.CreatedAfter = &at
	}
	return f, p, nil
}

// statesOf are the states that a word of the guide covers.
func statesOf(word string) ([]models.JobState, error) {
	switch word {
	case "":
		return nil, nil
	case statusQueued:
		return []models.JobState{models.JobQueued}, nil
	case statusRunning:
		return []models.JobState{models.JobRunning}, nil
	case statusCompleted:
		return []models.JobState{models.JobSucceeded}, nil
	case statusFailed:
		return []models.JobState{models.JobFailed, models.JobCanceled, models.JobExpired}, nil
	}
	return nil, models.FieldErrorf(models.CodeInvalid, "bad_query", "status", "must be queued, running, completed or failed")
}
