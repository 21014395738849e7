package web

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/models"
	"comfyfleet/views"
)

// fleetLogLines is how many lines of each worker the page of all workers shows; workerLogLines the worker's own page.
const (
	fleetLogLines  = 8
	workerLogLines = 200
)

func (w *Web) gpusPage(c *fiber.Ctx) error {
	ctx := c.UserContext()
	workers := w.Fleet.Workers()
	refused := refusal(personOf(c).operator.Role)
	cards, err := w.cards(ctx, workers, refused)
	if err != nil {
		return err
	}
	props := views.GPUs{Cards: cards, Facts: fleetFacts(workers), Log: fleetLog(w.Fleet, workers, fleetLogLines)}
	if props.Shell, err = w.shell(c, "GPUs", "gpus", "/live/gpus"); err != nil {
		return err
	}
	if len(workers) == 0 {
		props.Empty = &views.Empty{Title: "No worker is configured", Text: "Set COMFYFLEET_WORKERS, for example to managed:0,1 or sim:2, and start again."}
		return send(c, views.GPUsPage(props))
	}
	if countWorkers(workers, func(w models.Worker) bool { return w.Telemetry != nil }) == 0 {
		props.NoTelemetry = "No telemetry: there is no NVIDIA driver here, so heat and power are unknown. The shares are of the last hour, or of the time since the start."
	}
	props.Verbs = []views.Verb{drainAllVerb(workers, refused)}
	return send(c, views.GPUsPage(props))
}

func drainAllVerb(workers []models.Worker, refused string) views.Verb {
	n := countWorkers(workers, func(w models.Worker) bool { return !w.WantDrain && !w.WantDisabled })
	v := views.Verb{Label: "Drain " + plural(n, "card") + "…", Disabled: refused, TestID: "drain-all", Confirm: &views.Confirm{
		ID: "drain-all", Title: "Drain " + plural(n, "card") + "?", Text: "Each finishes what it runs and takes nothing new until it is resumed. Queued jobs wait.",
		Button: "Drain " + plural(n, "card"), Keep: "Leave them", Danger: true, Action: "/drain-all",
	}}
	if n == 1 {
		v.Confirm.Text, v.Confirm.Keep = "It finishes what it runs and takes nothing new until it is resumed. Queued jobs wait.", "Leave it"
	}
	if n == 0 && refused == "" {
		v.Label, v.Disabled = "All cards are drained", "There is no card left to drain."
	}
	return v
}

func (w *Web) drainAll(c *fiber.Ctx) error {
	if _, err := w.form(c); err != nil {
		return err
	}
	n := 0
	for _, x := range w.Fleet.Workers() {
		if x.WantDrain || x.WantDisabled {
			continue
		}
		if err := w.Fleet.Drain(c.UserContext(), x.Name); err != nil {
			return err
		}
		w.audit(c, "worker.drain", x.Name, "all")
		n++
	}
	return w.done(c, "/gpus", plural(n, "card")+" draining", "Resume them one by one.")
}

// cards are all workers with what they run.
func (w *Web) cards(ctx context.Context, workers []models.Worker, refused string) ([]views.GPUCard, error) {
	names, _, err := w.names(ctx)
	if err != nil {
		return nil, err
	}
	cards := make([]views.GPUCard, 0, len(workers))
	for _, x := range workers {
		in, err := w.cardInput(ctx, x, names, refused)
		if err != nil {
			return nil, err
		}
		cards = append(cards, presentCard(in))
	}
	return cards, nil
}

func (w *Web) cardInput(ctx context.Context, x models.Worker, n names, refused string) (cardInput, error) {
	now := w.Now()
	in := cardInput{worker: x, names: n, refused: refused, now: now, spans: w.Fleet.Spans(x.Name, now.Add(-time.Hour))}
	if x.ExecutingJobID == "" {
		return in, nil
	}
	v, err := w.Jobs.Job(ctx, "", x.ExecutingJobID)
	if models.ErrorCode(err) == models.CodeNotFound {
		return in, nil // somebody else's prompt on an attached worker, or swept
	}
	if err != nil {
		return in, err
	}
	in.job = v.Job
	if in.job.WorkflowSlug == "" {
		return in, nil // what other raw graphs took says nothing of this one
	}
	recent, err := w.Stats.RecentDurations(ctx, in.job.WorkflowSlug, 20)
	in.typical = median(recent)
	return in, err
}

// fleetFacts is what the cards have in common.
func fleetFacts(workers []models.Worker) []string {
	var facts []string
	kinds, order := map[string]int{}, []string{}
	versions := map[string]bool{}
	for _, x := range workers {
		kind := string(x.Kind) + " worker"
		if x.Card != nil {
			kind = x.Card.Name
		}
		if kinds[kind] == 0 {
			order = append(order, kind)
		}
		kinds[kind]++
		if x.EngineVersion != "" && !versions[x.EngineVersion] {
			versions[x.EngineVersion] = true
		}
	}
	for _, k := range order {
		facts = append(facts, fmt.Sprintf("%d × %s", kinds[k], k))
	}
	for v := range versions {
		facts = append(facts, "engine "+v)
	}
	return facts
}

func (w *Web) liveGPUs(c *fiber.Ctx) error {
	refused := refusal(personOf(c).operator.Role)
	return w.shared(c, "gpus", refused, watch{job: "*", fleet: true, every: time.Second}, func(ctx context.Context) ([]part, error) {
		workers := w.Fleet.Workers()
		parts, err := w.frame(ctx, workers)
		if err != nil {
			return nil, err
		}
		cards, err := w.cards(ctx, workers, refused)
		if err != nil {
			return nil, err
		}
		for _, card := range cards {
			parts = append(parts, part{"gpu-" + card.Name, views.GPU(card, true)})
		}
		return append(parts, box("fleet-log-part", views.FleetLog(fleetLog(w.Fleet, workers, fleetLogLines)))), nil
	})
}

func (w *Web) workerPage(c *fiber.Ctx) error {
	name := c.Params("name")
	x, ok := w.Fleet.Worker(name)
	if !ok {
		return models.ErrNotFound("worker")
	}
	props, err := w.presentWorker(c.UserContext(), x, refusal(personOf(c).operator.Role))
	if err != nil {
		return err
	}
	if props.Shell, err = w.shell(c, props.Card.Label, "gpus", "/live/gpus/"+name); err != nil {
		return err
	}
	return send(c, views.WorkerPage(props))
}

func (w *Web) presentWorker(ctx context.Context, x models.Worker, refused string) (views.Worker, error) {
	names, _, err := w.names(ctx)
	if err != nil {
		return views.Worker{}, err
	}
	in, err := w.cardInput(ctx, x, names, refused)
	if err != nil {
		return views.Worker{}, err
	}
	card := presentCard(in)
	p := views.Worker{
		Card: card, Process: processLines(x), Engine: engineLines(x), Exits: exitLines(x, w.Now()),
		NoExits: "None since this server started.", LogTitle: "Log", Wishes: wishes(x),
	}
	for _, v := range append(card.Verbs, card.More...) {
		if v.Link == "" {
			v.Small = false
			p.Verbs = append(p.Verbs, v)
		}
	}
	p.Card.Verbs, p.Card.More = nil, nil
	lines, err := w.Fleet.Log(x.Name, workerLogLines)
	if err != nil {
		w.Log.Debug("read worker log", "worker", x.Name, "error", err)
	}
	p.Log = logLines(lines, "")
	return p, nil
}

func wishes(x models.Worker) string {
	switch {
	case x.WantDisabled:
		return "disabled by an operator"
	case x.WantDrain:
		return "drained by an operator"
	}
	return ""
}

func processLines(x models.Worker) []views.KV {
	kvs := []views.KV{{Key: "Kind", Value: string(x.Kind)}, {Key: "In commands", Value: x.Name, Copy: true}}
	if x.PID > 0 {
		kvs = append(kvs, views.KV{Key: "Pid", Value: strconv.Itoa(x.PID), Code: true})
	} else {
		kvs = append(kvs, views.KV{Key: "Pid", Value: "–"})
	}
	kvs = append(kvs, views.KV{Key: "Address", Value: orDash(x.URL), Code: x.URL != ""})
	if x.StartedAt != nil {
		kvs = append(kvs, views.KV{Key: "Started", Value: x.StartedAt.UTC().Format(exactForm)})
	}
	kvs = append(kvs, views.KV{Key: "Jobs", Value: count(x.JobsDone)}, views.KV{Key: "Restarts", Value: count(x.Restarts), Note: "since this server started"})
	if x.RSS > 0 {
		kvs = append(kvs, views.KV{Key: "Memory", Value: size(x.RSS), Note: "resident"})
	}
	if x.Adopted {
		kvs = append(kvs, views.KV{Key: "Adopted", Value: "taken over from an earlier server"})
	}
	if x.Staged != "" {
		kvs = append(kvs, views.KV{Key: "Staged", Value: shortID(x.StagedJobID), Link: "/jobs/" + x.StagedJobID, Note: "runs next"})
	}
	return kvs
}

func engineLines(x models.Worker) []views.KV {
	kvs := []views.KV{{Key: "Version", Value: orDash(x.EngineVersion)}}
	if x.VRAMTotal > 0 {
		kvs = append(kvs, views.KV{Key: "Memory", Value: size(x.VRAMTotal-x.VRAMFree) + " of " + size(x.VRAMTotal), Note: "as the engine says"})
	}
	if card := x.Card; card != nil {
		kvs = append(kvs, views.KV{Key: "Card", Value: card.Name}, views.KV{Key: "UUID", Value: card.UUID, Code: true, Copy: true},
			views.KV{Key: "PCI", Value: card.PCI, Code: true}, views.KV{Key: "Index", Value: strconv.Itoa(card.Index)})
	}
	if t := x.Telemetry; t != nil {
		kvs = append(kvs, views.KV{Key: "Clocks", Value: fmt.Sprintf("%d MHz, memory %d MHz", t.ClockSM, t.ClockMem)})
		ecc := views.KV{Key: "ECC errors", Value: strconv.FormatUint(t.ECCErrors, 10)}
		if t.ECCErrors > 0 {
			ecc.Note = "uncorrected"
		}
		kvs = append(kvs, ecc)
		if t.XID > 0 {
			kvs = append(kvs, views.KV{Key: "Last fault", Value: "XID " + strconv.FormatUint(t.XID, 10)})
		}
	}
	return kvs
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

// exitLines are the ends of a worker's processes, newest first.
func exitLines(x models.Worker, now time.Time) []views.Exit {
	var list []views.Exit
	for _, e := range slices.SortedStableFunc(slices.Values(x.Exits), func(a, b models.WorkerExit) int { return b.At.Compare(a.At) }) {
		how, _, _ := strings.Cut(exitWords(e), ", ")
		v := views.Exit{
			At: since(e.At, now, " ago"), PID: strconv.Itoa(e.PID), How: how, Why: orDash(e.Reason), Uptime: clock(e.Uptime),
			Log: logLines(e.LogTail, ""), LogID: "exit-" + strconv.FormatInt(e.At.UnixMilli(), 10) + "-" + strconv.Itoa(e.PID),
		}
		if e.Code != 0 || e.Signal != "" {
			v.State = "failed"
		}
		if e.JobID != "" {
			v.Job, v.JobURL = shortID(e.JobID), "/jobs/"+e.JobID
		}
		list = append(list, v)
	}
	return list
}

func (w *Web) liveWorker(c *fiber.Ctx) error {
	refused, name := refusal(personOf(c).operator.Role), c.Params("name")
	if _, ok := w.Fleet.Worker(name); !ok {
		return models.ErrNotFound("worker")
	}
	return w.stream(c, watch{job: "*", fleet: true, every: time.Second}, func(Feed) page {
		return func(ctx context.Context) ([]part, error) {
			parts, err := w.frame(ctx, w.Fleet.Workers())
			if err != nil {
				return nil, err
			}
			x, ok := w.Fleet.Worker(name)
			if !ok {
				return parts, nil
			}
			p, err := w.presentWorker(ctx, x, refused)
			if err != nil {
				return nil, err
			}
			return append(parts,
				box("worker-head", views.WorkerHead(p)),
				box("worker-verbs", views.VerbRow(p.Verbs)),
				part{"gpu-" + name, views.GPU(p.Card, true)},
				box("worker-process", views.Definitions(p.Process)),
				box("worker-engine", views.Definitions(p.Engine)),
				box("worker-log-part", views.WorkerLog(p.Log)),
				box("worker-exits", views.Exits(p.Exits, p.NoExits)),
			), nil
		}
	})
}
