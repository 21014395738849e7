package comfy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"time"

	"comfyfleet/gpu"
)

const (
	// uploadWait caps one upload: 50 MB over a slow link to an attached engine.
	uploadWait = 10 * time.Minute
	// viewStall ends a download in which nothing has come for so long; a download as a whole may take any time.
	viewStall = time.Minute
)

var (
	errStalled = errors.New("nothing came for a minute")
	// errUnread ends the writing side of an upload when the engine has answered without reading all of it.
	errUnread = errors.New("the engine did not read all of it")
)

// Upload asks POST /upload/image, which takes any kind of file, and streams r. An existing file of that name is
// replaced. r is not read any more when Upload returns.
func (c *Client) Upload(ctx context.Context, subfolder, name string, r io.Reader) (string, error) {
	if name == "" || strings.ContainsAny(name, `/\`) {
		return "", fmt.Errorf("upload: %q is not a plain file name", name)
	}
	ctx, cancel := context.WithTimeout(ctx, uploadWait)
	defer cancel()
	in, out := io.Pipe()
	form := multipart.NewWriter(out)
	written := make(chan error, 1)
	go func() {
		err := writeForm(form, subfolder, name, r)
		out.CloseWithError(err) // nil ends the body
		written <- err
	}()
	stored, err := c.upload(ctx, form.FormDataContentType(), in)
	in.CloseWithError(errUnread) // ends the writer if it still writes
	werr := <-written
	if werr == nil || errors.Is(werr, io.ErrClosedPipe) || errors.Is(werr, errUnread) && err != nil {
		return stored, err
	}
	return "", fmt.Errorf("upload %s: %w", name, werr) // reading r failed, which is not the engine's fault
}

func writeForm(form *multipart.Writer, subfolder, name string, r io.Reader) error {
	for _, f := range [][2]string{{"type", "input"}, {"overwrite", "true"}, {"subfolder", subfolder}} {
		if err := form.WriteField(f[0], f[1]); err != nil {
			return err
		}
	}
	part, err := form.CreateFormFile("image", name)
	if err != nil {
		return err
	}
	if _, err := io.Copy(part, r); err != nil {
		return err
	}
	return form.Close()
}

func (c *Client) upload(ctx context.Context, contentType string, body io.Reader) (string, error) {
	const path = "/upload/image"
	req, err := c.request(ctx, http.MethodPost, path, nil, body)
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := c.files.Do(req)
	if err != nil {
		return "", unreachable(http.MethodPost, path, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", newStatusError(http.MethodPost, path, resp)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, smallLimit))
	if err != nil {
		return "", unreachable(http.MethodPost, path, err)
	}
	var stored struct {
		Name      string `json:"name"`
		Subfolder string `json:"subfolder"`
	}
	if err := decode(raw, &stored); err != nil || stored.Name == "" {
		return "", errors.Join(errors.New("POST /upload/image: the reply names no file"), err)
	}
	if stored.Subfolder == "" {
		return stored.Name, nil
	}
	return stored.Subfolder + "/" + stored.Name, nil
}

// View asks GET /view. The subfolder goes separately: of filename the engine only uses what follows the last slash. A
// missing file is fs.ErrNotExist. The caller closes the body.
func (c *Client) View(ctx context.Context, f gpu.FileRef) (io.ReadCloser, int64, error) {
	const path = "/view"
	q := url.Values{"filename": {f.Filename}, "subfolder": {f.Subfolder}, "type": {f.Type}}
	if f.Type == "" {
		q.Set("type", "output")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stall := time.AfterFunc(viewStall, func() { cancel(errStalled) })
	give := func(err error) (io.ReadCloser, int64, error) {
		stall.Stop()
		cancel(nil)
		return nil, 0, err
	}
	req, err := c.request(ctx, http.MethodGet, path, q, nil)
	if err != nil {
		return give(err)
	}
	resp, err := c.files.Do(req)
	if err != nil {
		return give(unreachable(http.MethodGet, path, err))
	}
	if resp.StatusCode != http.StatusOK {
		err := newStatusError(http.MethodGet, path, resp)
		resp.Body.Close()
		return give(err)
	}
	return &download{body: resp.Body, ctx: ctx, cancel: cancel, stall: stall}, resp.ContentLength, nil
}

// download is a body that ends when nothing comes any more.
type download struct {
	body   io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	stall  *time.Timer
}

func (d *download) Read(p []byte) (int, error) {
	d.stall.Reset(viewStall)
	n, err := d.body.Read(p)
	d.stall.Stop() // a reader that takes its time is not the engine's fault
	if err != nil && err != io.EOF {
		if cause := context.Cause(d.ctx); cause != nil {
			err = cause
		}
		err = unreachable(http.MethodGet, "/view", err)
	}
	return n, err
}

func (d *download) Close() error {
	d.stall.Stop()
	d.cancel(nil)
	return d.body.Close()
}
