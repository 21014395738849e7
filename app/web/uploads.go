package web

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"comfyfleet/app/storage"
	"comfyfleet/models"
)

const (
	// uploadLife is how long a chosen file waits for its form; each use begins it anew.
	uploadLife = 2 * time.Hour
	// maxUploads bounds what is waiting; the oldest goes first.
	maxUploads = 500
	// deleteLimit bounds the removal of an upload that nobody wants.
	deleteLimit = 10 * time.Second
)

// upload is a file that an operator chose and that no job has yet.
type upload struct {
	name string
	blob storage.Blob
	used time.Time
}

// uploads keeps chosen files between the choice and the run, and from one run to the next. A restart forgets them; the
// orphan sweep removes their blobs.
type uploads struct {
	blobs Blobs
	now   func() time.Time

	mu   sync.Mutex
	byID map[string]upload
}

func newUploads(b Blobs, now func() time.Time) *uploads {
	return &uploads{blobs: b, now: now, byID: map[string]upload{}}
}

// store writes r as a new upload of at most limit bytes.
func (u *uploads) store(ctx context.Context, id, name string, r io.Reader, limit int64) (upload, error) {
	w, err := u.blobs.Create(ctx, id)
	if err != nil {
		return upload{}, err
	}
	defer w.Abort()
	n, err := io.Copy(w, io.LimitReader(r, limit+1))
	switch {
	case err != nil:
		return upload{}, err
	case n > limit:
		return upload{}, models.Errorf(models.CodeTooLarge, "file_too_large", "the file is larger than %d MiB", limit>>20)
	case n == 0:
		return upload{}, models.Errorf(models.CodeInvalid, "file_empty", "the file is empty")
	}
	blob, err := w.Commit()
	if err != nil {
		return upload{}, err
	}
	up := upload{name: name, blob: blob, used: u.now()}
	u.add(ctx, id, up)
	return up, nil
}

func (u *uploads) add(ctx context.Context, id string, up upload) {
	u.mu.Lock()
	u.byID[id] = up
	var stale []string
	oldest := ""
	for id, x := range u.byID {
		if u.now().Sub(x.used) > uploadLife {
			stale = append(stale, id)
		} else if oldest == "" || x.used.Before(u.byID[oldest].used) {
			oldest = id
		}
	}
	if len(stale) == 0 && len(u.byID) > maxUploads {
		stale = append(stale, oldest)
	}
	for _, id := range stale {
		delete(u.byID, id)
	}
	u.mu.Unlock()
	if len(stale) > 0 {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteLimit)
		defer cancel()
		// What cannot be deleted now is found by the orphan sweep.
		_ = u.blobs.Delete(ctx, stale...)
	}
}

// get finds an upload.
func (u *uploads) get(id string) (upload, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	up, ok := u.byID[id]
	if !ok {
		return upload{}, models.Errorf(models.CodeNotFound, "upload_gone", "the chosen file is no longer here; choose it again")
	}
	up.used = u.now()
	u.byID[id] = up
	return up, nil
}

func (u *uploads) open(ctx context.Context, id string) (upload, io.ReadSeekCloser, error) {
	up, err := u.get(id)
	if err != nil {
		return upload{}, nil, err
	}
	r, _, err := u.blobs.Open(ctx, id)
	if err != nil {
		return upload{}, nil, errors.Join(models.Errorf(models.CodeNotFound, "upload_gone", "the chosen file is no longer here; choose it again"), err)
	}
	return up, r, nil
}
