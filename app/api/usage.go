package api

import (
	"time"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/app/server"
	"comfyfleet/models"
)

const (
	dayFormat = "2006-01-02"
	// defaultUsageDays and largestUsageDays bound what one answer covers.
	defaultUsageDays = 30
	largestUsageDays = 366
)

// used is one day's use of one workflow; of all days and workflows in the total.
type used struct {
	Day         string  `json:"day,omitempty"`
	Workflow    *string `json:"workflow,omitempty"` // "" for raw graphs
	Jobs        int64   `json:"jobs"`
	Failed      int64   `json:"failed"`
	GPUSeconds  float64 `json:"gpu_seconds"`
	OutputBytes int64   `json:"output_bytes"`
}

// usage says what the tenant used: GET /v1/usage?from=&to=, both days included, UTC.
func (a *api) usage(c *fiber.Ctx) error {
	from, to, err := usageDays(c.Query("from"), c.Query("to"), a.Now().UTC())
	if err != nil {
		return err
	}
	ctx, done := a.call(c)
	defer done()
	rows, err := a.Usage.UsageOf(ctx, server.PrincipalOf(c).Tenant.ID, from.Format(dayFormat), to.Format(dayFormat))
	if err != nil {
		return err
	}
	days := make([]used, 0, len(rows))
	var total models.Usage
	for _, u := range rows {
		day := usedOf(u)
		day.Day, day.Workflow = u.Day, &u.WorkflowSlug
		days = append(days, day)
		total.Jobs += u.Jobs
		total.Failed += u.Failed
		total.GPUMS += u.GPUMS
		total.OutputBytes += u.OutputBytes
	}
	return c.JSON(struct {
		From  string `json:"from"`
		To    string `json:"to"`
		Usage []used `json:"usage"`
		Total used   `json:"total"`
	}{from.Format(dayFormat), to.Format(dayFormat), days, usedOf(total)})
}

func usedOf(u models.Usage) used {
	return used{Jobs: u.Jobs, Failed: u.Failed, GPUSeconds: float64(u.GPUMS) / 1000, OutputBytes: u.OutputBytes}
}

func usageDays(first, last string, now time.Time) (from, to time.Time, err error) {
	to = now.Truncate(24 * time.Hour)
	if last != "" {
		if to, err = time.Parse(dayFormat, last); err != nil {
			return from, to, badDay("to")
		}
	}
	from = to.AddDate(0, 0, 1-defaultUsageDays)
	if first != "" {
		if from, err = time.Parse(dayFormat, first); err != nil {
			return from, to, badDay("from")
		}
	}
	if from.After(to) || to.Sub(from) > largestUsageDays*24*time.Hour {
		return from, to, models.FieldErrorf(models.CodeInvalid, "bad_query", "from", "must be before to, by at most %d days", largestUsageDays)
	}
	return from, to, nil
}

func badDay(field string) error {
	return models.FieldErrorf(models.CodeInvalid, "bad_query", field, "must be a day as in 2026-01-31")
}
