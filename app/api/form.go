package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"slices"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/app/jobs"
	"comfyfleet/models"
)

// formFields are the parts of a form that are fields of the request. "request" is the whole JSON body at once; the others
// add to it. Each may come as a file, so that curl -F workflow=@graph.json works.
var formFields = append([]string{"request"}, slices.Sorted(maps.Keys(new(request).fields()))...)

// formBoundary is the boundary of a multipart/form-data body.
func formBoundary(contentType string) (string, bool) {
	kind, params, err := mime.ParseMediaType(contentType)
	return params["boundary"], err == nil && kind == "multipart/form-data" && params["boundary"] != ""
}

// readForm reads a submission from multipart/form-data. A file's media name is the name of its part; a part named "media"
// is called by its file name instead.
func readForm(body io.Reader, boundary string, ups *uploads) (jobs.Submission, error) {
	f := form{ups: ups, fields: map[string]json.RawMessage{}, left: maxRest}
	parts := multipart.NewReader(body, boundary)
	for {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return jobs.Submission{}, malformedForm(err)
		}
		if err := f.part(part); err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) {
				err = malformedForm(err)
			}
			return jobs.Submission{}, err
		}
	}
	// What follows the last boundary belongs to nobody; reading it keeps the connection.
	if _, err := io.Copy(io.Discard, body); err != nil {
		return jobs.Submission{}, err
	}
	return f.submission()
}

// form is a multipart body as far as it has been read.
type form struct {
	ups    *uploads
	fields map[string]json.RawMessage
	files  []jobs.Media
	left   int64 // bytes that fields may still take
}

func (f *form) part(p *multipart.Part) error {
	_, params, err := mime.ParseMediaType(p.Header.Get("Content-Disposition"))
	if err != nil || params["name"] == "" {
		return models.Errorf(models.CodeInvalid, "malformed_form", "a part of the form has no name")
	}
	// Part.FileName would cut directories off; media names are opaque.
	name, file := params["name"], params["filename"]
	_, isFile := params["filename"]
	switch {
	case name == "media" && isFile:
		return f.file(p, file)
	case slices.Contains(formFields, name):
		return f.field(p, name)
	case isFile:
		return f.file(p, name)
	}
	return models.FieldErrorf(models.CodeInvalid, "unknown_part", name, "is no field of this request, and no file")
}

func (f *form) file(p io.Reader, name string) error {
	field := fmt.Sprintf("media[%d]", len(f.files))
	if len(f.files) == jobs.MaxMedia {
		return models.FieldErrorf(models.CodeInvalid, "too_many_media", field, "is one file too many: at most %d", jobs.MaxMedia)
	}
	w, err := f.ups.create()
	if err != nil {
		return err
	}
	n, err := io.Copy(&capped{w: w, left: jobs.MaxMediaBytes, field: field}, p)
	if err != nil {
		return err
	}
	m := jobs.Media{Name: name}
	if n > 0 {
		if m.Blob, err = f.ups.keep(w); err != nil {
			return err
		}
	}
	f.files = append(f.files, m)
	return nil
}

// field reads a field of the request. Texts may come bare, as forms send them.
func (f *form) field(p io.Reader, name string) error {
	if _, twice := f.fields[name]; twice {
		return models.FieldErrorf(models.CodeInvalid, "field_twice", name, "came twice")
	}
	b, err := io.ReadAll(io.LimitReader(p, f.left+1))
	if err != nil {
		return err
	}
	if f.left -= int64(len(b)); f.left < 0 {
		return models.Errorf(models.CodeTooLarge, "body_too_large", "without its media the body may have %d MiB", maxRest>>20)
	}
	if name == "workflow_id" || name == "webhook_url" {
		b, err = json.Marshal(string(b))
		if err != nil {
			return err
		}
	}
	if !json.Valid(b) {
		return models.FieldErrorf(models.CodeInvalid, "malformed_json", name, "is not JSON")
	}
	f.fields[name] = b
	return nil
}

// submission puts the fields together. Base64 has no place in media of a form: files are parts.
func (f *form) submission() (jobs.Submission, error) {
	var r request
	if whole, ok := f.fields["request"]; ok {
		if err := unmarshal(whole, &r, "request"); err != nil {
			return jobs.Submission{}, err
		}
	}
	for name, into := range r.fields() {
		value, ok := f.fields[name]
		if !ok {
			continue
		}
		if err := unmarshal(value, into, name); err != nil {
			return jobs.Submission{}, err
		}
	}
	sub, err := r.submission(nil, f.ups)
	if err != nil {
		return sub, err
	}
	sub.Media = append(sub.Media, f.files...)
	return sub, nil
}

// malformedForm is err in the API's words, unless it is one of the body's own: too large, too slow, cut off.
func malformedForm(err error) error {
	var ours *models.Error
	var http *fiber.Error
	if errors.As(err, &ours) || errors.As(err, &http) {
		return err
	}
	return models.Errorf(models.CodeInvalid, "malformed_form", "the form is not multipart/form-data to its end")
}
