package proc

import (
	"fmt"
	"io"
	"os"
	"time"
)

const (
	// defaultLogLimit keeps four logs of one worker within 128 MiB. ComfyUI writes some 100 kB an hour; a custom node
	// that prints every step writes megabytes.
	defaultLogLimit = 32 << 20
	defaultLogKeep  = 3
	// defaultLogEvery bounds how far beyond its limit a log grows.
	defaultLogEvery = 5 * time.Second
)

// rotation keeps a log within its limit: path, path.1 (newest old one) … path.<keep>.
type rotation struct {
	path  string
	limit int64
	keep  int
	every time.Duration
}

// apply rotates when the log is over its limit. The worker holds the file open and must not notice, so the log is
// copied and cut instead of renamed: it was opened for appending and goes on at the new end. A line that is written
// between the end of the copy and the cut is lost. When the copy fails (a full disk) the log is cut all the same:
// a bounded disk is worth more than old lines.
func (r rotation) apply() {
	info, err := os.Stat(r.path)
	if err != nil || info.Size() <= r.limit {
		return
	}
	for i := r.keep - 1; i >= 1; i-- {
		_ = os.Rename(r.old(i), r.old(i+1)) // a missing one is fine
	}
	if err := copyFile(r.path, r.old(1)); err != nil {
		_ = os.Remove(r.old(1))
	}
	_ = os.Truncate(r.path, 0)
}

func (r rotation) old(i int) string { return fmt.Sprintf("%s.%d", r.path, i) }

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(dst, src); err != nil {
		dst.Close()
		return err
	}
	return dst.Close()
}
