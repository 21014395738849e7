package web

import (
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/app/auth"
	"comfyfleet/models"
)

// csrfHeader carries the session's token; static/js/app.js sets it on every request that it sends.
const csrfHeader = "X-CSRF-Token"

var errForeign = models.Errorf(models.CodeForbidden, "foreign_page", "This did not come from a page of this dashboard. Reload the page and try again.")

// checkOrigin refuses what the browser itself says comes from another site. What it cannot tell the token must.
func (w *Web) checkOrigin(c *fiber.Ctx) error {
	switch c.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return nil
	case "":
	default:
		return errForeign
	}
	origin := c.Get(fiber.HeaderOrigin)
	if origin == "" {
		return nil
	}
	u, err := url.Parse(origin)
	if err != nil || !strings.EqualFold(u.Host, string(c.Request().Host())) {
		return errForeign
	}
	return nil
}

// checkToken holds a token against the session's. field is what a plain form sent, the header goes first.
func checkToken(c *fiber.Ctx, field string) error {
	token := c.Get(csrfHeader)
	if token == "" {
		token = field
	}
	if !auth.CSRFValid(personOf(c).session, token) {
		return errForeign
	}
	return nil
}
