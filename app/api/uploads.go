package api

import (
	"context"
	"io"
	"time"

	"comfyfleet/app/storage"
	"comfyfleet/models"
)

// uploads are the blobs of one request while it is being read. A refused request leaves none of them behind.
type uploads struct {
	ctx    context.Context
	blobs  Blobs
	newID  func() string
	open   []BlobWriter
	stored []string
}

func newUploads(ctx context.Context, b Blobs, newID func() string) *uploads {
	return &uploads{ctx: ctx, blobs: b, newID: newID}
}

// create begins a blob.
func (u *uploads) create() (BlobWriter, error) {
	w, err := u.blobs.Create(u.ctx, u.newID())
	if err != nil {
		return nil, err
	}
	u.open = append(u.open, w)
	return w, nil
}

// keep commits what was written to w, which create made.
func (u *uploads) keep(w io.Writer) (*storage.Blob, error) {
	b, err := w.(BlobWriter).Commit()
	if err != nil {
		return nil, err
	}
	u.stored = append(u.stored, b.ID)
	return &b, nil
}

// handOver gives the committed blobs to somebody else.
func (u *uploads) handOver() { u.stored = nil }

// discard drops everything that was not handed over.
func (u *uploads) discard() {
	for _, w := range u.open {
		w.Abort()
	}
	if len(u.stored) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(u.ctx), 10*time.Second)
	defer cancel()
	// What cannot be deleted now is found by the orphan sweep.
	_ = u.blobs.Delete(ctx, u.stored...)
}

// capped writes at most left bytes of a file to w.
type capped struct {
	w     io.Writer
	left  int64
	field string
}

func (c *capped) Write(p []byte) (int, error) {
	if c.left -= int64(len(p)); c.left < 0 {
		return 0, errMediaTooLarge(c.field)
	}
	return c.w.Write(p)
}

func errMediaTooLarge(field string) error {
	return models.FieldErrorf(models.CodeInvalid, "media_too_large", field, "is larger than 50 MiB; send a smaller file")
}
