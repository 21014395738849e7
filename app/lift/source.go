package lift

import (
	"io"
	"sync"
)

// windowSize is how much of the document is looked at at once.
const windowSize = 64 << 10

// source reads a document window by window and counts it.
type source struct {
	r        io.Reader
	buf      *[windowSize]byte
	pos, end int
	left     int64 // bytes that may still come
	limit    int64
	err      error // what ends the document after the window
}

// windows are used again: one for each request would be most of what small requests allocate.
var windows = sync.Pool{New: func() any { return new([windowSize]byte) }}

func newSource(r io.Reader, limit int64) *source {
	return &source{r: r, buf: windows.Get().(*[windowSize]byte), left: limit, limit: limit}
}

// close gives the window back; nothing of it may be used after that.
func (s *source) close() { windows.Put(s.buf) }

// window is the unread bytes in memory, at least one, or why there are none: io.EOF at the end.
func (s *source) window() ([]byte, error) {
	for empty := 0; s.pos == s.end; empty++ {
		if s.err != nil {
			return nil, s.err
		}
		if empty > 100 {
			return nil, io.ErrNoProgress
		}
		n, err := s.r.Read(s.buf[:])
		s.pos, s.end, s.err = 0, n, err
		if s.left -= int64(n); s.left < 0 {
			return nil, errorf(TotalTooLarge, "", "the request is larger than %d bytes", s.limit)
		}
	}
	return s.buf[s.pos:s.end], nil
}

func (s *source) advance(n int) { s.pos += n }
