package api

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/app/server"
	"comfyfleet/models"
	"comfyfleet/workflows"
)

// prodAlias is the alias that a bare slug means.
const prodAlias = "prod"

// entry is one workflow of the library.
type entry struct {
	Slug        string         `json:"slug"`
	Title       string         `json:"title"`
	Description string         `json:"description"`
	Version     int            `json:"version"` // what a bare slug runs
	Aliases     map[string]int `json:"aliases"`
	UpdatedAt   string         `json:"updated_at"`
}

// workflows lists what the tenant may run: GET /v1/workflows.
func (a *api) workflows(c *fiber.Ctx) error {
	ctx, done := a.call(c)
	defer done()
	found, err := a.Library.Workflows(ctx, server.PrincipalOf(c).Tenant.ID)
	if err != nil {
		return err
	}
	out := make([]entry, 0, len(found))
	for _, w := range found {
		e, _, err := a.entry(ctx, w)
		if err != nil {
			return err
		}
		out = append(out, e)
	}
	return c.JSON(fiber.Map{"workflows": out})
}

// workflow is one entry with its parameters as JSON Schema: GET /v1/workflows/{slug}.
func (a *api) workflow(c *fiber.Ctx) error {
	ctx, done := a.call(c)
	defer done()
	w, err := a.Library.Workflow(ctx, server.PrincipalOf(c).Tenant.ID, c.Params("slug"))
	if err != nil {
		return err
	}
	e, v, err := a.entry(ctx, w)
	if err != nil {
		return err
	}
	var params []workflows.Param
	if len(v.Params) > 0 {
		if err := json.Unmarshal(v.Params, &params); err != nil {
			return fmt.Errorf("parameters of workflow %s version %d: %w", v.Slug, v.Version, err)
		}
	}
	return c.JSON(struct {
		entry
		Params json.RawMessage `json:"params"`
	}{e, workflows.Schema(params)})
}

// entry is a workflow with the version that its bare slug means.
func (a *api) entry(ctx context.Context, w models.Workflow) (entry, models.WorkflowVersion, error) {
	e := entry{Slug: w.Slug, Title: w.Title, Description: w.Description, Aliases: map[string]int{}, UpdatedAt: models.FormatTime(w.UpdatedAt)}
	aliases, err := a.Library.Aliases(ctx, w.Slug)
	if err != nil {
		return e, models.WorkflowVersion{}, err
	}
	for _, alias := range aliases {
		e.Aliases[alias.Alias] = alias.Version
	}
	v, err := a.Library.Version(ctx, w.Slug, e.Aliases[prodAlias]) // 0 is the newest
	e.Version = v.Version
	return e, v, err
}
