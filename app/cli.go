package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"

	"comfyfleet/app/config"
)

// cli is the command line.
type cli struct {
	config.Settings `embed:"" group:"Settings"`

	Config string `env:"COMFYFLEET_CONFIG" help:"YAML file of settings, named as the flags." placeholder:"FILE"`
	JSON   bool   `name:"json" help:"Print data as JSON."`

	Serve     serveCmd     `cmd:"" help:"Run the service."`
	Demo      demoCmd      `cmd:"" help:"Run the service and the bundled video job through its API."`
	Submit    submitCmd    `cmd:"" help:"Submit workflow files to a server, follow them and save their outputs."`
	Tenants   tenantsCmd   `cmd:"" help:"Manage tenants."`
	Keys      keysCmd      `cmd:"" help:"Manage API keys."`
	Operators operatorsCmd `cmd:"" help:"Manage the people of the dashboard."`
	Workers   workersCmd   `cmd:"" help:"Look after the workers of the running server."`
	Workflows workflowsCmd `cmd:"" help:"Manage the library of workflows."`
	Usage     usageCmd     `cmd:"" help:"Show who used how much."`
	Settings_ configCmd    `cmd:"" name:"config" help:"Print every setting and where it came from."`
	Backup    backupCmd    `cmd:"" help:"Copy the database, also while the server runs."`
	Version   versionCmd   `cmd:"" help:"Print the version."`
	Sim       simCmd       `cmd:"" help:"Run the ComfyUI stand-in."`
	RunWorker runWorkerCmd `cmd:"" hidden:"" help:"Parent of a worker's process."`
}

// run parses the command line and runs one command. It answers the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	// A worker's parent and the stand-in take other programs' arguments and no settings of ours.
	if len(args) > 0 {
		switch args[0] {
		case "run-worker":
			return explain((&runWorkerCmd{Args: args[1:]}).Run(nil), stderr)
		case "sim":
			s := &session{ctx: ctx, stdout: stdout, stderr: stderr}
			return explain((&simCmd{Args: args[1:]}).Run(s), stderr)
		}
	}
	var c cli
	chosen, err := parse(&c, args, stdout, stderr)
	if err != nil {
		return explain(err, stderr)
	}
	s := &session{ctx: ctx, settings: &c.Settings, stdout: stdout, stderr: stderr, asJSON: c.JSON}
	return explain(chosen.Run(s), stderr)
}

// parse reads flags, environment and file into c and checks the settings.
func parse(c *cli, args []string, stdout, stderr io.Writer) (*kong.Context, error) {
	file := map[string]any{}
	path, err := configFile(args)
	if err != nil {
		return nil, err
	}
	if path != "" {
		if file, err = config.ReadFile(path); err != nil {
			return nil, err
		}
	}
	if err := config.Check(file, os.LookupEnv); err != nil {
		return nil, fmt.Errorf("settings:\n%w", err)
	}
	exited := -1
	parser, err := kong.New(c, kong.Name("comfyfleet"), kong.Writers(stdout, stderr), kong.Resolvers(config.Resolver(file)),
		kong.Description("Turns the GPUs you own into a multi-tenant ComfyUI service."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true, NoExpandSubcommands: true}), kong.Exit(func(code int) { exited = code }))
	if err != nil {
		return nil, fmt.Errorf("command line: %w", err)
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	chosen, err := parser.Parse(args)
	if exited >= 0 {
		return nil, exitError(exited) // --help was asked for and shown
	}
	if err != nil {
		var pe *kong.ParseError
		if errors.As(err, &pe) {
			return nil, fmt.Errorf("%w (see comfyfleet --help)", err)
		}
		return nil, err
	}
	c.Settings.NoteSources(chosen, file, os.LookupEnv)
	if err := c.Settings.Validate(); err != nil {
		return nil, fmt.Errorf("settings:\n%w", err)
	}
	return chosen, nil
}

// configFile finds the file of settings before the command line is parsed, since its values take part in that.
func configFile(args []string) (string, error) {
	for i, a := range args {
		if a == "--config" {
			if i+1 == len(args) {
				return "", errors.New("--config needs a file")
			}
			return args[i+1], nil
		}
		if rest, ok := strings.CutPrefix(a, "--config="); ok {
			return rest, nil
		}
	}
	return os.Getenv("COMFYFLEET_CONFIG"), nil
}
