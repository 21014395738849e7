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
	// latencyFile is the output of the jobs of the last line: big enough to become a file.
	latencyFile = 64 << 10
)

// latency is what the service adds to a job that takes the engine no time: from the submission to the answer that it is
// completed, outputs stored, against the same graph on an engine by itself, from POST /prompt to its end on the socket.
// The two take turns, so that what else the machine does hits both.
func latency(ctx context.Context, l *lab) ([]figure, error) {
	e, err := l.engine(ctx)
	if err != nil {
		return nil, err
	}
	s, err := l.serve(ctx, l.file("data"), "COMFYFLEET_WORKERS=sim:1", "COMFYFLEET_MIN_READY=1", "COMFYFLEET_SIM_ARGS=--test-nodes")
	if err != nil {
		return nil, err
	}
	c, err := s.dial()
	if err != nil {
		return nil, err
	}
	defer c.close()

	measure := func(g *graphs, warm, jobs int) (straight, through times, err error) {
		for i := range warm + jobs {
			began := time.Now()
			if err := e.run(ctx, g.graph()); err != nil {
				return nil, nil, fmt.Errorf("straight: %w", err)
			}
			alone := time.Since(began)
			began = time.Now()
			if _, err := c.complete(g.request(nil)); err != nil {
				return nil, nil, err
			}
			if took := time.Since(began); i >= warm {
				straight, through = append(straight, alone), append(through, took)
			}
		}
		return straight, through, nil
	}
	var figures []figure
	add := func(name string, straight, through times, share float64, aim string) {
		a, t := straight.at(share), through.at(share)
		figures = append(figures, figure{name: "added latency of " + name, value: ms(t - a),
			against: fmt.Sprintf("%s through us, %s straight", ms(t), ms(a)), ratio: t.Seconds() / a.Seconds(),
			aim: aim, met: t-a <= latencyAdded})
	}
	straight, through, err := measure(trivialGraphs(), latencyWarm, latencyJobs)
	if err != nil {
		return nil, err
	}
	add("a trivial job, median", straight, through, 0.5, "≤ 5 ms")
	add("a trivial job, p95", straight, through, 0.95, "")
	if straight, through, err = measure(outputGraphs(latencyFile), latencyJobs/10, latencyJobs/2); err != nil {
		return nil, err
	}
	add("a job with a file of 64 KiB, median", straight, through, 0.5, "")
	return figures, nil
}
