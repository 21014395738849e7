package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"comfyfleet/gpu/sim"
)

const (
	idleJobs    = 60
	idleSeconds = 0.05
	idleAim     = 5 * time.Millisecond
)

// idleCard is how long a card has nothing to do between two jobs while more are queued: from the end of one prompt to the
// start of the next in the simulator's own journal, through the service, which keeps one prompt ready behind the running
// one, and with all prompts queued on an engine by itself.
func idleCard(ctx context.Context, l *lab) ([]figure, error) {
	straight, err := gapsStraight(ctx, l)
	if err != nil {
		return nil, fmt.Errorf("straight: %w", err)
	}
	through, err := gapsThrough(ctx, l)
	if err != nil {
		return nil, err
	}
	line := func(name string, share float64, aim string) figure {
		a, t := straight.at(share), through.at(share)
		return figure{name: "card idle between jobs, " + name, value: ms(t), against: "prompts queued straight " + ms(a), ratio: t.Seconds() / a.Seconds(),
			aim: aim, met: t <= idleAim && t.Seconds() <= 1.5*a.Seconds()}
	}
	return []figure{line("median", 0.5, "≤ 1.5×, ≤ 5 ms"), line("p95", 0.95, "")}, nil
}

func gapsStraight(ctx context.Context, l *lab) (times, error) {
	journal := l.file("straight.journal")
	e, err := l.engine(ctx, "--journal", journal)
	if err != nil {
		return nil, err
	}
	g := stepGraphs(1, idleSeconds)
	if err := e.run(ctx, g.graph()); err != nil { // the socket is open from here
		return nil, err
	}
	var last <-chan struct{}
	for range idleJobs {
		if last, err = e.submit(ctx, g.graph()); err != nil {
			return nil, err
		}
	}
	if err := within(ctx, last, time.Minute); err != nil {
		return nil, err
	}
	return gaps(journal, idleJobs)
}

func gapsThrough(ctx context.Context, l *lab) (times, error) {
	journal := l.file("through.journal")
	s, err := l.serve(ctx, l.file("data"), "COMFYFLEET_WORKERS=sim:1", "COMFYFLEET_MIN_READY=1", "COMFYFLEET_SIM_ARGS=--test-nodes --journal "+journal)
	if err != nil {
		return nil, err
	}
	c, err := s.dial()
	if err != nil {
		return nil, err
	}
	defer c.close()
	g := stepGraphs(1, idleSeconds)
	if _, err := c.complete(g.request(nil)); err != nil {
		return nil, err
	}
	var last job
	for range idleJobs {
		if last, err = c.submit(g.request(nil)); err != nil {
			return nil, err
		}
	}
	if err := c.await(last.ID, "completed"); err != nil {
		return nil, err
	}
	return gaps(journal, idleJobs)
}

// gaps are the pauses between the last n prompts of a journal.
func gaps(journal string, n int) (out times, err error) {
	f, err := os.Open(journal)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	lines := bufio.NewScanner(f)
	var ended time.Time
	for lines.Scan() {
		var e sim.JournalEntry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, err
		}
		switch e.Event {
		case "start":
			if !ended.IsZero() {
				out = append(out, e.At.Sub(ended))
			}
		case "end":
			ended = e.At
		}
	}
	if len(out) < n {
		return nil, fmt.Errorf("the journal has %d pauses, want %d", len(out), n)
	}
	// The first of them is before the first prompt that was queued with others.
	return out[len(out)-n+1:], lines.Err()
}
