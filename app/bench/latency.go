package main

import (
	"context"
	"fmt"
	"time"
)

const (
	latencyJobs = 300
	// latencyWarm is how many come before: until then memory and database of a new server are not what they will be.
	latencyWarm  = 300
	latencyAdded = 5 * time.Millisecond
)

// latency is what the service adds to a job that takes the engine no time: from the submission to the answer that it is
// completed, outputs stored, against the same graph on an engine by itself, from POST /prompt to its end on the socket.
// The two take turns, so that what else the machine does hits both.
func latency(ctx context.Context, l *lab) ([]figure, error) {
	e, err := l.engine(ctx)
	if err != nil {
		return nil, err
	}
	s, err := l.serve(ctx, l.file("data"), "COMFYFLEET_WORKERS=sim:1", "COMFYFLEET_MIN_READY=1")
	if err != nil {
		return nil, err
	}
	c, err := s.dial()
	if err != nil {
		return nil, err
	}
	defer c.close()

	g := trivialGraphs()
	var straight, through times
	for i := range latencyWarm + latencyJobs {
		began := time.Now()
		if err := e.run(ctx, g.graph()); err != nil {
			return nil, fmt.Errorf("straight: %w", err)
		}
		alone := time.Since(began)
		began = time.Now()
		if _, err := c.complete(g.request(nil)); err != nil {
			return nil, err
		}
		if took := time.Since(began); i >= latencyWarm {
			straight, through = append(straight, alone), append(through, took)
		}
	}
	line := func(name string, share float64, aim string) figure {
		a, t := straight.at(share), through.at(share)
		return figure{name: "added latency of a trivial job, " + name, value: ms(t - a),
			against: fmt.Sprintf("%s through us, %s straight", ms(t), ms(a)), ratio: t.Seconds() / a.Seconds(),
			aim: aim, met: t-a <= latencyAdded}
	}
	return []figure{line("median", 0.5, "≤ 5 ms"), line("p95", 0.95, "")}, nil
}
