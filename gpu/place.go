package gpu

import (
	"cmp"
	"container/heap"
	"slices"
	"strings"

	"comfyfleet/models"
)

// planning is one run of Plan.
type planning struct {
	in  Input
	out Decision

	free   []string // ready workers without a prompt, in the order in which they are used
	behind []string // busy workers with room for one staged prompt
	open   []string // all that take prompts: ready and busy
	groups shares
	left   []unplaced
	ahead  int // jobs of left that will run before the next one
	// staged counts prompts that wait behind another, old and new: each is a reason to start a worker.
	staged int
}

// unplaced is a waiting job that got no place, in the order of its turn.
type unplaced struct {
	job    *Waiting
	why    waitKind
	ahead  int
	nowMax [2]int // running and cap of its group, for waitCap
}

type waitKind int

const (
	waitBusy  waitKind = iota // no place anywhere
	waitCap                   // its group runs as much as it may
	waitAvoid                 // places are left, but only where it was lost before
	waitPause                 // dispatch is paused
)

// share is one group's queue in the order in which its jobs run.
type share struct {
	name    string
	served  int64
	weight  int
	running int
	cap     int
	jobs    []*Waiting // into Input.Waiting
}

// shares is a heap: the group that was served least is on top.
type shares []*share

func (s shares) Len() int { return len(s) }
func (s shares) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(s[i].served, s[j].served), cmp.Compare(s[i].name, s[j].name)) < 0
}
func (s shares) Swap(i, j int) { s[i], s[j] = s[j], s[i] }
func (s *shares) Push(x any)   { *s = append(*s, x.(*share)) }
func (s *shares) Pop() any {
	last := (*s)[len(*s)-1]
	*s = (*s)[:len(*s)-1]
	return last
}

func newPlanning(in Input) *planning {
	p := &planning{in: in, out: Decision{Why: make(map[string]string, len(in.Waiting))}}
	workers := slices.Clone(in.Workers)
	// The busy worker that began its prompt first is likely to be free first.
	slices.SortStableFunc(workers, func(a, b models.Worker) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Name, b.Name))
	})
	for _, w := range workers {
		if !accepts(w) {
			continue
		}
		p.open = append(p.open, w.Name)
		switch {
		case w.Staged != "":
			p.staged++
		case w.State == models.WorkerReady && w.Executing == "":
			p.free = append(p.free, w.Name)
		default:
			p.behind = append(p.behind, w.Name)
		}
	}
	// Idle workers are used by name, so that a quiet fleet keeps the same ones warm and the others may stop.
	slices.Sort(p.free)
	p.groups = groupShares(in)
	return p
}

// accepts reports whether new prompts may go to w at all.
func accepts(w models.Worker) bool {
	return (w.State == models.WorkerReady || w.State == models.WorkerBusy) && !w.WantDrain && !w.WantDisabled
}

func groupShares(in Input) shares {
	byName := map[string]*share{}
	var out shares
	newest := int64(0)
	for i := range in.Waiting {
		j := &in.Waiting[i]
		g := byName[j.Group]
		if g == nil {
			load := in.Groups[j.Group]
			g = &share{name: j.Group, served: load.Served, running: load.Running, cap: load.MaxRunning}
			byName[j.Group] = g
			out = append(out, g)
			newest = max(newest, load.Served)
		}
		g.weight = max(g.weight, j.Weight)
		g.jobs = append(g.jobs, j)
	}
	for _, g := range out {
		g.served = max(g.served, newest-catchUp)
		slices.SortFunc(g.jobs, byTurn)
	}
	heap.Init(&out)
	return out
}

// byTurn orders jobs within a group: higher priority, then age.
func byTurn(a, b *Waiting) int {
	if c := cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.Seq, b.Seq)); c != 0 {
		return c
	}
	return strings.Compare(a.JobID, b.JobID)
}

// place gives every job its turn, in order, also after the places are used up: the order says how many are ahead.
func (p *planning) place() {
	for p.groups.Len() > 0 {
		g := p.groups[0]
		if g.cap > 0 && g.running >= g.cap && !p.in.Paused {
			for _, j := range g.jobs {
				p.left = append(p.left, unplaced{job: j, why: waitCap, nowMax: [2]int{g.running, g.cap}})
			}
			heap.Pop(&p.groups)
			continue
		}
		if p.turn(g.jobs[0]) {
			g.running++
		}
		g.served += Charge(g.weight)
		g.jobs = g.jobs[1:]
		if len(g.jobs) == 0 {
			heap.Pop(&p.groups)
		} else {
			heap.Fix(&p.groups, 0)
		}
	}
}

// turn places one job if it can.
func (p *planning) turn(j *Waiting) bool {
	if p.in.Paused {
		p.left = append(p.left, unplaced{job: j, why: waitPause})
		return false
	}
	worker, because := p.pick(j)
	if worker != "" {
		p.out.Place = append(p.out.Place, Placement{JobID: j.JobID, Worker: worker, Because: because})
		return true
	}
	u := unplaced{job: j, ahead: p.ahead}
	p.ahead++
	if len(p.free)+len(p.behind) > 0 {
		u.why = waitAvoid
	}
	p.left = append(p.left, u)
	return false
}

// pick takes a place for j out of those left, "" for none. Affinity to loaded models will choose among the places here.
func (p *planning) pick(j *Waiting) (worker, because string) {
	avoid := j.Avoid
	note := ""
	if len(avoid) > 0 {
		if slices.ContainsFunc(p.open, func(w string) bool { return !slices.Contains(avoid, w) }) {
			note = "; it was lost on " + avoid[0] + " before"
		} else {
			avoid, note = nil, "; it was lost there before, but no other card was up"
		}
	}
	allowed := func(w string) bool { return !slices.Contains(avoid, w) }
	if i := slices.IndexFunc(p.free, allowed); i >= 0 {
		worker = p.free[i]
		p.free = slices.Delete(p.free, i, i+1)
		return worker, worker + " was free" + note
	}
	if i := slices.IndexFunc(p.behind, allowed); i >= 0 {
		worker = p.behind[i]
		p.behind = slices.Delete(p.behind, i, i+1)
		p.staged++
		return worker, "no card was free; it was next on " + worker + note
	}
	return "", ""
}

// takeBack moves staged prompts to workers that would otherwise stay idle. Their jobs wait again and get their place
// in a later plan.
func (p *planning) takeBack() {
	if p.in.Paused || len(p.free) == 0 {
		return
	}
	staged := make([]*Waiting, 0, len(p.in.Staged))
	for i := range p.in.Staged {
		staged = append(staged, &p.in.Staged[i])
	}
	slices.SortFunc(staged, byTurn)
	idle := slices.Clone(p.free)
	for _, j := range staged {
		i := slices.IndexFunc(idle, func(w string) bool { return !slices.Contains(j.Avoid, w) })
		on := slices.IndexFunc(p.in.Workers, func(w models.Worker) bool { return w.StagedJobID == j.JobID && w.Staged != "" })
		if i < 0 || on < 0 {
			continue
		}
		p.out.TakeBack = append(p.out.TakeBack, p.in.Workers[on].Staged)
		// It is spoken for: scale must not stop it.
		p.free = slices.DeleteFunc(p.free, func(w string) bool { return w == idle[i] })
		idle = slices.Delete(idle, i, i+1)
	}
}
