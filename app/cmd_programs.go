package main

import (
	"os/signal"
	"syscall"

	"comfyfleet/gpu/proc"
	"comfyfleet/gpu/sim"
)

// simCmd is a program of its own under our name: it takes ComfyUI's flags, which are not ours to parse.
type simCmd struct {
	Args []string `arg:"" optional:"" passthrough:"all" help:"Flags of the stand-in; see comfyfleet sim --help."`
}

func (c *simCmd) Run(s *session) error {
	// ComfyUI leaves SIGTERM its default action and is seen to be killed by it (protocol §3).
	signal.Reset(syscall.SIGTERM)
	return exitCode(sim.Run(s.ctx, c.Args, s.stdout, s.stderr))
}

// runWorkerCmd is the shim between the server and a worker's process (see gpu/proc). The server starts it.
type runWorkerCmd struct {
	Args []string `arg:"" optional:"" passthrough:"all"`
}

func (c *runWorkerCmd) Run(*session) error { return exitCode(proc.ShimMain(c.Args)) }

func exitCode(code int) error {
	if code == 0 {
		return nil
	}
	return exitError(code)
}
