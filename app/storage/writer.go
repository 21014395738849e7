package storage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"syscall"

	"gocloud.dev/blob"

	"comfyfleet/models"
)

// sniffLimit is how many of the first bytes decide the content type: as many as mimetype looks at.
const sniffLimit = 3072

// Writer writes one blob. It is used by one goroutine and ends with Commit, with Place and Sync, or
// with Abort.
type Writer struct {
	store  *Store
	id     string
	w      *blob.Writer
	cancel context.CancelFunc
	hash   hash.Hash
	head   []byte
	size   int64
	done   bool
}

// Create begins the blob id, a lower-case UUID. Nothing is visible until Commit or Place; the end of ctx before that is an abort.
func (s *Store) Create(ctx context.Context, id string) (*Writer, error) {
	if !validID(id) {
		return nil, fmt.Errorf("create blob: %q is no lower-case UUID", id)
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &Writer{store: s, id: id, cancel: cancel, hash: sha256.New()}
	inner, err := s.bucket.NewWriter(ctx, keyOf(id), &blob.WriterOptions{
		// Given, or the bucket would hold back the first bytes to guess it; ours is in the database.
		ContentType: "application/octet-stream",
	})
	if err != nil {
		cancel()
		return nil, fmt.Errorf("create blob %s: %w", id, whenFull(err))
	}
	w.w = inner
	return w, nil
}

// Write adds bytes. A full disk is CodeFull.
func (w *Writer) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.hash.Write(p[:n])
	if room := sniffLimit - len(w.head); room > 0 {
		w.head = append(w.head, p[:min(n, room)]...)
	}
	w.size += int64(n)
	if err != nil {
		return n, fmt.Errorf("write blob %s: %w", w.id, whenFull(err))
	}
	return n, nil
}

// Commit makes the blob exist, durably, and says what it is. After an error nothing exists.
func (w *Writer) Commit() (Blob, error) {
	b, err := w.Place()
	if err == nil {
		err = w.Sync()
	}
	if err != nil {
		return Blob{}, err
	}
	return b, nil
}

// Place makes the blob exist and says what it is. Until Sync a power loss may take it back: nobody may be told of it.
// After an error nothing exists.
func (w *Writer) Place() (Blob, error) {
	if w.done {
		return Blob{}, fmt.Errorf("commit blob %s: it has ended", w.id)
	}
	w.done = true
	err := w.w.Close()
	w.cancel()
	if err != nil {
		return Blob{}, fmt.Errorf("commit blob %s: %w", w.id, whenFull(err))
	}
	return Blob{
		ID:          w.id,
		Size:        w.size,
		SHA256:      hex.EncodeToString(w.hash.Sum(nil)),
		ContentType: typeOf(w.head),
	}, nil
}

// Sync makes a blob that was placed durable. After an error nothing exists.
//
// It comes after the rename, so that one write of the file system's journal takes bytes and name. What a power loss leaves
// of a name that nobody knows is swept up.
func (w *Writer) Sync() error {
	if w.store.local == nil {
		return nil
	}
	if err := w.store.local.sync(keyOf(w.id), shardOf(w.id)); err != nil {
		return errors.Join(fmt.Errorf("commit blob %s: %w", w.id, whenFull(err)), w.store.Delete(context.Background(), w.id))
	}
	return nil
}

// Abort gives up and leaves nothing. After Commit or Place, or a second time, it does nothing: defer it.
func (w *Writer) Abort() {
	if w.done {
		return
	}
	w.done = true
	w.cancel() // a writer whose context has ended removes its file instead of renaming it
	_ = w.w.Close()
}

// whenFull makes a full disk an answer that clients can act on.
func whenFull(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return &models.Error{Code: models.CodeFull, Detail: "the service's storage is full; try again later", Err: err}
	}
	return err
}
