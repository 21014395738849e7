package web

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/app/auth"
	"comfyfleet/app/server"
	"comfyfleet/models"
)

// sessionCookie holds a sign-in. Lax: a link from a mail to a job page should not ask for a password again.
const sessionCookie = "comfyfleet_session"

// person is who asks.
type person struct {
	operator models.Operator
	session  models.Session
	ip       string
}

type personKey struct{}

func personOf(c *fiber.Ctx) person {
	p, _ := c.Locals(personKey{}).(person)
	return p
}

// guard lets operators of the role through. A page asks to sign in; what changes something must come from a page of
// ours.
func (w *Web) guard(role models.Role, next fiber.Handler) fiber.Handler {
	return func(c *fiber.Ctx) error {
		p, err := w.identify(c.UserContext(), c)
		if err != nil {
			return err
		}
		if p == nil {
			return w.askToSignIn(c)
		}
		c.Locals(personKey{}, *p)
		setPolicy(c)
		if c.Method() != fiber.MethodGet && c.Method() != fiber.MethodHead {
			if err := w.checkOrigin(c); err != nil {
				return err
			}
		}
		if !p.operator.Role.Allows(role) {
			return models.Errorf(models.CodeForbidden, "role", "Your role is %s. This needs %s or more.", p.operator.Role, role)
		}
		return next(c)
	}
}

// identify finds who the cookie belongs to; nil for nobody.
func (w *Web) identify(ctx context.Context, c *fiber.Ctx) (*person, error) {
	hash, ok := auth.HashCookie(c.Cookies(sessionCookie))
	if !ok {
		return nil, nil
	}
	p, err := w.sessionPerson(ctx, hash)
	if p != nil {
		p.ip = strings.Clone(server.ClientIP(c))
	}
	return p, err
}

func (w *Web) sessionPerson(ctx context.Context, hash string) (*person, error) {
	s, o, err := w.People.SessionByHash(ctx, hash)
	if models.ErrorCode(err) == models.CodeNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	now := w.Now()
	if !auth.SessionLive(s, now) || o.DisabledAt != nil {
		return nil, nil
	}
	if auth.TouchDue(s, now) {
		if err := w.People.TouchSession(ctx, hash, now); err != nil {
			w.Log.Warn("touch session", "operator", o.Email, "error", err)
		}
	}
	return &person{operator: o, session: s}, nil
}

// askToSignIn sends a browser to the sign-in page and back after it. A stream says so in its own words: a redirect
// would only look broken to it.
func (w *Web) askToSignIn(c *fiber.Ctx) error {
	to := "/signin"
	if c.Method() == fiber.MethodGet && !strings.HasPrefix(c.Path(), "/live/") && c.Path() != "/" {
		to += "?next=" + url.QueryEscape(c.OriginalURL())
	}
	switch {
	case strings.HasPrefix(c.Path(), "/live/"):
		c.Set(fiber.HeaderContentType, "text/event-stream")
		return c.Send(server.Event("", "signedout", []byte("-")))
	case c.Get("HX-Request") == "true":
		c.Set("HX-Redirect", "/signin")
		return c.SendStatus(fiber.StatusNoContent)
	}
	return c.Redirect(to, fiber.StatusSeeOther)
}

func (w *Web) setCookie(c *fiber.Ctx, value string, expires time.Time) {
	c.Cookie(&fiber.Cookie{
		Name: sessionCookie, Value: value, Path: "/", Expires: expires,
		HTTPOnly: true, Secure: w.secure, SameSite: fiber.CookieSameSiteLaxMode,
	})
}

// setPolicy allows what pages of ours need and nothing else.
func setPolicy(c *fiber.Ctx) {
	c.Set(fiber.HeaderContentSecurityPolicy, "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; "+
		"font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	c.Set(fiber.HeaderCacheControl, "no-store")
}
