package web

import (
	"regexp"
	"strings"

	"comfyfleet/models"
	"comfyfleet/views"
)

var (
	errorLine = regexp.MustCompile(`(?i)\b(error|exception|traceback|fatal|critical|failed|killed)\b|!!!`)
	levelMark = regexp.MustCompile(`^\[?(DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL)\]?:? `)
	warnLine  = regexp.MustCompile(`(?i)\b(warn|warning|deprecated|missing|retry|slow)\b`)
)

// logLines gives each line of an engine's output its level: the one that it begins with, else the one that its words
// suggest.
func logLines(lines []string, who string) []views.LogLine {
	out := make([]views.LogLine, 0, len(lines))
	for _, text := range lines {
		if strings.TrimSpace(text) == "" {
			continue
		}
		l := views.LogLine{Level: "info", Who: who, Text: text}
		said := text
		if m := levelMark.FindStringSubmatch(text); m != nil {
			said, l.Text = m[1], text[len(m[0]):]
		}
		switch {
		case errorLine.MatchString(said):
			l.Level, l.State = "error", "failed"
		case warnLine.MatchString(said):
			l.Level, l.State = "warn", "loading"
		}
		out = append(out, l)
	}
	return out
}

// tail splits a stored log into its last n lines.
func tail(text string, n int) []string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if text == "" {
		return nil
	}
	return lines[max(0, len(lines)-n):]
}

// fleetLog is the newest lines of every worker, newest on top within each; engines print no times to order them by.
func fleetLog(f Fleet, workers []models.Worker, each int) []views.LogLine {
	var out []views.LogLine
	for _, w := range workers {
		lines, err := f.Log(w.Name, each)
		if err != nil {
			continue // a worker that never started has no log
		}
		shown := logLines(lines, workerLabel(w.Name))
		for i := len(shown) - 1; i >= 0; i-- {
			out = append(out, shown[i])
		}
	}
	return out
}
