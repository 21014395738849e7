package comfy

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"

	"comfyfleet/gpu"
)

// errTooLarge is an answer beyond its limit.
var errTooLarge = errors.New("the answer is too large")

// ErrHistoryBroken is what errors.Is finds in a *HistoryError.
var ErrHistoryBroken = errors.New("the engine cannot tell the prompt's history")

// HistoryError says that the engine has a history entry of the prompt but cannot send it: a node returned UI data that
// is not JSON (the engine answers 500 until the entry is deleted), or megabytes of it. The prompt has ended; its
// outputs cannot be learned. It does not wrap gpu.ErrUnreachable. Callers that do not import this package ask for the
// method HistoryBroken.
type HistoryError struct {
	PromptID string
	// Reason is for the log.
	Reason string
}

func (e *HistoryError) Error() string { return ErrHistoryBroken.Error() + ": " + e.Reason }

// HistoryBroken is true.
func (e *HistoryError) HistoryBroken() bool { return true }

func (e *HistoryError) Unwrap() error { return ErrHistoryBroken }

// statusError is an answer other than 200.
type statusError struct {
	method string
	path   string
	code   int
	body   []byte // at most smallLimit
}

func newStatusError(method, path string, resp *http.Response) *statusError {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, smallLimit)) // what cannot be read is not needed
	return &statusError{method: method, path: path, code: resp.StatusCode, body: body}
}

func (e *statusError) Error() string {
	text := clip(strings.TrimSpace(string(e.body)), 200)
	return strings.TrimSuffix(fmt.Sprintf("%s %s: the engine answered %d %s: %s", e.method, e.path, e.code,
		http.StatusText(e.code), text), ": ")
}

// Unwrap: after a 5xx nothing is known about what the engine did (it answers 500 to a prompt that it has queued); a 404
// means that a file or route does not exist.
func (e *statusError) Unwrap() error {
	switch {
	case e.code >= http.StatusInternalServerError:
		return gpu.ErrUnreachable
	case e.code == http.StatusNotFound:
		return fs.ErrNotExist
	}
	return nil
}

// unreachable marks an error of the transport.
func unreachable(method, path string, err error) error {
	return fmt.Errorf("%s %s: %w: %w", method, path, gpu.ErrUnreachable, err)
}

// clip shortens a text to at most n bytes, without cutting a character.
func clip(s string, n int) string {
	if len(s) <= n {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	return strings.ToValidUTF8(s[:n], "") + " …"
}
