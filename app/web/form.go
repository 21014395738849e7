package web

import (
	"io"
	"mime"
	"mime/multipart"
	"net/url"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/models"
)

// Limits of what a form of ours may carry.
const (
	maxForm   = 512 << 10
	maxFields = 1000
)

// form reads a small form and checks its token.
func (w *Web) form(c *fiber.Ctx) (url.Values, error) {
	values, err := w.openForm(c)
	if err != nil {
		return nil, err
	}
	return values, checkToken(c, values.Get("csrf"))
}

// openForm reads a small form, urlencoded or multipart, without looking for a token: there is none before sign-in.
func (w *Web) openForm(c *fiber.Ctx) (url.Values, error) {
	body, err := w.server.Body(c, maxForm)
	if err != nil {
		return nil, err
	}
	kind, params, err := mime.ParseMediaType(c.Get(fiber.HeaderContentType))
	if err != nil && c.Get(fiber.HeaderContentType) != "" {
		return nil, badForm(err)
	}
	values := url.Values{}
	if kind == fiber.MIMEMultipartForm {
		values, err = readParts(multipart.NewReader(body, params["boundary"]))
	} else {
		var raw []byte
		if raw, err = io.ReadAll(body); err == nil {
			values, err = url.ParseQuery(string(raw))
		}
	}
	if err != nil {
		return nil, badForm(err)
	}
	return values, nil
}

// readParts reads the fields of a multipart form. Files are skipped: they were sent when they were chosen.
func readParts(r *multipart.Reader) (url.Values, error) {
	values := url.Values{}
	for range maxFields {
		part, err := r.NextPart()
		if err == io.EOF {
			return values, nil
		}
		if err != nil {
			return nil, err
		}
		if part.FileName() != "" || part.FormName() == "file" {
			continue
		}
		value, err := io.ReadAll(part)
		if err != nil {
			return nil, err
		}
		values.Add(part.FormName(), string(value))
	}
	return nil, models.Errorf(models.CodeInvalid, "too_many_fields", "the form has more than %d fields", maxFields)
}

// badForm keeps the body's own refusals and calls the rest malformed.
func badForm(err error) error {
	if models.ErrorCode(err) != models.CodeInternal {
		return err
	}
	return &models.Error{Code: models.CodeInvalid, Name: "malformed_form", Detail: "the form could not be read", Err: err}
}
