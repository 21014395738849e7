package web

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/app/jobs"
	"comfyfleet/app/server"
	"comfyfleet/app/storage"
	"comfyfleet/models"
	"comfyfleet/views"
	"comfyfleet/workflows"
)

// formOverhead is what a multipart form may add to the file in it.
const formOverhead = 64 << 10

// A media reference is how a form names an input file that is on the server: upload:<id>, asset:<id> of an earlier job,
// or sample:<slug>/<name> of a bundled workflow. Each run copies it, so that it can be used again.
const (
	refUpload = "upload:"
	refAsset  = "asset:"
	refSample = "sample:"
)

// uploadMedia takes a chosen file and answers its field, with the file in it or with what was wrong.
func (w *Web) uploadMedia(c *fiber.Ctx) error {
	if err := checkToken(c, ""); err != nil {
		return err
	}
	field := mediaField(c.Query("field"), c.Query("label"), c.Query("type"))
	id := w.NewID()
	name, err := w.takeFile(c, func(name string, r io.Reader) error {
		_, err := w.uploads.store(c.UserContext(), id, name, r, jobs.MaxMediaBytes)
		return err
	})
	if err != nil {
		if server.ProblemOf(err).Status >= 500 {
			return err
		}
		field.Problem = reason(err)
		return send(c, views.MediaField(field))
	}
	return send(c, views.MediaField(w.withRef(c.UserContext(), field, refUpload+id, name)))
}

// takeFile hands the one file of a multipart body to take, as it arrives.
func (w *Web) takeFile(c *fiber.Ctx, take func(name string, r io.Reader) error) (name string, err error) {
	body, err := w.server.Body(c, jobs.MaxMediaBytes+formOverhead)
	if err != nil {
		return "", err
	}
	kind, params, err := mime.ParseMediaType(c.Get(fiber.HeaderContentType))
	if err != nil || kind != fiber.MIMEMultipartForm {
		return "", models.Errorf(models.CodeInvalid, "malformed_form", "a file must come as multipart/form-data")
	}
	parts := multipart.NewReader(body, params["boundary"])
	for range maxFields {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", badForm(err)
		}
		if part.FileName() == "" {
			continue
		}
		name = path.Base(strings.ReplaceAll(part.FileName(), `\`, "/"))
		if err := take(name, part); err != nil {
			return "", err
		}
		_, err = io.Copy(io.Discard, body) // what follows belongs to nobody; reading it keeps the connection
		return name, err
	}
	return "", models.Errorf(models.CodeInvalid, "no_file", "choose a file first")
}

// mediaField is an empty field for an input file.
func mediaField(key, label, kind string) views.Media {
	m := views.Media{Field: key, Label: label, Accept: accepts(kind)}
	q := url.Values{"field": {key}, "label": {label}, "type": {kind}}.Encode()
	m.Upload, m.Empty = "/run/media?"+q, "/run/media-field?"+q
	return m
}

func accepts(kind string) string {
	switch kind {
	case workflows.TypeImage, workflows.TypeMask:
		return "image/*"
	case workflows.TypeVideo:
		return "video/*"
	case workflows.TypeAudio:
		return "audio/*"
	}
	return ""
}

// withRef puts a file into a field.
func (w *Web) withRef(ctx context.Context, m views.Media, ref, name string) views.Media {
	r, info, err := w.openRef(ctx, ref)
	if err != nil {
		m.Problem = reason(err)
		return m
	}
	r.Close()
	if name == "" {
		name = info.name
	}
	m.Ref, m.Name, m.Meta = ref, name, size(info.size)
	m.Kind, _, _ = strings.Cut(info.contentType, "/")
	m.Preview = info.url
	return m
}

// refInfo is what is known of a referenced file.
type refInfo struct {
	name        string
	size        int64
	contentType string
	url         string
}

// openRef opens a referenced file.
func (w *Web) openRef(ctx context.Context, ref string) (io.ReadCloser, refInfo, error) {
	if id, ok := strings.CutPrefix(ref, refUpload); ok {
		up, r, err := w.uploads.open(ctx, id)
		return r, refInfo{up.name, up.blob.Size, up.blob.ContentType, "/run/media/" + id}, err
	}
	if id, ok := strings.CutPrefix(ref, refAsset); ok {
		a, r, err := w.Jobs.OpenMedia(ctx, "", id)
		return r, refInfo{shortID(a.ID), a.Size, a.ContentType, "/media/" + a.ID}, err
	}
	if at, ok := strings.CutPrefix(ref, refSample); ok {
		slug, name, _ := strings.Cut(at, "/")
		if b, ok := w.samples[slug][name]; ok {
			return io.NopCloser(bytes.NewReader(b)), refInfo{name, int64(len(b)), http.DetectContentType(b), "/run/sample/" + slug + "/" + url.PathEscape(name)}, nil
		}
	}
	return nil, refInfo{}, models.Errorf(models.CodeNotFound, "upload_gone", "the chosen file is no longer here; choose it again")
}

// copyRef makes a blob for a job of a referenced file.
func (w *Web) copyRef(ctx context.Context, ref string) (storage.Blob, error) {
	r, _, err := w.openRef(ctx, ref)
	if err != nil {
		return storage.Blob{}, err
	}
	defer r.Close()
	out, err := w.Blobs.Create(ctx, w.NewID())
	if err != nil {
		return storage.Blob{}, err
	}
	defer out.Abort()
	if _, err := io.Copy(out, r); err != nil {
		return storage.Blob{}, err
	}
	return out.Commit()
}

// emptyMedia is a field whose file was taken away.
func (w *Web) emptyMedia(c *fiber.Ctx) error {
	return send(c, views.MediaField(mediaField(c.Query("field"), c.Query("label"), c.Query("type"))))
}

// showUpload serves a chosen file to the page that chose it.
func (w *Web) showUpload(c *fiber.Ctx) error {
	up, r, err := w.uploads.open(c.UserContext(), c.Params("id"))
	if err != nil {
		return err
	}
	return w.server.SendFile(c, server.File{
		Name: up.name, ContentType: up.blob.ContentType, Size: up.blob.Size, SHA256: up.blob.SHA256, Modified: up.used, Content: r,
	})
}

// showSample serves the sample input of a bundled workflow.
func (w *Web) showSample(c *fiber.Ctx) error {
	name, err := url.PathUnescape(c.Params("name"))
	if err != nil {
		return models.ErrNotFound("sample")
	}
	b, ok := w.samples[c.Params("slug")][name]
	if !ok {
		return models.ErrNotFound("sample")
	}
	c.Set(fiber.HeaderContentType, http.DetectContentType(b))
	return c.Send(b)
}
