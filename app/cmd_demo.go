package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/term"

	"comfyfleet/app/client"
	"comfyfleet/workflows"
)

// demoWorkflow is the job that the demo runs.
const demoWorkflow = "wan22-smooth-loop"

type demoCmd struct {
	Once bool   `help:"End after the job; the exit code is 0 only if it completed."`
	Out  string `default:"outputs" help:"Directory for the outputs." type:"path"`
}

func (c *demoCmd) Run(s *session) error {
	if s.settings.Workers == "auto" && s.settings.ComfyUIDir == "" {
		s.settings.Workers = "sim:2"
		fmt.Fprintln(s.stdout, "No workers are configured: two simulated ones run, and what they make is no real picture.")
	}
	log := slog.New(slog.DiscardHandler)
	if s.settings.LogLevel == "debug" {
		log = newLogger(s.settings, s.stderr)
	} else if err := os.MkdirAll(s.settings.DataDir, 0o700); err == nil {
		// The progress bar has the terminal; what a log would say goes to a file.
		file, err := os.OpenFile(filepath.Join(s.settings.DataDir, "demo.log"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
		if err == nil {
			defer file.Close()
			log = newLogger(s.settings, file)
		}
	}
	svc, err := newService(s.ctx, s.settings, log)
	if err != nil {
		return err
	}
	if err := svc.reveal(s.stderr); err != nil {
		svc.close()
		return err
	}
	return c.serve(s, svc)
}

// serve runs the service and, when it listens, the job.
func (c *demoCmd) serve(s *session, svc *service) error {
	key, err := svc.admin.mintDemoKey(s.ctx)
	if err != nil {
		svc.close()
		return err
	}
	ctx, stop := context.WithCancel(s.ctx)
	defer stop()
	address := make(chan string, 1)
	served := make(chan error, 1)
	go func() { served <- svc.run(ctx, func(a string) { address <- a }) }()
	var base string
	select {
	case a := <-address:
		base = "http://" + a
	case err := <-served:
		return err
	}
	ran := c.job(ctx, s, base, key)
	if ran == nil {
		c.explain(s.stdout, s.settings.Public(base[len("http://"):]), key)
	}
	if c.Once || ran != nil {
		stop()
	}
	if err := <-served; err != nil {
		return err
	}
	if ran != nil && s.ctx.Err() == nil {
		return ran
	}
	return nil
}

func (c *demoCmd) job(ctx context.Context, s *session, base, key string) error {
	entry, err := bundled(demoWorkflow)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.stdout, "%s is up. Running %q through its API.\n", base, entry.Title)
	tty := terminal(s.stdout)
	return client.RunDemo(ctx, client.DemoOptions{
		Server: base, Key: key, Out: c.Out, WorkflowID: entry.Slug, Title: entry.Title, Graph: entry.Graph, Media: entry.Sample,
		Stdout: s.stdout, Terminal: tty != nil, Width: func() int { return width(tty) },
	})
}

func (c *demoCmd) explain(w io.Writer, base, key string) {
	fmt.Fprintf(w, `
The same over the API (this key lives for one hour):

  export KEY=%s
  curl -H "Authorization: Bearer $KEY" %s/v1/workflows
  curl -H "Authorization: Bearer $KEY" -d '{"workflow_id":"text-to-image"}' \
       -H 'Content-Type: application/json' %s/v1/jobs
  curl -H "Authorization: Bearer $KEY" '%s/v1/jobs?limit=5'

Dashboard: %s
`, key, base, base, base, base)
	if !c.Once {
		fmt.Fprintln(w, "Serving until Ctrl-C, which stops everything that was started.")
	}
}

func bundled(slug string) (workflows.Entry, error) {
	entries, err := workflows.Bundled()
	if err != nil {
		return workflows.Entry{}, err
	}
	for _, e := range entries {
		if e.Slug == slug {
			return e, nil
		}
	}
	return workflows.Entry{}, fmt.Errorf("no bundled workflow %s", slug)
}

// width is how many columns a terminal has, 80 when it does not say.
func width(tty *os.File) int {
	if tty != nil {
		if w, _, err := term.GetSize(int(tty.Fd())); err == nil && w > 0 {
			return w
		}
	}
	return 80
}
