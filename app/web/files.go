package web

import (
	"archive/zip"
	"context"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/app/server"
	"comfyfleet/models"
)

// output serves one stored output, sandboxed: whatever a workflow made is a stranger's.
func (w *Web) output(c *fiber.Ctx) error {
	o, r, err := w.Jobs.OpenOutput(c.UserContext(), "", c.Params("id"))
	if err != nil {
		return err
	}
	return w.server.SendFile(c, server.File{
		Name: o.Filename, ContentType: o.ContentType, Size: o.Size, SHA256: o.SHA256, Modified: o.CreatedAt,
		Content: r, Download: c.Query("download") != "",
	})
}

// media serves one stored input medium.
func (w *Web) media(c *fiber.Ctx) error {
	a, r, err := w.Jobs.OpenMedia(c.UserContext(), "", c.Params("id"))
	if err != nil {
		return err
	}
	return w.server.SendFile(c, server.File{
		Name: shortID(a.ID), ContentType: a.ContentType, Size: a.Size, SHA256: a.SHA256, Modified: a.CreatedAt, Content: r,
	})
}

// zip sends all outputs of a job as one archive, made while it is sent. Nothing is compressed: pictures and videos
// already are.
func (w *Web) zip(c *fiber.Ctx) error {
	id := c.Params("id")
	outputs, err := w.Jobs.Outputs(c.UserContext(), "", id)
	if err != nil {
		return err
	}
	outputs = kept(outputs)
	if len(outputs) == 0 {
		return models.ErrNotFound("output")
	}
	c.Set(fiber.HeaderContentType, "application/zip")
	c.Set(fiber.HeaderContentDisposition, `attachment; filename="`+shortID(id)+`_outputs.zip"`)
	c.Context().SetBodyStream(w.archive(c.UserContext(), outputs), -1)
	return nil
}

// archive is a zip of the outputs as a stream. Its goroutine ends when all is written, or when the reader is closed.
func (w *Web) archive(ctx context.Context, outputs []models.Output) io.ReadCloser {
	r, pipe := io.Pipe()
	go func() {
		defer func() {
			if p := recover(); p != nil {
				w.Log.Error("archive of outputs", "panic", p, "stack", string(debug.Stack()))
				_ = pipe.CloseWithError(fmt.Errorf("archive: %v", p))
			}
		}()
		_ = pipe.CloseWithError(w.writeArchive(ctx, pipe, outputs)) // nil closes with EOF
	}()
	return r
}

func (w *Web) writeArchive(ctx context.Context, to io.Writer, outputs []models.Output) error {
	z := zip.NewWriter(to)
	for _, o := range outputs {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.addToArchive(ctx, z, o); err != nil {
			return err
		}
	}
	return z.Close()
}

func (w *Web) addToArchive(ctx context.Context, z *zip.Writer, o models.Output) error {
	r, err := w.Jobs.OpenContent(ctx, o)
	if err != nil {
		return err
	}
	defer r.Close()
	entry, err := z.CreateHeader(&zip.FileHeader{Name: o.Filename, Method: zip.Store, Modified: o.CreatedAt})
	if err != nil {
		return err
	}
	_, err = io.Copy(entry, r)
	return err
}
