package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// defaultParallel is how many jobs of a batch are under way at once.
const defaultParallel = 4

// SubmitOptions are the flags of "submit".
type SubmitOptions struct {
	Server string
	Key    string
	// Files are graphs in API format, or whole request bodies with "workflow" or "workflow_id".
	Files []string
	// Set overrides fields of every graph: NODE.FIELD=VALUE; a value that is not JSON is a text.
	Set []string
	// Media are files for every job: NAME=PATH, NAME=URL, or a path whose last element is the name.
	Media []string
	// Out is where outputs go; "" leaves them on the server.
	Out      string
	Parallel int // 0 for defaultParallel
	Priority int
	Webhook  string
	// JSON writes one object for each job to Stdout instead of words.
	JSON bool

	Stdout io.Writer
	// Stderr shows the progress. Terminal says that it is one, and Width how wide.
	Stderr   io.Writer
	Terminal bool
	Width    func() int
}

// Result is what became of one file of a batch.
type Result struct {
	File    string   `json:"file"`
	JobID   string   `json:"job_id"`
	Status  string   `json:"status"` // "" when it was not accepted
	Error   string   `json:"error,omitempty"`
	Outputs []string `json:"outputs"` // paths
	Seconds float64  `json:"seconds"`
	// Simulated says that no card was used: the outputs are stand-ins.
	Simulated bool `json:"simulated"`
}

// ErrJobsFailed is what Submit answers when the batch was done and not every job succeeded.
var ErrJobsFailed = errors.New("not every job succeeded")

// task is one submission of a batch.
type task struct {
	file    string // as given
	name    string // for the progress line
	request Request
	classes map[string]string
}

// Submit runs a file or a batch of files: it sends each, follows it and fetches its outputs. Every file is tried; the
// error at the end says how many failed. All files are read before anything is sent.
func Submit(ctx context.Context, o SubmitOptions) error {
	tasks := make([]task, 0, len(o.Files))
	for _, file := range o.Files {
		t, err := o.task(file)
		if err != nil {
			return err
		}
		tasks = append(tasks, t)
	}
	if len(tasks) == 0 {
		return errors.New("no files to submit")
	}
	nameTasks(tasks)
	if o.Out != "" {
		if err := os.MkdirAll(o.Out, 0o755); err != nil {
			return fmt.Errorf("directory for outputs: %w", err)
		}
	}
	d := NewDisplay(o.Stderr, o.Terminal, o.Width)
	defer d.Close()
	failed := o.runAll(ctx, d, tasks)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted; jobs that were accepted go on at the server: %w", ctx.Err())
	case failed == 1 && len(tasks) == 1:
		return ErrJobsFailed
	case failed > 0:
		return fmt.Errorf("%d of %d failed: %w", failed, len(tasks), ErrJobsFailed)
	}
	return nil
}

// nameTasks calls each by its file's name, or by the whole path where names repeat.
func nameTasks(tasks []task) {
	count := map[string]int{}
	for _, t := range tasks {
		count[filepath.Base(t.file)]++
	}
	for i, t := range tasks {
		if tasks[i].name = filepath.Base(t.file); count[tasks[i].name] > 1 {
			tasks[i].name = t.file
		}
	}
}

// runAll runs the tasks, Parallel at a time, and counts those that failed.
func (o SubmitOptions) runAll(ctx context.Context, d *Display, tasks []task) (failed int) {
	parallel := o.Parallel
	if parallel <= 0 {
		parallel = defaultParallel
	}
	queue := make(chan task)
	var mu sync.Mutex // guards failed and Stdout
	var workers sync.WaitGroup
	for range min(parallel, len(tasks)) {
		workers.Go(func() {
			for t := range queue {
				r := o.run(ctx, d, t)
				mu.Lock()
				if r.Status != StatusCompleted || r.Error != "" {
					failed++
				}
				o.report(r)
				mu.Unlock()
			}
		})
	}
feed:
	for _, t := range tasks {
		select {
		case queue <- t:
		case <-ctx.Done():
			break feed
		}
	}
	close(queue)
	workers.Wait()
	return failed
}

// report writes a result where scripts read it.
func (o SubmitOptions) report(r Result) {
	if o.JSON {
		if raw, err := json.Marshal(r); err == nil {
			fmt.Fprintf(o.Stdout, "%s\n", raw)
		}
		return
	}
	for _, path := range r.Outputs {
		fmt.Fprintln(o.Stdout, path)
	}
}

// run takes one task from the request to its outputs.
func (o SubmitOptions) run(ctx context.Context, d *Display, t task) Result {
	row := d.Add(t.name, t.classes)
	r := Result{File: t.file, Outputs: []string{}}
	began := time.Now()
	err := func() error {
		c, err := New(Options{Server: o.Server, Key: o.Key, Waiting: func(because error, pause time.Duration) {
			row.Note(fmt.Sprintf("%v; again in %s", because, pause.Round(time.Second)))
		}})
		if err != nil {
			return err
		}
		defer c.http.CloseIdleConnections()
		return c.finish(ctx, t.request, o.Out, row, &r)
	}()
	r.Seconds = float64(time.Since(began).Milliseconds()) / 1000
	if err != nil {
		r.Error = err.Error()
		row.Done("failed: " + problemText(err))
		return r
	}
	row.Done(r.words(time.Since(began)))
	return r
}

// finish submits, follows and fetches. r is filled as far as it got.
func (c *Client) finish(ctx context.Context, req Request, out string, row *Row, r *Result) error {
	a, err := c.Submit(ctx, req)
	if err != nil {
		return err
	}
	r.JobID, r.Status = a.JobID, a.Status
	row.Update(Job{ID: a.JobID, Status: a.Status})
	job, err := c.Follow(ctx, a.JobID, row.Update)
	if err != nil {
		return fmt.Errorf("job %s: %w", a.JobID, err)
	}
	r.Status, r.Simulated = job.Status, job.Simulated
	if job.Status != StatusCompleted {
		return &jobError{job}
	}
	if out == "" {
		return nil
	}
	for _, output := range job.Outputs {
		row.Show("fetching " + output.Filename)
		path, err := c.Download(ctx, job.ID, output, out)
		if err != nil {
			return fmt.Errorf("job %s: %w", job.ID, err)
		}
		r.Outputs = append(r.Outputs, path)
	}
	return nil
}

// words say in one line how a job ended well.
func (r Result) words(took time.Duration) string {
	text := fmt.Sprintf("done in %s, job %s, %s", clock(took), r.JobID, count(len(r.Outputs), "file"))
	if r.Simulated {
		text += " (simulated: no card was used)"
	}
	return text
}

// jobError is a job that ended without a result.
type jobError struct{ job Job }

func (e *jobError) Error() string { return fmt.Sprintf("job %s: %s", e.job.ID, e.job.Reason()) }

// problemText is an error with everything that helps to mend it: wrong fields, and a failed job's last log lines.
func problemText(err error) string {
	text := clean(err.Error())
	var p *Problem
	if errors.As(err, &p) && len(p.Errors) > 1 { // one alone is in the text already
		for _, f := range p.Errors {
			text += "\n    " + clean(f.Field+": "+f.Detail)
		}
	}
	var failed *jobError
	if errors.As(err, &failed) {
		tail := failed.job.ErrorLogTail
		for _, line := range tail[max(0, len(tail)-10):] {
			text += "\n    | " + clean(line)
		}
	}
	return text
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
