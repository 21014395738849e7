package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"comfyfleet/models"
)

// fetchLimit bounds all media downloads of one request together: the guide's client gives up after 30 s.
const fetchLimit = 20 * time.Second

// fetch is one medium to download before the job is accepted.
type fetch struct {
	field string // of the request, for errors
	url   string
	index int // in draft.media
}

// fetchMedia downloads what the request gave by URL, side by side. The first bad one refuses the request.
func (s *Service) fetchMedia(ctx context.Context, d *draft) error {
	if len(d.fetches) == 0 {
		return nil
	}
	// Ids are fixed before anything is written, so that a refusal finds what a sibling had stored.
	for i := range d.fetches {
		id := s.NewID()
		d.media[d.fetches[i].index].AssetID = id
		d.blobs = append(d.blobs, id)
	}
	limited, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	group, gctx := errgroup.WithContext(limited)
	for _, f := range d.fetches {
		group.Go(func() error {
			if err := s.fetchOne(gctx, f, &d.media[f.index]); err != nil {
				return inField(err, f.field)
			}
			return nil
		})
	}
	err := group.Wait()
	if err != nil && errors.Is(limited.Err(), context.DeadlineExceeded) {
		return models.FieldErrorf(models.CodeInvalid, "media_fetch_timeout", "media", "the downloads took longer than %s together; send data instead of url", fetchLimit)
	}
	return err
}

func (s *Service) fetchOne(ctx context.Context, f fetch, ref *models.MediaRef) error {
	w, err := s.Blobs.Create(ctx, ref.AssetID)
	if err != nil {
		return fmt.Errorf("store media: %w", err)
	}
	defer w.Abort()
	got, err := s.Outbound.Fetch(ctx, f.url, w, MaxMediaBytes)
	if err != nil {
		return err
	}
	blob, err := w.Commit()
	if err != nil {
		return fmt.Errorf("store media: %w", err)
	}
	ref.Size, ref.SHA256, ref.ContentType = blob.Size, blob.SHA256, blob.ContentType
	if ref.ContentType == "" {
		ref.ContentType = got.ContentType
	}
	return nil
}
