package web

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/models"
	"comfyfleet/views"
	"comfyfleet/workflows"
)

const (
	// maxEvents is how many events of a job its page shows.
	maxEvents = 1000
	// maxText is how much of a text output a page shows; the rest is in the download.
	maxText = 64 << 10
)

func (w *Web) jobPage(c *fiber.Ctx) error {
	ctx, id := c.UserContext(), c.Params("id")
	in, err := w.jobInput(ctx, id)
	if err != nil {
		return err
	}
	refused := refusal(personOf(c).operator.Role)
	p := views.Job{Head: presentHead(in), Verbs: jobVerbs(in.job.Job, refused), Asking: askingVerbs(in.job.Job)}
	live := ""
	switch tab := c.Query("tab"); tab {
	case "":
		s := presentSummary(in)
		p.Summary = &s
		live = "/live/jobs/" + id
	case "graph":
		p.Graph, p.Empty = w.graphTab(in)
		live = "/live/jobs/" + id + "?tab=graph"
	case "json":
		p.JSON = jsonTab(in)
		live = "/live/jobs/" + id + "?tab=json"
	case "events":
		if p.Events, err = w.eventLines(ctx, id); err != nil {
			return err
		}
		live = "/live/jobs/" + id + "?tab=events"
	case "deliveries":
		if p.Deliveries, err = w.deliveryLines(ctx, in.sent, refused); err != nil {
			return err
		}
		live = "/live/jobs/" + id + "?tab=deliveries"
	default:
		return models.ErrNotFound("tab")
	}
	p.Tabs = jobPageTabs(id, c.Query("tab"), in)
	if p.Shell, err = w.shell(c, "Job "+shortID(id), "jobs", live); err != nil {
		return err
	}
	return send(c, views.JobPage(p))
}

func jobPageTabs(id, current string, in jobInput) []views.Tab {
	var tabs []views.Tab
	add := func(name, label, count string) {
		t := views.Tab{Label: label, URL: "/jobs/" + id, Count: count, Current: current == name}
		if name != "" {
			t.URL += "?tab=" + name
		}
		tabs = append(tabs, t)
	}
	add("", "Summary", "")
	add("graph", "Graph", "")
	add("json", "API JSON", "")
	add("events", "Events", strconv.FormatInt(in.job.Revision, 10))
	sent := ""
	if len(in.sent) > 0 {
		sent = strconv.Itoa(len(in.sent))
	}
	add("deliveries", "Deliveries", sent)
	return tabs
}

// jobInput gathers what a job's page needs.
func (w *Web) jobInput(ctx context.Context, id string) (in jobInput, err error) {
	in.now, in.base = w.Now(), w.PublicURL
	if in.job, err = w.Jobs.Job(ctx, "", id); err != nil {
		return in, err
	}
	if in.names, _, err = w.names(ctx); err != nil {
		return in, err
	}
	if in.payload, err = w.Jobs.Payload(ctx, "", id); err != nil {
		return in, err
	}
	if in.attempts, err = w.Jobs.Attempts(ctx, "", id); err != nil {
		return in, err
	}
	for _, a := range in.attempts {
		in.names.workers[a.Worker] = true // also one that is not configured any more
	}
	if in.outputs, err = w.Jobs.Outputs(ctx, "", id); err != nil {
		return in, err
	}
	if in.texts, err = w.readTexts(ctx, in.outputs); err != nil {
		return in, err
	}
	if in.sent, err = w.Deliveries.DeliveriesOf(ctx, id); err != nil {
		return in, err
	}
	if in.job.KeyID != "" {
		in.key, err = w.Tenants.Key(ctx, in.job.KeyID)
		if err != nil && models.ErrorCode(err) != models.CodeNotFound {
			return in, err
		}
	}
	return in, nil
}

// readTexts reads the beginning of each text output.
func (w *Web) readTexts(ctx context.Context, outputs []models.Output) (map[string]string, error) {
	texts := map[string]string{}
	for _, o := range outputs {
		if o.Type != "text" {
			continue
		}
		text, err := w.readText(ctx, o)
		if err != nil {
			return nil, err
		}
		texts[o.ID] = text
	}
	return texts, nil
}

func (w *Web) readText(ctx context.Context, o models.Output) (string, error) {
	r, err := w.Jobs.OpenContent(ctx, o)
	if models.ErrorCode(err) == models.CodeNotFound {
		return "", nil // swept while the page was made
	}
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxText))
	if err != nil {
		return "", err
	}
	text := strings.ToValidUTF8(string(b), "\uFFFD")
	if o.Size > maxText {
		text += "\n… the rest is in the download"
	}
	return text, nil
}

// jobVerbs are what can be done with a job now.
func jobVerbs(j models.Job, refused string) []views.Verb {
	if j.State.Final() {
		return []views.Verb{
			{Label: "Retry", Icon: "rotate-ccw", Post: "/jobs/" + j.ID + "/retry", Disabled: refused, TestID: "retry"},
			{Label: "Run again with changes", Icon: "play", Kind: "solid", Link: "/run/job/" + j.ID, TestID: "again"},
		}
	}
	again := views.Verb{Label: "Run again with changes", Icon: "play", Link: "/run/job/" + j.ID, TestID: "again"}
	asking := askingVerbs(j)
	for i := range asking {
		asking[i].Disabled = refused
	}
	if j.State == models.JobQueued {
		return []views.Verb{asking[0], again, asking[1]}
	}
	return []views.Verb{again, asking[1]}
}

// askingVerbs are the verbs of a job that ask before they act: priority and cancel. The page of a job that runs has the
// dialog of both, for it may have to wait again; a job that has ended stays so.
func askingVerbs(j models.Job) []views.Verb {
	if j.State.Final() {
		return nil
	}
	return []views.Verb{
		{Label: "Priority…", Icon: "chevrons-up", TestID: "priority", Confirm: priorityDialog(j)},
		{Label: "Cancel…", Icon: "ban", Kind: "danger", TestID: "cancel", Confirm: &views.Confirm{
			ID: "cancel-job", Title: "Cancel job " + shortID(j.ID) + "?", Text: "It ends as canceled at once and is not tried again. What its card does for it is stopped.",
			Button: "Cancel 1 job", Keep: "Let it run", Danger: true, Action: "/jobs/" + j.ID + "/cancel",
		}},
	}
}

func priorityDialog(j models.Job) *views.Confirm {
	choice := &views.Choice{Name: "priority", Label: "Priority within its tenant"}
	for _, p := range []struct {
		n     int
		label string
	}{{models.MaxPriority, "100, first"}, {50, "50"}, {10, "10"}, {0, "0, ordinary"}, {-10, "−10"}, {-50, "−50"}, {models.MinPriority, "−100, last"}} {
		choice.Options = append(choice.Options, views.Option{Value: strconv.Itoa(p.n), Label: p.label, Selected: p.n == j.Priority})
	}
	return &views.Confirm{
		ID: "job-priority", Title: "Priority of job " + shortID(j.ID), Text: "Higher runs first within its tenant. Shares between tenants do not change.",
		Button: "Set priority", Keep: "Leave it", Action: "/jobs/" + j.ID + "/priority", Choice: choice,
	}
}

func (w *Web) graphTab(in jobInput) (*views.Graph, *views.Empty) {
	g, err := workflows.Parse(in.payload.Graph)
	if err != nil {
		return nil, &views.Empty{Title: "The graph cannot be drawn", Text: reason(err)}
	}
	drawn := drawGraph(g, graphStates(in))
	return &drawn, nil
}

// graphStates says how far each node came.
func graphStates(in jobInput) map[string]string {
	states := map[string]string{}
	if len(in.attempts) > 0 {
		for _, n := range nodeTimes(in.attempts[len(in.attempts)-1]) {
			states[n.Node] = "ok"
		}
	}
	for _, p := range nodeProblems(in.job.NodeErrors) {
		states[p.Node] = "failed"
	}
	if in.job.State == models.JobRunning && in.job.Progress.CurrentNode != "" {
		states[in.job.Progress.CurrentNode] = "running"
	}
	return states
}

func jsonTab(in jobInput) *views.JSONView {
	return &views.JSONView{Title: "The graph with its inputs applied", Text: indent(in.payload.Graph), Download: "/jobs/" + in.job.ID + "/graph.json"}
}

// indent pretties JSON; what is none stays as it is.
func indent(raw []byte) string {
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return string(raw)
	}
	return b.String()
}

func (w *Web) eventLines(ctx context.Context, id string) ([]views.EventLine, error) {
	events, err := w.Jobs.Events(ctx, "", id, 0, maxEvents)
	if err != nil {
		return nil, err
	}
	n, _, err := w.names(ctx)
	if err != nil {
		return nil, err
	}
	lines := make([]views.EventLine, 0, len(events))
	for _, e := range events {
		lines = append(lines, views.EventLine{
			Rev: strconv.FormatInt(e.Rev, 10), At: moment(e.At, e.At.UTC().Format("15:04:05.000")), Kind: e.Kind, Message: n.say(e.Message), Worker: workerLabel(e.Worker),
			State: jobState(models.Job{State: e.State, Phase: e.Phase, Progress: models.Progress{Percent: e.Percent}}),
		})
	}
	return lines, nil
}

func (w *Web) deliveryLines(ctx context.Context, sent []models.Delivery, refused string) ([]views.DeliveryLine, error) {
	lines := make([]views.DeliveryLine, 0, len(sent))
	for _, d := range sent {
		tries, err := w.Deliveries.DeliveryAttempts(ctx, d.ID)
		if err != nil {
			return nil, err
		}
		state := deliveryState(d)
		l := views.DeliveryLine{ID: d.ID, Event: d.Event, URL: d.URL, State: state, Attempts: state.Word + " after " + triesWords(d.Attempts),
			Again: views.Verb{Label: "Send again", Icon: "refresh-cw", Small: true, Post: "/deliveries/" + d.ID + "/again", Disabled: refused}}
		if d.NextAt != nil {
			at := until(*d.NextAt, w.Now())
			l.Next, l.Attempts = &at, l.Attempts+", the next in "
		}
		for _, t := range tries {
			l.Tries = append(l.Tries, presentTry(t, w.Now()))
		}
		lines = append(lines, l)
	}
	return lines, nil
}

func triesWords(n int) string {
	if n == 1 {
		return "1 try"
	}
	return count(n) + " tries"
}

func presentTry(t models.DeliveryAttempt, now time.Time) views.DeliveryTry {
	v := views.DeliveryTry{Number: strconv.Itoa(t.Number), At: since(t.At, now, " ago"), Status: "no answer", Latency: strconv.FormatInt(t.LatencyMS, 10) + " ms",
		Error: t.Error, Answer: strings.ToValidUTF8(string(t.Answer), "\uFFFD")}
	if t.Status > 0 {
		v.Status = strconv.Itoa(t.Status)
	}
	return v
}

// liveJob keeps a job's page current.
func (w *Web) liveJob(c *fiber.Ctx) error {
	id, tab := c.Params("id"), c.Query("tab")
	if _, err := w.Jobs.Job(c.UserContext(), "", id); err != nil {
		return err
	}
	refused := refusal(personOf(c).operator.Role)
	return w.stream(c, watch{job: id, every: 2 * time.Second}, func(feed Feed) page {
		ended := false // what has ended and was sent does not change any more
		return func(ctx context.Context) ([]part, error) {
			parts, err := w.frame(ctx, w.Fleet.Workers())
			if err != nil || ended && tab != "deliveries" { // a delivery follows the end
				return parts, err
			}
			in, err := w.jobInput(ctx, id)
			if err != nil {
				return nil, err
			}
			ended = in.job.State.Final()
			in.update, _ = feed.Latest()
			parts = append(parts, box("job-head", views.JobHeading(presentHead(in))), box("job-verbs", views.VerbRow(jobVerbs(in.job.Job, refused))))
			switch tab {
			case "":
			case "events":
				lines, err := w.eventLines(ctx, id)
				return append(parts, box("job-events", views.EventTable(lines))), err
			case "graph":
				if g, _ := w.graphTab(in); g != nil {
					parts = append(parts, box("job-graph", views.GraphDrawing(*g)))
				}
				return parts, nil
			case "deliveries":
				lines, err := w.deliveryLines(ctx, in.sent, refused)
				return append(parts, box("job-deliveries", views.DeliveryList(lines))), err
			default: // what the tab shows does not change; its frame does
				return parts, nil
			}
			s := presentSummary(in)
			return append(parts, box("job-time", views.JobTime(s)), box("job-out", views.JobOut(s)), box("job-why", views.JobWhy(s))), nil
		}
	})
}
