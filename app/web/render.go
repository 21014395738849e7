package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"strconv"
	"strings"

	"github.com/a-h/templ"
	"github.com/gofiber/fiber/v2"

	"comfyfleet/app/server"
	"comfyfleet/models"
	"comfyfleet/static"
	"comfyfleet/views"
)

// minPacked is the size in bytes from which a page is compressed: below it, one packet carries it anyway.
const minPacked = 1400

// send renders to a buffer first: a template that fails half-way must not look like a page.
func send(c *fiber.Ctx, component templ.Component) error {
	var b bytes.Buffer
	if err := component.Render(c.UserContext(), &b); err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, fiber.MIMETextHTMLCharsetUTF8)
	c.Vary(fiber.HeaderAcceptEncoding)
	if b.Len() < minPacked || !strings.Contains(c.Get(fiber.HeaderAcceptEncoding), "gzip") {
		return c.Send(b.Bytes())
	}
	var packed bytes.Buffer
	zip, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		return err
	}
	if _, err := zip.Write(b.Bytes()); err != nil {
		return err
	}
	if err := zip.Close(); err != nil {
		return err
	}
	c.Set(fiber.HeaderContentEncoding, "gzip")
	return c.Send(packed.Bytes())
}

func render(ctx context.Context, component templ.Component) ([]byte, error) {
	var b bytes.Buffer
	err := component.Render(ctx, &b)
	return b.Bytes(), err
}

func isHTMX(c *fiber.Ctx) bool { return c.Get("HX-Request") == "true" }

// done answers an act that went well: a toast for our script, the page again for a plain form.
func (w *Web) done(c *fiber.Ctx, back, title, text string) error {
	if isHTMX(c) {
		return send(c, views.Toast(true, title, text))
	}
	return c.Redirect(back, fiber.StatusSeeOther)
}

// goTo leads the browser to another page of ours.
func goTo(c *fiber.Ctx, to string) error {
	if isHTMX(c) {
		c.Set("HX-Redirect", to)
		return c.SendStatus(fiber.StatusNoContent)
	}
	return c.Redirect(to, fiber.StatusSeeOther)
}

// errorPage shows a problem: as a toast to our script, as a page to a reader.
func (w *Web) errorPage(c *fiber.Ctx, p server.Problem) error {
	c.Status(p.Status)
	if isHTMX(c) {
		return send(c, views.Toast(false, titleOf(p), sentence(p.Detail)))
	}
	setPolicy(c)
	text := sentence(p.Detail)
	if p.Code == "no_such_path" { // its detail is for callers of the API
		text = "There is no page at " + c.Path() + "."
	}
	if p.Status >= 500 {
		text += " Running jobs go on. Request " + p.RequestID + "."
	}
	return send(c, views.ErrorDocument(views.ErrorPage{
		Status: strconv.Itoa(p.Status), Theme: themeOf(c), Env: w.Env, Version: w.Version, Field: traceField(),
		Empty: views.Empty{Title: titleOf(p), Text: text, Failed: p.Status >= 500, Acts: []views.Verb{
			{Label: "Overview", Link: "/overview", Icon: "gauge"}, {Label: "Jobs", Link: "/jobs", Icon: "list-checks"},
		}},
	}))
}

func titleOf(p server.Problem) string {
	switch p.Status {
	case fiber.StatusNotFound:
		return "Nothing is here"
	case fiber.StatusForbidden:
		return "Not allowed"
	case fiber.StatusServiceUnavailable:
		return "Not now"
	case fiber.StatusInternalServerError:
		return "This could not be done"
	}
	return "This was refused"
}

// sentence makes a problem's detail a sentence.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	s = strings.ToUpper(s[:1]) + s[1:]
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}

// reason is what a reader is told of an error.
func reason(err error) string { return sentence(server.ProblemOf(err).Detail) }

// static serves an embedded file. Its address names the contents, so it may be kept for ever; under an address of an
// earlier build it is served once, for pages that are still open.
func (w *Web) static(c *fiber.Ctx) error {
	f, ok := static.Lookup(c.Params("+"))
	if !ok {
		return models.ErrNotFound("file")
	}
	c.Set(fiber.HeaderCacheControl, "no-cache")
	if c.Params("hash") == static.Hash() {
		c.Set(fiber.HeaderCacheControl, "public, max-age=31536000, immutable")
	}
	c.Set(fiber.HeaderContentType, f.ContentType)
	if f.Gzip != nil {
		c.Vary(fiber.HeaderAcceptEncoding)
		if c.AcceptsEncodings("gzip") == "gzip" {
			c.Set(fiber.HeaderContentEncoding, "gzip")
			return c.Send(f.Gzip)
		}
	}
	return c.Send(f.Body)
}

func themeOf(c *fiber.Ctx) string {
	if t := c.Cookies("theme"); t == "dark" || t == "light" {
		return t
	}
	return ""
}
