package storage_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"comfyfleet/app/storage"
	"comfyfleet/models"
)

func open(t *testing.T) (*storage.Store, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "deep", "blobs")
	s, err := storage.Open(t.Context(), "file:"+dir)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s, dir
}

func put(t *testing.T, s *storage.Store, id string, content []byte) storage.Blob {
	t.Helper()
	w, err := s.Create(t.Context(), id)
	require.NoError(t, err)
	defer w.Abort()
	_, err = io.Copy(w, bytes.NewReader(content))
	require.NoError(t, err)
	b, err := w.Commit()
	require.NoError(t, err)
	return b
}

// files are the paths of all files under dir, relative to it.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			found = append(found, rel)
		}
		return err
	}))
	return found
}

func TestCommittedBlobReadsBackWithSizeHashAndType(t *testing.T) {
	s, dir := open(t)
	png := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"), bytes.Repeat([]byte{7}, 100_000)...)
	id := uuid.NewString()
	b := put(t, s, id, png)

	sum := sha256.Sum256(png)
	assert.Equal(t, storage.Blob{ID: id, Size: int64(len(png)), SHA256: hex.EncodeToString(sum[:]), ContentType: "image/png"}, b)
	r, size, err := s.Open(t.Context(), id)
	require.NoError(t, err)
	defer r.Close()
	assert.EqualValues(t, len(png), size)
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	assert.Equal(t, png, got)
	assert.Equal(t, []string{filepath.Join(id[:2], id)}, files(t, dir), "the blob and nothing beside it")
}

func TestTypesAreSniffedFromContentAlone(t *testing.T) {
	s, _ := open(t)
	for content, want := range map[string]string{
		"":                     "text/plain",
		"plain words":          "text/plain; charset=utf-8",
		`{"a": [1, 2]}`:        "application/json",
		"GIF89a\x01\x00":       "image/gif",
		"\x00\x01\x02\x03\xff": "application/octet-stream",
		"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom": "video/mp4",
	} {
		assert.Equal(t, want, put(t, s, uuid.NewString(), []byte(content)).ContentType, "%q", content)
	}
}

func TestReaderSeeks(t *testing.T) {
	s, _ := open(t)
	id := uuid.NewString()
	put(t, s, id, []byte("0123456789"))
	r, _, err := s.Open(t.Context(), id)
	require.NoError(t, err)
	defer r.Close()

	end, err := r.Seek(0, io.SeekEnd)
	require.NoError(t, err)
	assert.EqualValues(t, 10, end)
	_, err = r.Seek(4, io.SeekStart)
	require.NoError(t, err)
	got, err := io.ReadAll(io.LimitReader(r, 3))
	require.NoError(t, err)
	assert.Equal(t, "456", string(got))
}

func TestAbortLeavesNothing(t *testing.T) {
	s, dir := open(t)
	w, err := s.Create(t.Context(), uuid.NewString())
	require.NoError(t, err)
	_, err = w.Write([]byte("half"))
	require.NoError(t, err)
	require.Len(t, files(t, dir), 1, "the bytes stream to disk while they are written")
	w.Abort()
	w.Abort()
	assert.Empty(t, files(t, dir))
	_, err = w.Commit()
	assert.Error(t, err, "what was aborted cannot be committed")
}

func TestAbortAfterCommitKeepsTheBlob(t *testing.T) {
	s, _ := open(t)
	id := uuid.NewString()
	put(t, s, id, []byte("kept")) // put defers Abort
	r, _, err := s.Open(t.Context(), id)
	require.NoError(t, err)
	require.NoError(t, r.Close())
}

func TestEndedContextAbortsTheWrite(t *testing.T) {
	s, dir := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	w, err := s.Create(ctx, uuid.NewString())
	require.NoError(t, err)
	_, err = w.Write([]byte("half"))
	require.NoError(t, err)
	cancel()
	_, err = w.Commit()
	require.ErrorIs(t, err, context.Canceled)
	assert.Empty(t, files(t, dir))
}

func TestUnknownAndIllFormedIDsAreNotFound(t *testing.T) {
	s, dir := open(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "secret"), []byte("x"), 0o600))
	valid := uuid.NewString()
	for _, id := range []string{
		valid, "", "../secret", "secret", "..", strings.ToUpper("abcdef00-0000-4000-8000-000000000000"),
		valid[:35] + "/", "..%2f" + valid[:31], valid + "0", strings.Repeat("-", 36),
	} {
		_, _, err := s.Open(t.Context(), id)
		assert.Equal(t, models.CodeNotFound, models.ErrorCode(err), "%q", id)
		assert.NoError(t, s.Delete(t.Context(), id), "%q", id)
		if id != valid {
			_, err = s.Create(t.Context(), id)
			assert.Error(t, err, "%q", id)
		}
	}
	assert.Equal(t, []string{"secret"}, files(t, dir))
}

func TestDeleteRemovesAllThatExist(t *testing.T) {
	s, dir := open(t)
	a, b := uuid.NewString(), uuid.NewString()
	put(t, s, a, []byte("a"))
	put(t, s, b, []byte("b"))
	require.NoError(t, s.Delete(t.Context(), a, uuid.NewString(), b))
	assert.Empty(t, files(t, dir))
}

func TestIDsListsOldBlobsAndRemovesCrashLeftovers(t *testing.T) {
	s, dir := open(t)
	old, young := uuid.NewString(), uuid.NewString()
	put(t, s, old, []byte("old"))
	put(t, s, young, []byte("young"))
	leftover := filepath.Join(dir, old[:2], old+".18a5f00d.tmp")
	require.NoError(t, os.WriteFile(leftover, []byte("half"), 0o600))
	writing := filepath.Join(dir, old[:2], old+".18a5f00e.tmp")
	require.NoError(t, os.WriteFile(writing, []byte("still being written"), 0o600))
	stranger := filepath.Join(dir, old[:2], "README")
	require.NoError(t, os.WriteFile(stranger, nil, 0o600))
	hourAgo := time.Now().Add(-time.Hour)
	for _, path := range []string{filepath.Join(dir, old[:2], old), leftover, stranger} {
		require.NoError(t, os.Chtimes(path, hourAgo, hourAgo))
	}

	var got []string
	require.NoError(t, s.IDs(t.Context(), time.Now().Add(-time.Minute), func(id string) error {
		got = append(got, id)
		return s.Delete(t.Context(), id)
	}))
	assert.Equal(t, []string{old}, got)
	assert.NoFileExists(t, leftover)
	assert.FileExists(t, writing)
	assert.FileExists(t, stranger, "files that are not ours stay")
	assert.FileExists(t, filepath.Join(dir, young[:2], young))
}

func TestIDsStopsWhenToldAndWhenTheContextEnds(t *testing.T) {
	s, _ := open(t)
	for range 5 {
		put(t, s, uuid.NewString(), []byte("x"))
	}
	stop := errors.New("enough")
	calls := 0
	err := s.IDs(t.Context(), time.Now().Add(time.Hour), func(string) error { calls++; return stop })
	assert.ErrorIs(t, err, stop)
	assert.Equal(t, 1, calls)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, s.IDs(ctx, time.Now(), func(string) error { return nil }), context.Canceled)
}

func TestFreeKnowsTheLocalDisk(t *testing.T) {
	s, _ := open(t)
	free, ok := s.Free(t.Context())
	assert.True(t, ok)
	assert.Positive(t, free)
}

func TestOpenRefusesAddressesItCannotServe(t *testing.T) {
	for _, url := range []string{"file:", "file://", "file://host/dir", "ftp://host/bucket", "nonsense"} {
		_, err := storage.Open(t.Context(), url)
		assert.Error(t, err, url)
	}
}

func TestManyWritersAtOnce(t *testing.T) {
	s, dir := open(t)
	const n = 40
	errs := make(chan error, n)
	for range n {
		go func() {
			w, err := s.Create(context.Background(), uuid.NewString())
			if err == nil {
				defer w.Abort()
				if _, err = w.Write([]byte("content")); err == nil {
					_, err = w.Commit()
				}
			}
			errs <- err
		}()
	}
	for range n {
		require.NoError(t, <-errs)
	}
	assert.Len(t, files(t, dir), n)
}

func TestDescribeSaysWhatABlobWouldBe(t *testing.T) {
	s, dir := open(t)
	for _, content := range [][]byte{nil, []byte("plain words"), append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"), bytes.Repeat([]byte{7}, 5000)...)} {
		id := uuid.NewString()
		assert.Equal(t, put(t, s, id, content), storage.Describe(id, content))
	}
	assert.Len(t, files(t, dir), 3)
}

func TestIDsGoesOnWhileFilesAreRenamed(t *testing.T) {
	s, _ := open(t)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			id := "ab" + uuid.NewString()[2:] // all in one shard
			w, err := s.Create(t.Context(), id)
			if err == nil {
				_, err = w.Commit()
			}
			if err == nil {
				err = s.Delete(t.Context(), id)
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for range 200 {
		assert.NoError(t, s.IDs(t.Context(), time.Now().Add(-time.Hour), func(string) error { return nil }))
	}
	close(stop)
	<-stopped
}
