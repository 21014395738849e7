package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
)

// File is stored bytes on their way to a client.
type File struct {
	Name        string
	ContentType string
	Size        int64
	// SHA256 in hex is the entity tag.
	SHA256   string
	Modified time.Time
	Content  io.ReadSeekCloser
	// Download asks for an attachment even of a harmless type.
	Download bool
}

// inline are the types that a browser may show from our address: none of them runs script. HTML, SVG, XML and whatever
// else is not here is sent as an attachment of unknown type.
var inline = map[string]bool{
	"image/png": true, "image/jpeg": true, "image/gif": true, "image/webp": true, "image/avif": true, "image/bmp": true,
	"video/mp4": true, "video/webm": true, "video/quicktime": true, "video/x-matroska": true,
	"audio/mpeg": true, "audio/wav": true, "audio/x-wav": true, "audio/wave": true, "audio/flac": true, "audio/ogg": true,
	"audio/mp4": true, "audio/aac": true, "application/ogg": true,
	"text/plain": true,
}

// filePolicy lets a browser show the file itself and nothing that it may contain.
const filePolicy = "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'self'"

// SendFile answers with a file or the one range of it that was asked for. It closes f.Content.
func (s *Server) SendFile(c *fiber.Ctx, f File) error {
	etag := `"` + f.SHA256 + `"`
	f.headers(c, etag)
	if match := c.Get(fiber.HeaderIfNoneMatch); match == "*" || match != "" && strings.Contains(match, etag) {
		f.Content.Close()
		c.Status(fiber.StatusNotModified)
		return nil
	}
	from, length, partial, err := byteRange(c.Get(fiber.HeaderRange), f.Size)
	if condition := c.Get(fiber.HeaderIfRange); condition != "" && condition != etag {
		from, length, partial, err = 0, f.Size, false, nil
	}
	if err != nil {
		f.Content.Close()
		c.Set(fiber.HeaderContentRange, "bytes */"+strconv.FormatInt(f.Size, 10))
		return sendProblem(c, problem(fiber.StatusRequestedRangeNotSatisfiable, "bad_range", "the file has "+strconv.FormatInt(f.Size, 10)+" bytes"))
	}
	if partial {
		if _, err := f.Content.Seek(from, io.SeekStart); err != nil {
			f.Content.Close()
			return fmt.Errorf("seek in stored file: %w", err)
		}
		c.Status(fiber.StatusPartialContent)
		c.Set(fiber.HeaderContentRange, fmt.Sprintf("bytes %d-%d/%d", from, from+length-1, f.Size))
	}
	s.SendStream(c, f.Content, length)
	return nil
}

func (f File) headers(c *fiber.Ctx, etag string) {
	kind, _, err := mime.ParseMediaType(f.ContentType)
	safe := err == nil && inline[kind]
	disposition := "inline"
	switch {
	case !safe:
		kind, disposition = "application/octet-stream", "attachment"
	case f.Download:
		disposition = "attachment"
	}
	if kind == "text/plain" {
		kind += "; charset=utf-8"
	}
	c.Set(fiber.HeaderContentType, kind)
	if d := mime.FormatMediaType(disposition, map[string]string{"filename": f.Name}); d != "" {
		disposition = d
	}
	c.Set(fiber.HeaderContentDisposition, disposition)
	c.Set(fiber.HeaderContentSecurityPolicy, filePolicy)
	c.Set(fiber.HeaderXFrameOptions, "SAMEORIGIN")
	c.Set(fiber.HeaderAcceptRanges, "bytes")
	c.Set(fiber.HeaderETag, etag)
	c.Set(fiber.HeaderCacheControl, "private, max-age=3600, immutable")
	if !f.Modified.IsZero() {
		c.Set(fiber.HeaderLastModified, f.Modified.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT"))
	}
}

var errRange = errors.New("range not satisfiable")

// byteRange reads a Range header (RFC 9110, 14.2). Several ranges, and what is no byte range, are answered with the whole.
func byteRange(header string, size int64) (from, length int64, partial bool, err error) {
	spec, ok := strings.CutPrefix(header, "bytes=")
	if !ok || strings.Contains(spec, ",") {
		return 0, size, false, nil
	}
	first, last, ok := strings.Cut(strings.TrimSpace(spec), "-")
	if !ok {
		return 0, size, false, nil
	}
	if first == "" {
		n, err := strconv.ParseInt(last, 10, 64)
		if err != nil || n < 0 {
			return 0, size, false, nil
		}
		if n == 0 || size == 0 {
			return 0, 0, false, errRange
		}
		n = min(n, size)
		return size - n, n, true, nil
	}
	from, err = strconv.ParseInt(first, 10, 64)
	if err != nil || from < 0 {
		return 0, size, false, nil
	}
	end := size - 1
	if last != "" {
		e, err := strconv.ParseInt(last, 10, 64)
		if err != nil || e < from {
			return 0, size, false, nil
		}
		end = min(end, e)
	}
	if from >= size {
		return 0, 0, false, errRange
	}
	return from, end - from + 1, true, nil
}

// SendStream answers with exactly the next size bytes of r, and closes r. An r that ends early, fails or panics breaks
// the connection: a cut answer must not look whole.
func (s *Server) SendStream(c *fiber.Ctx, r io.ReadCloser, size int64) {
	c.Context().SetBodyStream(&outgoing{ctx: s.ctx, r: r, left: size}, int(size))
}

// outgoing is a body on its way: no more than was announced, and no longer than the server waits for it.
type outgoing struct {
	ctx  context.Context
	r    io.ReadCloser
	left int64
}

func (o *outgoing) Read(p []byte) (int, error) {
	if err := o.ctx.Err(); err != nil {
		return 0, err
	}
	if o.left == 0 {
		return 0, io.EOF
	}
	n, err := o.r.Read(p[:min(int64(len(p)), o.left)])
	o.left -= int64(n)
	return n, err
}

func (o *outgoing) Close() error { return o.r.Close() }
