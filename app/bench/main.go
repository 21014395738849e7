package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

// rowLimit bounds one row; the longest builds a million jobs first.
const rowLimit = 3 * time.Minute

// row is one measurement. It may give several lines of the table.
type row struct {
	name, about string
	run         func(ctx context.Context, l *lab) ([]figure, error)
}

func rows() []row {
	return []row{
		{"latency", "what the service adds to a trivial job", latency},
		{"submit", "durable submissions of a 60 kB graph", submissions},
		{"status", "reads of a job's status", statusReads},
		{"list", "listing at a thousand and at a million jobs", listings},
		{"idle", "how long a card waits between jobs", idleCard},
		{"followers", "2000 followers of 64 jobs, 100 of them stalled", followers},
		{"upload", "memory of a 500 MB request", uploads},
		{"download", "memory of a 600 MB output in base64", downloads},
		{"pages", "first pages of the dashboard", pages},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	binary := flags.String("binary", "bin/comfyfleet", "the program to measure")
	only := flags.String("run", "", "only rows whose name matches this regular expression")
	list := flags.Bool("list", false, "list the rows and end")
	if err := flags.Parse(args); err != nil {
		return err
	}
	chosen, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	if *list {
		for _, r := range rows() {
			fmt.Fprintf(stdout, "%-10s %s\n", r.name, r.about)
		}
		return nil
	}
	var figures []figure
	failed := 0
	for _, r := range rows() {
		if !chosen.MatchString(r.name) {
			continue
		}
		made, err := measure(ctx, r, *binary, stderr)
		if err != nil {
			failed++
			fmt.Fprintf(stderr, "%s: %v\n", r.name, err)
		}
		figures = append(figures, made...)
	}
	if failed == 0 && len(figures) == 0 {
		return fmt.Errorf("no row matches %q; -list shows them", *only)
	}
	if len(figures) > 0 {
		if err := printTable(stdout, figures); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d rows could not be measured", failed)
	}
	return nil
}

// measure runs one row in a directory of its own and ends what it started.
func measure(ctx context.Context, r row, binary string, log io.Writer) (figures []figure, err error) {
	ctx, cancel := context.WithTimeout(ctx, rowLimit)
	defer cancel()
	began := time.Now()
	fmt.Fprintf(log, "%s: %s …\n", r.name, r.about)
	l, err := newLab(binary)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	figures, err = r.run(ctx, l)
	fmt.Fprintf(log, "%s: %s\n", r.name, time.Since(began).Round(100*time.Millisecond))
	return figures, err
}
