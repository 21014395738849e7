package web

import (
	"context"
	"fmt"
	"strings"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/models"
	"comfyfleet/views"
)

// workerVerb is one thing that operators do to a worker.
type workerVerb struct {
	name, label, icon string
	// fits reports whether it makes sense for a worker in this state; why is said when it does not.
	fits func(w models.Worker) bool
	why  string
	// confirm is asked first, "" for none. danger marks what loses work.
	confirm string
	danger  bool
	done    string
	does    func(f Fleet, ctx context.Context, name string) error
}

// workerVerbTable is every verb, in the order in which menus show them.
func workerVerbTable() []workerVerb {
	managed := func(w models.Worker) bool { return w.Kind != models.WorkerAttached }
	return []workerVerb{
		{name: "clear", label: "Clear quarantine", icon: "undo-2", fits: func(w models.Worker) bool { return w.State == models.WorkerQuarantined },
			why: "It is not quarantined.", done: "out of quarantine", does: func(f Fleet, ctx context.Context, n string) error { return f.ClearQuarantine(ctx, n) }},
		{name: "start", label: "Start now", icon: "power", fits: func(w models.Worker) bool {
			return w.State == models.WorkerBackoff || w.State == models.WorkerStopped
		}, why: "It is not stopped.", done: "starting", does: func(f Fleet, _ context.Context, n string) error { f.Start(n); return nil }},
		{name: "resume", label: "Resume", icon: "play", fits: func(w models.Worker) bool { return w.WantDrain },
			why: "It is not drained.", done: "resumed", does: func(f Fleet, ctx context.Context, n string) error { return f.Resume(ctx, n) }},
		{name: "enable", label: "Enable", icon: "power", fits: func(w models.Worker) bool { return w.WantDisabled },
			why: "It is not disabled.", done: "enabled", does: func(f Fleet, ctx context.Context, n string) error { return f.Enable(ctx, n) }},
		{name: "drain", label: "Drain", icon: "arrow-down-to-line", fits: func(w models.Worker) bool { return !w.WantDrain && !w.WantDisabled },
			why: "It is drained already.", done: "draining", does: func(f Fleet, ctx context.Context, n string) error { return f.Drain(ctx, n) }},
		{name: "free", label: "Free", icon: "eraser", fits: func(w models.Worker) bool { return w.State == models.WorkerReady || w.State == models.WorkerDraining },
			why: "Only an idle engine can unload its models.", done: "asked to unload its models", does: func(f Fleet, ctx context.Context, n string) error { return f.Free(ctx, n) }},
		{name: "restart", label: "Restart…", icon: "refresh-cw", fits: func(w models.Worker) bool { return managed(w) && w.State.Up() },
			why: "Only a process of ours that is up can be restarted.", confirm: "Its process ends and starts again. What it executes goes back to the queue and does not count as a failure.",
			danger: true, done: "restarting", does: func(f Fleet, ctx context.Context, n string) error { return f.Restart(ctx, n) }},
		{name: "disable", label: "Disable…", icon: "ban", fits: func(w models.Worker) bool { return !w.WantDisabled },
			why: "It is disabled already.", confirm: "It ends what it does, stops, and stays out until it is enabled, also over restarts of the server.",
			danger: true, done: "disabled", does: func(f Fleet, ctx context.Context, n string) error { return f.Disable(ctx, n) }},
	}
}

// workerVerbs are the verbs of a card: what matters now in front, the rest in the menu.
func workerVerbs(w models.Worker, refused string) (front, more []views.Verb) {
	for _, v := range workerVerbTable() {
		fits := v.fits(w)
		mends := v.name == "clear" || v.name == "start" || v.name == "resume" || v.name == "enable"
		if mends && !fits {
			continue // what mends a state is shown only in that state
		}
		verb := views.Verb{Label: v.label, Icon: v.icon, Small: true, Disabled: refused, TestID: v.name + "-" + w.Name, Post: "/gpus/" + w.Name + "/" + v.name}
		if refused == "" && !fits {
			verb.Disabled = v.why
		}
		if v.confirm != "" {
			verb.Confirm = &views.Confirm{
				ID: v.name + "-" + w.Name + "-dlg", Title: fmt.Sprintf("%s %s?", trimDots(v.label), workerLabel(w.Name)), Text: v.confirm,
				Button: trimDots(v.label) + " 1 worker", Keep: "Leave it", Danger: v.danger, Action: verb.Post,
			}
		}
		if fits && len(front) < 2 && v.confirm == "" {
			front = append(front, verb)
		} else {
			more = append(more, verb)
		}
	}
	more = append(more, views.Verb{Label: "Read log", Icon: "file-text", Small: true, Link: "/gpus/" + w.Name})
	return front, more
}

func trimDots(s string) string { return strings.TrimSuffix(s, "…") }

// workerVerb does one thing to one worker.
func (w *Web) workerVerb(c *fiber.Ctx) error {
	if _, err := w.form(c); err != nil {
		return err
	}
	name := c.Params("name")
	worker, ok := w.Fleet.Worker(name)
	if !ok {
		return models.ErrNotFound("worker")
	}
	for _, v := range workerVerbTable() {
		if v.name != c.Params("verb") {
			continue
		}
		if !v.fits(worker) {
			return models.Errorf(models.CodeConflict, "wrong_state", "%s is %s. %s", workerLabel(name), worker.State, v.why)
		}
		if err := v.does(w.Fleet, c.UserContext(), name); err != nil {
			return err
		}
		w.audit(c, "worker."+v.name, name, "")
		return w.done(c, "/gpus/"+name, workerLabel(name)+" "+v.done, "")
	}
	return models.Errorf(models.CodeInvalid, "unknown_verb", "there is no such action")
}
