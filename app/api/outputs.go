package api

import (
	"github.com/gofiber/fiber/v2"

	"comfyfleet/app/server"
	"comfyfleet/models"
)

// signedOr lets a signed URL through, and without a signature asks for a key.
func (a *api) signedOr(scope models.Scope, limit server.Limit) fiber.Handler {
	return func(c *fiber.Ctx) error {
		var err error
		if signature := c.Query("signature"); signature != "" {
			err = a.Signer.Verify(c.Params("id"), c.Query("expires"), c.Query("key"), signature)
		} else {
			err = a.server.Admit(c, a.Keys, scope, limit)
		}
		if err != nil {
			return err
		}
		return c.Next()
	}
}

// output sends a stored output: GET /v1/outputs/{id}. A signature stands for its tenant.
func (a *api) output(c *fiber.Ctx) error {
	tenantID := server.PrincipalOf(c).Tenant.ID
	if tenantID == "" && c.Query("signature") == "" {
		return models.Errorf(models.CodeUnauth, "missing_key", "send an API key, or use a signed URL") // signedOr let nobody through
	}
	ctx, done := a.call(c)
	defer done()
	o, content, err := a.Jobs.OpenOutput(ctx, tenantID, c.Params("id"))
	if err != nil {
		return err
	}
	return a.server.SendFile(c, server.File{
		Name: o.Filename, ContentType: o.ContentType, Size: o.Size, SHA256: o.SHA256, Modified: o.CreatedAt,
		Content: content, Download: c.QueryBool("download"),
	})
}
