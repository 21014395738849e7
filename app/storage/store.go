package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v4/disk"
	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	"gocloud.dev/gcerrors"
)

// Store is a bucket of blobs. It is safe for concurrent use.
type Store struct {
	bucket *blob.Bucket
	// local is the directory behind a file: address, nil for a bucket elsewhere.
	local *directory
}

// Open opens the store at url: "file:/absolute/dir" or "file:relative/dir", made when absent and readable by its owner
// only; or the address of any other bucket whose driver is compiled in.
func Open(ctx context.Context, url string) (*Store, error) {
	path, ok := strings.CutPrefix(url, "file:")
	if !ok {
		bucket, err := blob.OpenBucket(ctx, url)
		if err != nil {
			return nil, fmt.Errorf("open storage: %w", err)
		}
		return &Store{bucket: bucket}, nil
	}
	if rest, authority := strings.CutPrefix(path, "//"); authority {
		if !strings.HasPrefix(rest, "/") {
			return nil, fmt.Errorf("open storage: %q names another host; write file:/absolute/dir", url)
		}
		path = rest
	}
	if path == "" {
		return nil, fmt.Errorf("open storage: %q names no directory", url)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open storage: %w", err)
	}
	bucket, err := fileblob.OpenBucket(path, &fileblob.Options{
		CreateDir:   true,
		DirFileMode: 0o700,
		// Next to the final place, so that the rename never crosses file systems.
		NoTempDir: true,
		// Type and hash are in the database; a second file for each blob would have to be made durable too.
		Metadata: fileblob.MetadataDontWrite,
	})
	if err != nil {
		return nil, fmt.Errorf("open storage: %w", err)
	}
	local, err := openDirectory(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open storage: %w", whenFull(err)), bucket.Close())
	}
	return &Store{bucket: bucket, local: local}, nil
}

// Close releases the store. Readers and writers must be closed before.
func (s *Store) Close() error { return s.bucket.Close() }

// Open opens a blob from its beginning and tells its size in bytes. The reader seeks; it lives as long as ctx.
// An unknown id is CodeNotFound.
func (s *Store) Open(ctx context.Context, id string) (io.ReadSeekCloser, int64, error) {
	if !validID(id) {
		return nil, 0, errNoBlob()
	}
	r, err := s.bucket.NewReader(ctx, keyOf(id), nil)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil, 0, errNoBlob()
	}
	if err != nil {
		return nil, 0, fmt.Errorf("open blob %s: %w", id, err)
	}
	return r, r.Size(), nil
}

// Delete removes blobs. One that is missing is fine; one that cannot be removed does not stop the others.
func (s *Store) Delete(ctx context.Context, ids ...string) error {
	var errs []error
	for _, id := range ids {
		if !validID(id) {
			continue // never stored
		}
		err := s.bucket.Delete(ctx, keyOf(id))
		if err != nil && gcerrors.Code(err) != gcerrors.NotFound {
			errs = append(errs, fmt.Errorf("delete blob %s: %w", id, err))
		}
	}
	return errors.Join(errs...)
}

// Free is how many bytes the disk under the store still takes from us. ok is false when that cannot be known: the
// store is not local.
func (s *Store) Free(ctx context.Context) (bytes uint64, ok bool) {
	if s.local == nil {
		return 0, false
	}
	usage, err := disk.UsageWithContext(ctx, s.local.path)
	if err != nil {
		return 0, false
	}
	return usage.Free, true
}

// relist is how often a shard is listed again in which a file was renamed or deleted meanwhile: the local driver gives up then.
const relist = 10

// IDs calls fn with the id of every blob that was last written before older, of some twice, until fn fails. fn may delete the
// blob.
// On its way it removes what crashes left half written and is as old. The caller chooses older so far back that no
// writer can still be at work on it, and that what was committed had the time to reach the database.
func (s *Store) IDs(ctx context.Context, older time.Time, fn func(id string) error) error {
	// One shard at a time: a local listing walks what its prefix selects again for every page.
	for n := range shards {
		err := s.shardIDs(ctx, shardName(n)+"/", older, fn)
		for again := 0; again < relist && gcerrors.Code(err) == gcerrors.NotFound; again++ {
			err = s.shardIDs(ctx, shardName(n)+"/", older, fn)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) shardIDs(ctx context.Context, prefix string, older time.Time, fn func(id string) error) error {
	list := s.bucket.List(&blob.ListOptions{Prefix: prefix})
	for {
		if err := ctx.Err(); err != nil {
			return err // the local driver does not look
		}
		object, err := list.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list blobs %s: %w", prefix, err)
		}
		if object.IsDir || !object.ModTime.Before(older) {
			continue
		}
		if id := idOf(object.Key); id != "" {
			if err := fn(id); err != nil {
				return err
			}
			continue
		}
		if s.local != nil && isLeftover(object.Key) {
			if err := s.bucket.Delete(ctx, object.Key); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
				return fmt.Errorf("remove leftover %s: %w", object.Key, err)
			}
		}
	}
}
