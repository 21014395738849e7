package main

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	readers  = 8
	readTime = 2 * time.Second
)

// statusReads is how often a finished job can be asked for, against a page that does nothing.
func statusReads(ctx context.Context, l *lab) ([]figure, error) {
	s, err := l.serve(ctx, l.file("data"), "COMFYFLEET_WORKERS=sim:1", "COMFYFLEET_MIN_READY=1")
	if err != nil {
		return nil, err
	}
	c, err := s.dial()
	if err != nil {
		return nil, err
	}
	defer c.close()
	j, err := c.complete(trivialGraphs().request(nil))
	if err != nil {
		return nil, err
	}
	nothing, err := s.readRate(ctx, "/livez")
	if err != nil {
		return nil, err
	}
	var figures []figure
	for _, r := range []struct{ name, path string }{
		{"status reads, outputs by URL", "/v1/jobs/" + j.ID + "?data=none"},
		{"status reads, a small output in base64", "/v1/jobs/" + j.ID},
	} {
		got, err := s.readRate(ctx, r.path)
		if err != nil {
			return nil, err
		}
		figures = append(figures, figure{name: r.name, value: rate(got), against: "/livez " + rate(nothing), ratio: got / nothing})
	}
	return figures, nil
}

// readRate is how often a second several clients together can read a path.
func (s *service) readRate(ctx context.Context, path string) (float64, error) {
	var n atomic.Int64
	began := time.Now()
	err := s.each(readers, func(_ int, c *client) error {
		for time.Since(began) < readTime && ctx.Err() == nil {
			if _, err := c.get(path); err != nil {
				return err
			}
			n.Add(1)
		}
		return ctx.Err()
	})
	return perSecond(int(n.Load()), time.Since(began)), err
}
