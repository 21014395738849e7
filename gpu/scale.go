package gpu

import (
	"slices"
	"strconv"
	"strings"

	"comfyfleet/models"
)

// scale says which stopped workers to start and which idle ones to stop.
func (p *planning) scale() {
	var stopped []string
	starting, warm := 0, 0
	for _, w := range p.in.Workers {
		switch {
		case w.State == models.WorkerStopped && w.Kind != models.WorkerAttached && !w.WantDrain && !w.WantDisabled:
			stopped = append(stopped, w.Name)
		case w.State == models.WorkerStarting:
			starting++
			warm++
		case accepts(w):
			warm++
		}
	}
	slices.Sort(stopped)
	n := max(p.demand()-starting, p.in.MinReady-warm)
	n = max(0, min(n, len(stopped)))
	p.out.Start = stopped[:n:n]
	p.out.Stop = p.idleTooLong(warm - p.in.MinReady)
}

// demand is how many more workers would have something to do.
func (p *planning) demand() int {
	if p.in.Paused {
		return 0
	}
	n := p.staged - len(p.out.TakeBack)
	for _, u := range p.left {
		if u.why == waitBusy || u.why == waitAvoid {
			n++
		}
	}
	return n
}

// idleTooLong lists at most n ready workers that had nothing to do for ScaleDownAfter, longest idle first.
func (p *planning) idleTooLong(n int) []string {
	if p.in.ScaleDownAfter <= 0 || n <= 0 {
		return nil
	}
	var idle []models.Worker
	for _, w := range p.in.Workers {
		if w.Kind != models.WorkerAttached && w.IdleSince != nil && slices.Contains(p.free, w.Name) &&
			p.in.Now.Sub(*w.IdleSince) >= p.in.ScaleDownAfter {
			idle = append(idle, w)
		}
	}
	slices.SortFunc(idle, func(a, b models.Worker) int {
		if c := a.IdleSince.Compare(*b.IdleSince); c != 0 {
			return c
		}
		return strings.Compare(b.Name, a.Name)
	})
	var names []string
	for _, w := range idle[:min(n, len(idle))] {
		names = append(names, w.Name)
	}
	return names
}

// explain writes why each job that was not placed waits.
func (p *planning) explain() {
	fleet := p.fleet()
	for _, u := range p.left {
		p.out.Why[u.job.JobID] = u.text(fleet)
	}
}

func (u unplaced) text(fleet string) string {
	switch u.why {
	case waitPause:
		return "dispatch is paused"
	case waitCap:
		return "tenant runs " + strconv.Itoa(u.nowMax[0]) + " of " + strconv.Itoa(u.nowMax[1])
	case waitAvoid:
		return "waits for a card other than " + strings.Join(u.job.Avoid, ", ") + ", where it was lost before"
	}
	return fleet + ", " + strconv.Itoa(u.ahead) + " ahead"
}

// fleet says in a few words why there is no place.
func (p *planning) fleet() string {
	switch n := len(p.open); {
	case n == 1:
		return "the card that is up is busy"
	case n > 1:
		return "all " + strconv.Itoa(n) + " cards busy"
	case len(p.out.Start) > 0:
		return "no card is up: " + strings.Join(p.out.Start, ", ") + startVerb(len(p.out.Start))
	}
	byState := map[models.WorkerState][]string{}
	for _, w := range p.in.Workers {
		byState[w.State] = append(byState[w.State], w.Name)
	}
	for _, s := range []models.WorkerState{models.WorkerStarting, models.WorkerBackoff, models.WorkerStopping,
		models.WorkerReady, models.WorkerBusy, models.WorkerDraining, models.WorkerQuarantined, models.WorkerDisabled} {
		names := byState[s]
		if len(names) == 0 {
			continue
		}
		slices.Sort(names)
		list := strings.Join(names, ", ")
		switch {
		case s == models.WorkerStarting:
			return "no card is up: " + list + startVerb(len(names))
		case s == models.WorkerBackoff:
			return "no card is up: " + list + " failed and will be started again"
		case s.Up():
			return "no card takes jobs: " + list + " draining"
		default:
			return "no card is up: " + list + " " + string(s)
		}
	}
	return "there is no card"
}

func startVerb(n int) string {
	if n == 1 {
		return " starts"
	}
	return " start"
}
