package web

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/app/auth"
	"comfyfleet/app/server"
	"comfyfleet/models"
	"comfyfleet/views"
)

func (w *Web) signInPage(c *fiber.Ctx) error {
	p, err := w.identify(c.UserContext(), c)
	if err != nil {
		return err
	}
	next := safeNext(c.Query("next"))
	if p != nil {
		return c.Redirect(next, fiber.StatusSeeOther)
	}
	return w.sendSignIn(c, "", next, "")
}

func (w *Web) sendSignIn(c *fiber.Ctx, email, next, problem string) error {
	setPolicy(c)
	return send(c, views.LoginPage(views.Login{
		Theme: themeOf(c), Email: email, Problem: problem, Next: next, Env: w.Env, Version: w.Version, Field: traceField(),
	}))
}

// signIn checks a password. It says the same, and takes as long, for a wrong password and an unknown address.
func (w *Web) signIn(c *fiber.Ctx) error {
	ctx := c.UserContext()
	if err := w.checkOrigin(c); err != nil {
		return err
	}
	values, err := w.openForm(c)
	if err != nil {
		return err
	}
	email := strings.ToLower(strings.TrimSpace(values.Get("email")))
	next := safeNext(values.Get("next"))
	ip := strings.Clone(server.ClientIP(c))
	operator, ok, err := w.checkPassword(c, ip, email, values.Get("password"))
	var limited *models.Error
	switch {
	case errors.As(err, &limited):
		c.Status(server.ProblemOf(err).Status)
		return w.sendSignIn(c, email, next, waitWords(limited))
	case err != nil:
		return err
	case !ok:
		w.Log.Warn("sign-in refused", "email", email, "ip", ip)
		c.Status(fiber.StatusUnauthorized)
		return w.sendSignIn(c, email, next, "Email or password is wrong.")
	}
	now := w.Now()
	cookie, session := auth.NewSession(operator, ip, c.Get(fiber.HeaderUserAgent), now)
	if err := w.People.CreateSession(ctx, session); err != nil {
		return fmt.Errorf("create session: %w", err)
	}
	operator.LastSignInAt = &now
	if err := w.People.UpdateOperator(ctx, operator); err != nil {
		w.Log.Warn("note sign-in", "operator", operator.Email, "error", err)
	}
	w.note(c, operator.Email, ip, "operator.signin", operator.Email, "")
	w.setCookie(c, cookie, session.ExpiresAt)
	return c.Redirect(next, fiber.StatusSeeOther)
}

func (w *Web) checkPassword(c *fiber.Ctx, ip, email, password string) (models.Operator, bool, error) {
	done, err := w.Throttle.Begin(c.UserContext(), ip, email)
	if err != nil {
		return models.Operator{}, false, err
	}
	ok := false
	defer func() { done(ok) }()
	operator, err := w.People.OperatorByEmail(c.UserContext(), email)
	if err != nil && models.ErrorCode(err) != models.CodeNotFound {
		return models.Operator{}, false, fmt.Errorf("look up operator: %w", err)
	}
	right := auth.CheckPassword(operator.PasswordHash, password)
	ok = right && operator.DisabledAt == nil
	return operator, ok, nil
}

func waitWords(e *models.Error) string {
	if e.RetryAfter == 0 {
		return sentence(e.Detail)
	}
	return fmt.Sprintf("Too many tries. Wait %s and try again.", clock(time.Duration(e.RetryAfter)*time.Second))
}

func (w *Web) signOut(c *fiber.Ctx) error {
	if _, err := w.form(c); err != nil {
		return err
	}
	p := personOf(c)
	if err := w.People.DeleteSession(c.UserContext(), p.session.Hash); err != nil {
		return err
	}
	w.setCookie(c, "", time.Unix(1, 0))
	return c.Redirect("/signin", fiber.StatusSeeOther)
}

// safeNext is where to go after sign-in: a path of ours, never another site.
func safeNext(next string) string {
	if !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") || strings.HasPrefix(next, "/signin") {
		return "/overview"
	}
	return next
}

// traceField is the drawing beside the sign-in form: the same one for everybody, drawn from a fixed seed.
func traceField() []views.Trace {
	r := rand.New(rand.NewPCG(7, 11))
	field := make([]views.Trace, 44)
	for i := range field {
		class := "past"
		if i%11 == 6 {
			class = "sampling"
		}
		for x := r.Float64() * 0.3; x < 1; {
			width := 0.01 + 0.2*r.Float64()*r.Float64()*2
			kind := class
			if class == "sampling" && r.Float64() < 0.15 {
				kind = "loading"
			}
			field[i].Segments = append(field[i].Segments, views.Segment{Class: kind, X: share(x), Width: share(min(width, 1-x))})
			x += width + 0.001
			if r.Float64() < 0.4 {
				x += 0.2 * r.Float64()
			}
		}
	}
	return field
}
