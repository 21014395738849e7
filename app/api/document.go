package api

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
)

// base64Chunk is how many bytes of a file are encoded at once: a multiple of three, so that no padding comes between.
const base64Chunk = 3 << 14

// document is a body made of text and of files in base64, read as one stream of a length that is known before. Files are
// opened when their turn comes, one at a time.
type document struct {
	parts []documentPart
	size  int64
	now   io.ReadCloser // the part that is being read, nil before the next
}

// documentPart is text, or a file of size bytes.
type documentPart struct {
	text []byte
	open func() (io.ReadCloser, error)
	size int64
}

func (d *document) addText(b []byte) {
	d.parts = append(d.parts, documentPart{text: b})
	d.size += int64(len(b))
}

func (d *document) addFile(size int64, open func() (io.ReadCloser, error)) {
	d.parts = append(d.parts, documentPart{open: open, size: size})
	d.size += encodedLen(size)
}

// encodedLen is base64.StdEncoding.EncodedLen for files beyond 32 bits too.
func encodedLen(n int64) int64 { return (n + 2) / 3 * 4 }

// Read is the next part of the document. A file that is shorter or longer than was said is an error: the document must
// not end as if it were whole.
func (d *document) Read(p []byte) (int, error) {
	for {
		if d.now != nil {
			n, err := d.now.Read(p)
			if !errors.Is(err, io.EOF) {
				return n, err
			}
			if err := d.now.Close(); err != nil {
				return n, err
			}
			d.now = nil
			if n > 0 {
				return n, nil
			}
		}
		if len(d.parts) == 0 {
			return 0, io.EOF
		}
		part := &d.parts[0]
		if part.open != nil {
			file, err := part.open()
			if err != nil {
				return 0, fmt.Errorf("open output: %w", err)
			}
			d.now = &encoder{file: file, left: part.size}
			d.parts = d.parts[1:]
			continue
		}
		n := copy(p, part.text)
		if part.text = part.text[n:]; len(part.text) == 0 {
			d.parts = d.parts[1:]
		}
		if n > 0 || len(p) == 0 {
			return n, nil
		}
	}
}

// Close closes the file that is open.
func (d *document) Close() error {
	if d.now == nil {
		return nil
	}
	return d.now.Close()
}

// encoder reads a file of exactly left bytes as base64.
type encoder struct {
	file io.ReadCloser
	left int64
	in   [base64Chunk]byte
	out  [base64Chunk / 3 * 4]byte
	rest []byte // of out, not yet read
}

func (e *encoder) Read(p []byte) (int, error) {
	if len(e.rest) == 0 {
		if e.left == 0 {
			return 0, e.expectEnd()
		}
		chunk := e.in[:min(e.left, base64Chunk)]
		if _, err := io.ReadFull(e.file, chunk); err != nil {
			return 0, fmt.Errorf("read output: %w", err)
		}
		e.left -= int64(len(chunk))
		e.rest = e.out[:base64.StdEncoding.EncodedLen(len(chunk))]
		base64.StdEncoding.Encode(e.rest, chunk)
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

func (e *encoder) expectEnd() error {
	if n, err := e.file.Read(e.in[:1]); n > 0 {
		return errors.New("read output: longer than recorded")
	} else if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read output: %w", err)
	}
	return io.EOF
}

func (e *encoder) Close() error { return e.file.Close() }
