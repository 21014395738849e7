package main

import (
	"errors"

	"comfyfleet/app/client"
)

type submitCmd struct {
	Files    []string `arg:"" help:"Workflow files in API format." type:"existingfile"`
	Server   string   `env:"COMFYFLEET_SERVER" default:"http://127.0.0.1:8080" help:"Base URL of the server."`
	Key      string   `env:"COMFYFLEET_KEY" help:"API key."`
	Set      []string `help:"NODE.FIELD=VALUE, once for each field; a value that is not JSON is a text." sep:"none"`
	Media    []string `help:"NAME=PATH or NAME=URL, once for each file." sep:"none"`
	Out      string   `help:"Directory for the outputs; without it they stay on the server." type:"path"`
	Parallel int      `default:"4" help:"Jobs of a batch that are under way at once."`
	Priority int      `help:"-100 to 100; higher runs first."`
	Webhook  string   `help:"URL to notify at the end."`
}

func (c *submitCmd) Run(s *session) error {
	tty := terminal(s.stderr)
	err := client.Submit(s.ctx, client.SubmitOptions{
		Server: c.Server, Key: c.Key, Files: c.Files, Set: c.Set, Media: c.Media, Out: c.Out, Parallel: c.Parallel,
		Priority: c.Priority, Webhook: c.Webhook, JSON: s.asJSON,
		Stdout: s.stdout, Stderr: s.stderr, Terminal: tty != nil, Width: func() int { return width(tty) },
	})
	if errors.Is(err, client.ErrJobsFailed) {
		return exitError(1) // each was explained beside its file
	}
	return err
}
