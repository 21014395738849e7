package web

import (
	"context"
	"strings"
	"sync"

	"comfyfleet/models"
)

// maxResults bounds the remembered results: a line of text each.
const maxResults = 5000

// results remembers what finished jobs made, in words: a list asks for the same fifty again and again, and what a
// succeeded job made never changes.
type results struct {
	mu    sync.Mutex
	words map[string]string
}

func newResults() *results { return &results{words: map[string]string{}} }

// result is "2 images, 1 video" of a succeeded job, "" for any other.
func (w *Web) result(ctx context.Context, job models.Job) string {
	if job.State != models.JobSucceeded {
		return ""
	}
	w.results.mu.Lock()
	words, ok := w.results.words[job.ID]
	w.results.mu.Unlock()
	if ok {
		return words
	}
	outputs, err := w.Jobs.Outputs(ctx, "", job.ID)
	if err != nil {
		return ""
	}
	words = outputWords(outputs)
	w.results.mu.Lock()
	defer w.results.mu.Unlock()
	if len(w.results.words) >= maxResults {
		clear(w.results.words)
	}
	w.results.words[job.ID] = words
	return words
}

// outputWords counts outputs by kind. Previews that the graph did not ask to keep are left out unless there is nothing
// else.
func outputWords(outputs []models.Output) string {
	counts := map[string]int{}
	for _, o := range kept(outputs) {
		counts[o.Type]++
	}
	var parts []string
	for _, kind := range []string{"image", "video", "audio", "text", "model", "file"} {
		n := counts[kind]
		switch {
		case n == 0:
		case kind == "audio":
			parts = append(parts, plural(n, "audio file"))
		default:
			parts = append(parts, plural(n, kind))
		}
	}
	if len(parts) == 0 {
		return "no outputs"
	}
	return strings.Join(parts, ", ")
}

// kept is outputs without previews, or all of them when there are only previews.
func kept(outputs []models.Output) []models.Output {
	var real []models.Output
	for _, o := range outputs {
		if !o.Temp {
			real = append(real, o)
		}
	}
	if len(real) == 0 {
		return outputs
	}
	return real
}
