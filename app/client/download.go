package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"
)

// downloadTries is how often an output is fetched before giving up on it.
const downloadTries = 4

// Download writes an output of a job to a file in dir and answers its path. It is written beside its place and moved
// there when size and hash are right, so that what has the name is whole. A file that is there already is replaced.
func (c *Client) Download(ctx context.Context, jobID string, o Output, dir string) (path string, err error) {
	if o.URL == "" {
		return "", fmt.Errorf("output %s has no address", o.Filename)
	}
	path = filepath.Join(dir, fileName(jobID, o.Filename))
	for try := 1; ; try++ {
		err = c.retry(ctx, func() error { return c.fetch(ctx, o, path) })
		if !errors.Is(err, errIncomplete) || try == downloadTries {
			break
		}
		if err := c.pause(ctx, time.Duration(try)*firstPause); err != nil {
			return "", err
		}
	}
	if err != nil {
		return "", fmt.Errorf("output %s: %w", o.Filename, err)
	}
	return path, nil
}

// errIncomplete marks a download that did not arrive as it was sent.
var errIncomplete = errors.New("incomplete")

func (c *Client) fetch(ctx context.Context, o Output, path string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := c.request(ctx, http.MethodGet, o.URL, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return readProblem(resp)
	}
	part, err := os.Create(path + ".part")
	if err != nil {
		return &localError{err}
	}
	defer os.Remove(part.Name()) // gone already when all went well
	defer part.Close()
	watchdog := time.AfterFunc(silence, cancel)
	defer watchdog.Stop()
	sum := sha256.New()
	body := patient{resp.Body, watchdog}
	n, err := io.Copy(io.MultiWriter(local{part}, sum), body)
	var ours *localError
	switch {
	case errors.As(err, &ours):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", errIncomplete, err)
	case n != o.Size:
		return fmt.Errorf("%w: %d of %d bytes", errIncomplete, n, o.Size)
	case o.SHA256 != "" && hex.EncodeToString(sum.Sum(nil)) != strings.ToLower(o.SHA256):
		return fmt.Errorf("%w: its SHA-256 is wrong", errIncomplete)
	}
	if err := part.Close(); err != nil {
		return &localError{err}
	}
	if err := os.Rename(part.Name(), path); err != nil {
		return &localError{err}
	}
	return nil
}

// local marks write errors as ours: a full disk is no reason to ask again.
type local struct{ w io.Writer }

func (l local) Write(p []byte) (int, error) {
	n, err := l.w.Write(p)
	if err != nil {
		err = &localError{err}
	}
	return n, err
}

// patient winds up a watchdog for every piece that arrives.
type patient struct {
	r        io.Reader
	watchdog *time.Timer
}

func (p patient) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.watchdog.Reset(silence)
	return n, err
}

// fileName makes a name of ours from the server's: its last element, with the job's first characters before it so that
// outputs of several jobs can lie in one directory.
func fileName(jobID, name string) string {
	name = filepath.Base(strings.ReplaceAll(name, `\`, "/"))
	name = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || strings.ContainsRune(`:*?"<>|`, r) {
			return '_'
		}
		return r
	}, name)
	if strings.Trim(name, "./ ") == "" {
		name = "output"
	}
	first := filepath.Base(jobID[:min(8, len(jobID))])
	if strings.HasPrefix(name, first+"_") {
		return name
	}
	return first + "_" + name
}
