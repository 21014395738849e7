package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	mediaItems = 10
	mediaSize  = 50 << 20
	uploadAim  = 40e6

	outputSize  = 600_000_000
	downloadAim = 100e6

	atOnce = 4
)

// uploads is by how much the service's memory rises while it takes the largest request there is, and four of them at
// once. Against the size of the request.
func uploads(ctx context.Context, l *lab) ([]figure, error) {
	s, err := l.serve(ctx, l.file("data"), "COMFYFLEET_WORKERS=sim:1", "COMFYFLEET_MIN_READY=1")
	if err != nil {
		return nil, err
	}
	if err := s.warm(); err != nil {
		return nil, err
	}
	return s.memoryOf("10 × 50 MiB in one request", mediaRequestSize(), uploadAim, func(c *client) error {
		_, err := c.submitMedia()
		return err
	})
}

// downloads is the same for a job's status with an output of 600 MB in base64.
func downloads(ctx context.Context, l *lab) ([]figure, error) {
	s, err := l.serve(ctx, l.file("data"), "COMFYFLEET_WORKERS=sim:1", "COMFYFLEET_MIN_READY=1", "COMFYFLEET_SIM_ARGS=--test-nodes")
	if err != nil {
		return nil, err
	}
	c, err := s.dial()
	if err != nil {
		return nil, err
	}
	defer c.close()
	j, err := c.complete(outputGraphs(10).request(nil))
	if err != nil {
		return nil, err
	}
	if j, err = c.submit(outputGraphs(outputSize).request(nil)); err != nil {
		return nil, err
	}
	if err := c.await(j.ID, "completed"); err != nil {
		return nil, err
	}
	size := int64(base64.StdEncoding.EncodedLen(outputSize))
	return s.memoryOf("600 MB of output as base64", size, downloadAim, func(c *client) error {
		if err := c.request("GET", "/v1/jobs/"+j.ID, 0, nil); err != nil {
			return err
		}
		var n counter
		if err := c.answer(&n); err != nil {
			return err
		}
		if int64(n) < size {
			return fmt.Errorf("got %d bytes, want at least %d", n, size)
		}
		return nil
	})
}

type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

// warm runs one job, so that what the service needs anyway is not counted.
func (s *service) warm() error {
	c, err := s.dial()
	if err != nil {
		return err
	}
	defer c.close()
	_, err = c.complete(trivialGraphs().request(nil))
	return err
}

// memoryOf measures do once, and several at once.
func (s *service) memoryOf(name string, size int64, aim float64, do func(c *client) error) (figures []figure, err error) {
	for _, n := range []int{1, atOnce} {
		began := time.Now()
		before, raised, err := s.raise(func() error {
			return s.each(n, func(_ int, c *client) error { return do(c) })
		})
		if err != nil {
			return figures, err
		}
		label := name
		if n > 1 {
			label = fmt.Sprintf("%s, %d at once", name, n)
		}
		speed := float64(n) * float64(size) / time.Since(began).Seconds()
		figures = append(figures, figure{name: "peak memory: " + label, value: fmt.Sprintf("+%s over %s", mb(raised), mb(before)),
			against: fmt.Sprintf("%.0f MB at %.0f MB/s", float64(n)*float64(size)/1e6, speed/1e6), ratio: float64(raised) / (float64(n) * float64(size)),
			aim: fmt.Sprintf("≤ %.0f MB", aim/1e6), met: float64(raised) <= aim})
	}
	return figures, nil
}

// The parts of a request with mediaItems media of mediaSize.
const (
	mediaHead  = `{"media":[`
	mediaOpen  = `{"name":"m%d.png","data":"`
	mediaClose = `"}`
	mediaTail  = `],"workflow":%s}`
)

func mediaRequestSize() int64 {
	return int64(mediaItems) * int64(base64.StdEncoding.EncodedLen(mediaSize))
}

// submitMedia sends the largest request that is allowed.
func (c *client) submitMedia() (job, error) {
	var j job
	readers := []io.Reader{strings.NewReader(mediaHead)}
	// The bytes stand for a picture; whole groups of three need no padding in between.
	chunk := []byte(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("\x89PNG\r\n"), 8<<10)))
	for i := range mediaItems {
		open := fmt.Sprintf(mediaOpen, i)
		if i > 0 {
			open = "," + open
		}
		whole := int64(mediaSize / 3 * 4)
		rest := base64.StdEncoding.EncodeToString(make([]byte, mediaSize%3))
		readers = append(readers, strings.NewReader(open), io.LimitReader(&repeated{chunk: chunk}, whole), strings.NewReader(rest+mediaClose))
	}
	readers = append(readers, strings.NewReader(fmt.Sprintf(mediaTail, trivialGraphs().graph())))
	size := mediaRequestSize()
	for _, r := range readers {
		if s, ok := r.(*strings.Reader); ok {
			size += int64(s.Len())
		}
	}
	size -= int64(mediaItems) * int64(len(base64.StdEncoding.EncodeToString(make([]byte, mediaSize%3)))) // counted twice
	if err := c.request("POST", "/v1/jobs", size, nil); err != nil {
		return j, err
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{c.conn}, io.MultiReader(readers...), make([]byte, 256<<10)); err != nil {
		return j, err
	}
	c.body.Reset()
	return j, c.answer(&c.body)
}

// repeated reads a chunk over and over.
type repeated struct {
	chunk []byte
	at    int
}

func (r *repeated) Read(p []byte) (int, error) {
	n := copy(p, r.chunk[r.at:])
	r.at = (r.at + n) % len(r.chunk)
	return n, nil
}
