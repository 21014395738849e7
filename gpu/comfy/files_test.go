package comfy

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"comfyfleet/gpu"
)

func TestAnUploadStreamsAndReturnsTheEnginesName(t *testing.T) {
	type part struct{ subfolder, kind, overwrite, name, content string }
	var got part
	reply := `{"name":"0 (1).png","subfolder":"job","type":"input"}`
	_, c := newEngine(t, map[string]http.HandlerFunc{"POST /upload/image": func(w http.ResponseWriter, r *http.Request) {
		f, h, err := r.FormFile("image")
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer f.Close()
		raw, _ := io.ReadAll(f)
		got = part{r.FormValue("subfolder"), r.FormValue("type"), r.FormValue("overwrite"), h.Filename, string(raw)}
		_, _ = io.WriteString(w, reply)
	}})
	name, err := c.Upload(t.Context(), "job", "0.png", strings.NewReader("bytes"))
	require.NoError(t, err)
	require.Equal(t, "job/0 (1).png", name)
	require.Equal(t, part{"job", "input", "true", "0.png", "bytes"}, got)

	reply = `{"name":"0.png","subfolder":"","type":"input"}`
	name, err = c.Upload(t.Context(), "", "0.png", strings.NewReader("bytes"))
	require.NoError(t, err)
	require.Equal(t, "0.png", name)

	reply = `{}`
	_, err = c.Upload(t.Context(), "", "0.png", strings.NewReader("bytes"))
	require.ErrorContains(t, err, "names no file")
	_, err = c.Upload(t.Context(), "", "a/0.png", strings.NewReader("bytes"))
	require.ErrorContains(t, err, "not a plain file name")
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestAFailedUploadSaysWhoseFaultItWas(t *testing.T) {
	e, c := newEngine(t, map[string]http.HandlerFunc{"POST /upload/image": func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		http.Error(w, "never finished", http.StatusInternalServerError)
	}})
	lost := errors.New("the blob is gone")
	_, err := c.Upload(t.Context(), "", "0.png", io.MultiReader(strings.NewReader("half"), failing{lost}))
	require.ErrorIs(t, err, lost)
	require.NotErrorIs(t, err, gpu.ErrUnreachable)

	// An engine that refuses at once, while we still send.
	e.route("POST /upload/image", says(413, "too large"))
	_, err = c.Upload(t.Context(), "", "0.png", io.LimitReader(zeros{}, 64<<20))
	require.Error(t, err)

	e.route("POST /upload/image", says(400, ""))
	_, err = c.Upload(t.Context(), "", "0.png", strings.NewReader("x"))
	require.ErrorContains(t, err, "400")
	require.NotErrorIs(t, err, gpu.ErrUnreachable)

	e.Close()
	_, err = c.Upload(t.Context(), "", "0.png", io.LimitReader(zeros{}, 1<<20))
	require.ErrorIs(t, err, gpu.ErrUnreachable)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestViewPassesTheSubfolderSeparately(t *testing.T) {
	e, c := newEngine(t, map[string]http.HandlerFunc{"GET /view": says(200, "picture")})
	body, size, err := c.View(t.Context(), gpu.FileRef{Filename: "a b_00001_.png", Subfolder: "at/x", Type: "temp"})
	require.NoError(t, err)
	raw, err := io.ReadAll(body)
	require.NoError(t, err)
	require.NoError(t, body.Close())
	require.Equal(t, "picture", string(raw))
	require.EqualValues(t, 7, size)
	require.Equal(t, "filename=a+b_00001_.png&subfolder=at%2Fx&type=temp", e.seen[0].query)
	body, _, err = c.View(t.Context(), gpu.FileRef{Filename: "x"})
	require.NoError(t, err)
	require.NoError(t, body.Close())
	require.Equal(t, "filename=x&subfolder=&type=output", e.seen[1].query)
}

func TestAMissingFileIsNotAnUnreachableEngine(t *testing.T) {
	_, c := newEngine(t, nil)
	_, _, err := c.View(t.Context(), gpu.FileRef{Filename: "x"})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NotErrorIs(t, err, gpu.ErrUnreachable)
}

func TestADownloadThatBreaksOffIsAnError(t *testing.T) {
	_, c := newEngine(t, map[string]http.HandlerFunc{"GET /view": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}})
	body, size, err := c.View(t.Context(), gpu.FileRef{Filename: "x"})
	require.NoError(t, err)
	require.EqualValues(t, 100, size)
	_, err = io.ReadAll(body)
	require.ErrorIs(t, err, gpu.ErrUnreachable)
	require.NoError(t, body.Close())
}

func TestADownloadEndsWithItsContext(t *testing.T) {
	hold := make(chan struct{})
	_, c := newEngine(t, map[string]http.HandlerFunc{"GET /view": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		<-hold
	}})
	defer close(hold)
	ctx, cancel := context.WithCancel(t.Context())
	body, _, err := c.View(ctx, gpu.FileRef{Filename: "x"})
	require.NoError(t, err)
	defer body.Close()
	_, err = io.ReadFull(body, make([]byte, 4))
	require.NoError(t, err)
	cancel()
	_, err = body.Read(make([]byte, 1))
	require.ErrorIs(t, err, context.Canceled)
}
