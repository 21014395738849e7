package client

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// drawEvery bounds how often a terminal is redrawn, tick how long its clocks may stand still.
	drawEvery = 100 * time.Millisecond
	tick      = time.Second
	// lineStep is how many percent lie between two lines of one job where there is no terminal.
	lineStep = 10
	barWidth = 24
)

// Display shows how jobs get on: one live line each on a terminal, and plain lines, a few for each job, elsewhere.
type Display struct {
	mu       sync.Mutex
	out      io.Writer
	terminal bool
	width    func() int // columns; asked at every drawing, for terminals are resized
	now      func() time.Time
	rows     []*Row
	drawn    int // live lines on the screen
	drawnAt  time.Time
	stop     chan struct{}
	stopped  chan struct{}
}

// Row is one job of a display.
type Row struct {
	display *Display
	name    string
	classes map[string]string // node id → class, as far as known
	job     Job
	note    string
	added   time.Time
	started time.Time // when it was first seen running
	said    string    // status of the last plain line
	saidAt  int       // percent of the last plain line
}

// NewDisplay makes a display. width answers the columns of the terminal and is not called without one. Close it.
func NewDisplay(out io.Writer, terminal bool, width func() int) *Display {
	d := &Display{out: out, terminal: terminal, width: width, now: time.Now, stop: make(chan struct{}), stopped: make(chan struct{})}
	go d.run()
	return d
}

// run keeps the clocks of the live lines going.
func (d *Display) run() {
	defer close(d.stopped)
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-d.stop:
			return
		case <-t.C:
			d.mu.Lock()
			d.draw(true)
			d.mu.Unlock()
		}
	}
}

// Close takes the live lines away.
func (d *Display) Close() {
	close(d.stop)
	<-d.stopped
	d.mu.Lock()
	defer d.mu.Unlock()
	d.erase()
}

// Println writes a line that stays, above the live ones.
func (d *Display) Println(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.println(text)
	d.draw(true)
}

// Add starts a line. classes name the nodes of the graph by class; nil when unknown.
func (d *Display) Add(name string, classes map[string]string) *Row {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := &Row{display: d, name: clean(name), classes: classes, added: d.now(), job: Job{Status: "sending"}}
	d.rows = append(d.rows, r)
	d.draw(true)
	return r
}

// Update shows the job's newest state.
func (r *Row) Update(j Job) {
	d := r.display
	d.mu.Lock()
	defer d.mu.Unlock()
	changed := j.Status != r.job.Status
	r.job, r.note = j, ""
	if j.Status == StatusRunning && r.started.IsZero() {
		r.started = d.now()
	}
	if !d.terminal && !j.Final() && (r.said != j.Status || j.Progress >= r.saidAt+lineStep) {
		r.said, r.saidAt = j.Status, j.Progress
		d.println(r.name + ": " + strings.Join(r.words(), ", "))
	}
	d.draw(changed)
}

// Note says in words what is in the way, such as why a call is repeated, until the job's next update.
func (r *Row) Note(text string) {
	r.Show(text)
	r.display.mu.Lock()
	defer r.display.mu.Unlock()
	if !r.display.terminal {
		r.display.println(r.name + ": " + clean(text))
	}
}

// Show puts words in place of the job's state on the live line, and nowhere else.
func (r *Row) Show(text string) {
	r.display.mu.Lock()
	defer r.display.mu.Unlock()
	r.note = clean(text)
	r.display.draw(true)
}

// Done ends the line with words that stay.
func (r *Row) Done(text string) {
	d := r.display
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rows = slices.DeleteFunc(d.rows, func(o *Row) bool { return o == r })
	d.println(r.name + ": " + text)
	d.draw(true)
}

// println and the following are called under the lock.
func (d *Display) println(text string) {
	d.erase()
	fmt.Fprintln(d.out, text) // there is nobody to tell that a screen is gone
}

func (d *Display) erase() {
	if d.drawn > 0 {
		fmt.Fprintf(d.out, "\x1b[%dA\r\x1b[J", d.drawn)
		d.drawn = 0
	}
}

func (d *Display) draw(now bool) {
	if !d.terminal || !now && d.now().Sub(d.drawnAt) < drawEvery {
		return
	}
	var out strings.Builder
	if d.drawn > 0 {
		fmt.Fprintf(&out, "\x1b[%dA\r\x1b[J", d.drawn)
	}
	width := max(20, d.width()-1) // the last column wraps on some terminals
	for _, r := range d.rows {
		out.WriteString(fit(r.line(), width) + "\n")
	}
	d.drawn, d.drawnAt = len(d.rows), d.now()
	io.WriteString(d.out, out.String())
}

// line is the live line: name, bar and words.
func (r *Row) line() string {
	words := r.words()
	if r.job.Status != StatusRunning && r.job.Progress == 0 {
		return r.name + "  " + strings.Join(words, "  ")
	}
	filled := barWidth * r.job.Progress / 100
	return r.name + "  " + strings.Repeat("█", filled) + strings.Repeat("░", barWidth-filled) + "  " + strings.Join(words, "  ")
}

// words say how far the job is, the most important first, for the end of a long line is cut.
func (r *Row) words() []string {
	j := r.job
	if r.note != "" {
		return []string{r.note}
	}
	since := r.display.now().Sub(r.added)
	switch j.Status {
	case StatusQueued:
		text := "queued"
		if j.QueuePosition != nil && *j.QueuePosition > 0 {
			text += fmt.Sprintf(", number %d in the queue", *j.QueuePosition)
		}
		if j.WaitingReason != nil && *j.WaitingReason != "" {
			text += ": " + clean(*j.WaitingReason)
		}
		return []string{text, clock(since)}
	case StatusRunning:
	default:
		return []string{j.Status, clock(since)}
	}
	words := []string{fmt.Sprintf("%3d%%", j.Progress)}
	if j.NodesTotal > 0 {
		words = append(words, fmt.Sprintf("node %d/%d", j.NodesDone, j.NodesTotal))
	}
	if j.CurrentNode != nil {
		words = append(words, r.node(*j.CurrentNode))
	}
	if j.Stalled {
		words = append(words, "no news for a while")
	}
	since = r.display.now().Sub(r.started)
	words = append(words, clock(since))
	if j.Progress >= 3 && j.Progress < 100 {
		words = append(words, "about "+clock(since*time.Duration(100-j.Progress)/time.Duration(j.Progress))+" left")
	}
	return words
}

// node names the node that runs, by class where the graph is known, with its step counter.
func (r *Row) node(id string) string {
	name := clean(r.classes[id])
	if r.job.CurrentClass != nil {
		name = clean(*r.job.CurrentClass)
	}
	if name == "" {
		name = "at node " + clean(id)
	}
	if r.job.ProgressMax > 0 {
		name += fmt.Sprintf(" %d/%d", r.job.ProgressValue, r.job.ProgressMax)
	}
	return name
}

// clock writes a duration as minutes and seconds.
func clock(d time.Duration) string {
	s := int(d.Round(time.Second) / time.Second)
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// fit cuts a line to the width of the terminal.
func fit(s string, width int) string {
	if r := []rune(s); len(r) > width {
		return string(r[:width-1]) + "…"
	}
	return s
}

// clean takes out what would move a terminal's cursor: texts come from a server.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, s)
}
