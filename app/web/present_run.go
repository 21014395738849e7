package web

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"comfyfleet/models"
	"comfyfleet/views"
	"comfyfleet/workflows"
)

// sliderSteps is how many positions a slider may have; with more, a number is easier to type.
const sliderSteps = 200

// presentForm is the form of a recipe. problems are by parameter key, what they say under "" is about the whole.
func (w *Web) presentForm(r recipe, problems map[string]string, media func(p workflows.Param) views.Media) views.RunForm {
	f := views.RunForm{Title: r.title, Alias: r.alias, Note: r.note, Action: r.path, Reset: r.path, Submit: "Run", Problem: problems[""]}
	if r.slug != "" {
		f.Version = "v" + strconv.Itoa(r.version)
	}
	groups := map[string]int{}
	for _, p := range r.params {
		field := presentField(p, r.values[p.Key], problems[p.Key])
		if p.Media() {
			field = views.Field{Kind: "media", Media: media(p)}
			if problems[p.Key] != "" {
				field.Media.Problem = problems[p.Key]
			}
		}
		if p.Group == "" {
			f.Fields = append(f.Fields, field)
			continue
		}
		at, ok := groups[p.Group]
		if !ok {
			at = len(f.Groups)
			groups[p.Group] = at
			f.Groups = append(f.Groups, views.FieldGroup{Title: p.Group})
		}
		g := &f.Groups[at]
		g.Fields = append(g.Fields, field)
		g.Open = g.Open || problems[p.Key] != ""
	}
	if len(r.params) == 0 {
		f.Note = strings.TrimSpace(f.Note + " It has no inputs to set.")
	}
	return f
}

// presentField is one parameter that is no file.
func presentField(p workflows.Param, value json.RawMessage, problem string) views.Field {
	f := views.Field{Name: "p." + p.Key, ID: "p-" + p.Key, Label: p.Label, Help: p.Help, Min: string(p.Min), Max: string(p.Max), Step: string(p.Step), Problem: problem}
	if f.Label == "" {
		f.Label = p.Key
	}
	if value == nil {
		value = p.Default
	}
	f.Value = shown(value)
	switch p.Type {
	case workflows.TypeText:
		f.Kind, f.Count = "text", strconv.Itoa(utf8.RuneCountInString(f.Value))
		f.Optional = strings.Contains(p.Key, "negative")
	case workflows.TypeBoolean:
		f.Kind, f.On = "switch", f.Value == "true"
	case workflows.TypeSeed:
		f.Kind = "seed"
	case workflows.TypeChoice:
		f.Kind = "choice"
		for _, o := range p.Options {
			f.Options = append(f.Options, views.Option{Value: o, Label: o, Selected: o == f.Value})
		}
	case workflows.TypeInteger, workflows.TypeNumber:
		f.Kind = "number"
		if slides(p, f.Value) {
			f.Kind = "slider"
		}
	default:
		f.Kind = "line"
	}
	return f
}

// shown is a JSON value as a form shows it: text without quotes, numbers as they are written.
func shown(raw json.RawMessage) string {
	if len(raw) > 0 && raw[0] == '"' {
		return jsonText(raw)
	}
	if string(raw) == "null" {
		return ""
	}
	return string(raw)
}

// slides reports whether a number has few enough positions for a slider, and stands on one of its own.
func slides(p workflows.Param, value string) bool {
	low, err1 := strconv.ParseFloat(string(p.Min), 64)
	high, err2 := strconv.ParseFloat(string(p.Max), 64)
	step, err3 := strconv.ParseFloat(string(p.Step), 64)
	v, err4 := strconv.ParseFloat(value, 64)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || step <= 0 {
		return false
	}
	return v >= low && v <= high && (high-low)/step <= sliderSteps
}

// formProblems sorts an error's fields to the form's.
func formProblems(err error) map[string]string {
	problems := map[string]string{}
	if err == nil {
		return problems
	}
	var e *models.Error
	if errors.As(err, &e) {
		for _, f := range e.Fields {
			if key, ok := strings.CutPrefix(f.Field, "params."); ok {
				problems[key] = sentence(f.Detail)
			}
		}
	}
	if len(problems) == 0 {
		problems[""] = reason(err)
		if e != nil {
			for _, n := range nodeProblems(string(e.NodeErrors)) {
				problems[""] += " Node " + n.Node + " (" + n.Class + "): " + strings.TrimSpace(n.Message+" "+n.Details) + "."
			}
		}
	}
	return problems
}

// presentResult is the job that the form started.
func presentResult(in jobInput, refused string) views.RunResult {
	j := in.job.Job
	r := views.RunResult{ID: j.ID, Short: shortID(j.ID), URL: "/jobs/" + j.ID, State: jobState(j), On: workerLabel(j.Worker), Outputs: presentOutputs(in)}
	switch {
	case j.State == models.JobRunning:
		r.Live = presentLive(in.job, in.update, in.now)
		if j.StartedAt != nil {
			at := since(*j.StartedAt, in.now, " gone")
			r.For = &at
		}
	case j.State == models.JobQueued:
		r.Waiting = &views.Waiting{Position: positionWords(in.job), Reason: sentence(in.names.waiting(j))}
		at := since(j.CreatedAt, in.now, "")
		r.For = &at
	case j.State != models.JobSucceeded:
		r.Failure = presentFailure(j)
	default:
		if j.FinishedAt != nil {
			at := moment(*j.FinishedAt, tookText(j.FinishedAt.Sub(j.CreatedAt)))
			r.For = &at
		}
		if len(in.outputs) == 0 {
			r.Outputs.Note = "The graph saved nothing."
		}
	}
	if j.State.Final() {
		r.Again = "/run/job/" + j.ID
		r.Nodes, r.Quick = runNodes(in)
	} else {
		r.Cancel = &views.Verb{Label: "Cancel", Icon: "ban", Kind: "danger", Small: true, Post: "/jobs/" + j.ID + "/cancel", Disabled: refused, TestID: "cancel"}
	}
	return r
}

// quickNode is the time in ms below which a node is not worth a line.
const quickNode = 20

// runNodes are the nodes of the attempt that ended the job, with their times. Those that took none, cached or quick, are
// folded.
func runNodes(in jobInput) (list []views.RunNode, quick *views.Folded) {
	if len(in.attempts) == 0 {
		return nil, nil
	}
	failed := map[string]bool{}
	for _, p := range nodeProblems(in.job.NodeErrors) {
		failed[p.Node] = true
	}
	var folded []string
	for _, n := range nodeTimes(in.attempts[len(in.attempts)-1]) {
		r := views.RunNode{State: "ok", Title: n.Class, Note: "node " + n.Node, Value: tookText(millis(n.MS))}
		switch {
		case failed[n.Node]:
			r.State = "failed"
		case n.Cached || n.MS < quickNode:
			folded = append(folded, n.Node+" "+n.Class)
			continue
		case n.Steps > 0:
			r.Note += ", " + strconv.Itoa(n.Steps) + " steps"
		}
		list = append(list, r)
	}
	if len(folded) > 0 {
		quick = &views.Folded{ID: "quick-nodes", Label: plural(len(folded), "node") + " cached or done at once", Text: strings.Join(folded, ", ")}
	}
	return list, quick
}
