package sim

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// commandLine is what the options say.
type commandLine struct {
	Options
	hosts     []string
	port      int
	logStdout bool
	quickTest bool
	faultHelp bool
	help      bool
}

// flag is one option: its values, and what it sets. Unknown options end the program with code 2, as argparse does.
type flag struct {
	name     string
	min, max int // how many values; max above min makes values optional
	help     string
	set      func(*commandLine, []string) error
}

var errUsage = errors.New("usage")

// flags are the options of ComfyUI that a supervisor passes, then our own.
func flags() []flag {
	ignore := func(*commandLine, []string) error { return nil }
	text := func(to func(*commandLine) *string) func(*commandLine, []string) error {
		return func(s *commandLine, v []string) error { *to(s) = v[0]; return nil }
	}
	span := func(to func(*commandLine) *time.Duration) func(*commandLine, []string) error {
		return func(s *commandLine, v []string) (err error) { *to(s), err = time.ParseDuration(v[0]); return err }
	}
	return []flag{
		{"--listen", 0, 1, "address, several with commas, each with or without a port; alone: all", (*commandLine).setListen},
		{"--port", 1, 1, "port, 0 for any free one (8188)", (*commandLine).setPort},
		{"--base-directory", 1, 1, "where input, output, temp, user and models are (temporary)", text(func(s *commandLine) *string { return &s.BaseDir })},
		{"--output-directory", 1, 1, "", text(func(s *commandLine) *string { return &s.OutputDir })},
		{"--input-directory", 1, 1, "", text(func(s *commandLine) *string { return &s.InputDir })},
		{"--temp-directory", 1, 1, "parent of the temp directory", text(func(s *commandLine) *string { return &s.TempDir })},
		{"--user-directory", 1, 1, "must exist", (*commandLine).setUserDir},
		{"--preview-method", 1, 1, "none, auto, latent2rgb or taesd", (*commandLine).setPreviews},
		{"--preview-size", 1, 1, "", ignore},
		{"--max-upload-size", 1, 1, "MB of any request body (100)", (*commandLine).setMaxUpload},
		{"--disable-metadata", 0, 0, "", func(s *commandLine, _ []string) error { s.DisableMetadata = true; return nil }},
		{"--cache-none", 0, 0, "", func(s *commandLine, _ []string) error { s.Cache = CacheNone; return nil }},
		{"--cache-classic", 0, 0, "", func(s *commandLine, _ []string) error { s.Cache = CacheClassic; return nil }},
		{"--cache-lru", 1, 1, "", func(s *commandLine, v []string) (err error) { s.CacheEntries, err = strconv.Atoi(v[0]); return err }},
		{"--cache-ram", 0, 2, "", ignore},
		{"--high-ram", 0, 0, "", ignore},
		{"--log-stdout", 0, 0, "", func(s *commandLine, _ []string) error { s.logStdout = true; return nil }},
		{"--quick-test-for-ci", 0, 0, "start, then exit 0", func(s *commandLine, _ []string) error { s.quickTest = true; return nil }},
		{"--verbose", 0, 2, "", ignore},
		{"--database-url", 1, 1, "", ignore},
		{"--models-directory", 1, 1, "", ignore},
		{"--extra-model-paths-config", 1, math.MaxInt, "", ignore},
		{"--whitelist-custom-nodes", 1, math.MaxInt, "", ignore},
		{"--fast", 0, math.MaxInt, "", ignore},
		{"--cuda-device", 1, 1, "", ignore},
		{"--default-device", 1, 1, "", ignore},
		{"--reserve-vram", 1, 1, "", ignore},
		{"--front-end-root", 1, 1, "", ignore},
		{"--front-end-version", 1, 1, "", ignore},
		{"--enable-cors-header", 0, 1, "", ignore},
		{"--disable-api-nodes", 0, 0, "", ignore},
		{"--disable-auto-launch", 0, 0, "", ignore},
		{"--disable-all-custom-nodes", 0, 0, "", ignore},
		{"--dont-print-server", 0, 0, "", ignore},
		{"--disable-smart-memory", 0, 0, "", ignore},
		{"--disable-xformers", 0, 0, "", ignore},
		{"--use-sage-attention", 0, 0, "", ignore},
		{"--use-pytorch-cross-attention", 0, 0, "", ignore},
		{"--cpu", 0, 0, "", ignore},
		{"--gpu-only", 0, 0, "", ignore},
		{"--highvram", 0, 0, "", ignore},
		{"--normalvram", 0, 0, "", ignore},
		{"--lowvram", 0, 0, "", ignore},
		{"--novram", 0, 0, "", ignore},
		{"--multi-user", 0, 0, "", ignore},
		{"--help", 0, 0, "show this", func(s *commandLine, _ []string) error { s.help = true; return nil }},

		{"--speed", 1, 1, "divides every simulated duration (1)", (*commandLine).setSpeed},
		{"--load-time", 1, 1, "of a model file (1.5s)", span(func(s *commandLine) *time.Duration { return &s.LoadTime })},
		{"--step-time", 1, 1, "of a sampler step (80ms)", span(func(s *commandLine) *time.Duration { return &s.StepTime })},
		{"--models", 1, 1, "folder/name,… that exist (any name is accepted)", func(s *commandLine, v []string) error {
			s.Models = append(s.Models, strings.Split(v[0], ",")...)
			return nil
		}},
		{"--journal", 1, 1, "file that records what was executed", text(func(s *commandLine) *string { return &s.Journal })},
		{"--test-nodes", 0, 0, "add the Sim* classes", func(s *commandLine, _ []string) error { s.TestNodes = true; return nil }},
		{"--fault", 1, 1, "NAME[=ARG], repeatable; --fault help lists them", (*commandLine).addFault},
	}
}

// parseFlags reads a command line. errUsage wraps what was not understood.
func parseFlags(args []string) (*commandLine, error) {
	s := &commandLine{hosts: []string{"127.0.0.1"}, port: 8188}
	s.Args = append([]string{"comfyfleet sim"}, args...)
	table := map[string]flag{}
	for _, f := range flags() {
		table[f.name] = f
	}
	for len(args) > 0 {
		name, value, joined := strings.Cut(args[0], "=")
		f, ok := table[name]
		if !ok {
			return nil, fmt.Errorf("%w: unrecognized arguments: %s", errUsage, args[0])
		}
		args = args[1:]
		var values []string
		if joined {
			values = []string{value}
		}
		for !joined && len(values) < f.max && len(args) > 0 && !strings.HasPrefix(args[0], "--") {
			values, args = append(values, args[0]), args[1:]
		}
		if len(values) < f.min || len(values) > f.max {
			return nil, fmt.Errorf("%w: argument %s: expected %d value(s)", errUsage, name, f.min)
		}
		if err := f.set(s, values); err != nil {
			return nil, fmt.Errorf("%w: argument %s: %w", errUsage, name, err)
		}
	}
	return s, nil
}

func (s *commandLine) setListen(values []string) error {
	s.hosts = []string{"0.0.0.0"}
	if len(values) == 0 {
		return nil
	}
	s.hosts = strings.Split(values[0], ",")
	for i, h := range s.hosts {
		host, port, err := net.SplitHostPort(h)
		if err != nil {
			continue // no port in it
		}
		if err := s.setPort([]string{port}); err != nil {
			return err
		}
		s.hosts[i] = host
	}
	return nil
}

func (s *commandLine) setPort(values []string) (err error) {
	if s.port, err = strconv.Atoi(values[0]); err != nil || s.port < 0 || s.port > 65535 {
		return fmt.Errorf("invalid int value: '%s'", values[0])
	}
	return nil
}

func (s *commandLine) setUserDir(values []string) error {
	if info, err := os.Stat(values[0]); err != nil || !info.IsDir() {
		return fmt.Errorf("The path '%s' does not exist.", values[0]) //nolint:staticcheck // ComfyUI's wording
	}
	s.UserDir = values[0]
	return nil
}

func (s *commandLine) setPreviews(values []string) error {
	switch values[0] {
	case "none", "auto", "latent2rgb", "taesd":
		s.Previews = values[0]
		return nil
	}
	return fmt.Errorf("invalid choice: '%s' (choose from none, auto, latent2rgb, taesd)", values[0])
}

func (s *commandLine) setMaxUpload(values []string) error {
	mb, err := strconv.ParseFloat(values[0], 64)
	s.MaxUpload = int64(mb * (1 << 20))
	return err
}

func (s *commandLine) setSpeed(values []string) (err error) {
	if s.Speed, err = strconv.ParseFloat(values[0], 64); err == nil && !(s.Speed > 0) {
		err = errors.New("must be positive")
	}
	return err
}

func (s *commandLine) addFault(values []string) error {
	if values[0] == "help" {
		s.faultHelp = true
		return nil
	}
	f, err := ParseFault(values[0])
	s.Faults = append(s.Faults, f)
	return err
}

// usage prints the options like argparse.
func usage(w io.Writer) {
	fmt.Fprint(w, "usage: comfyfleet sim [options]\n\nA stand-in for ComfyUI. It takes ComfyUI's options; the ones without a text are accepted and ignored.\n\n")
	for _, f := range flags() {
		fmt.Fprintf(w, "  %-28s %s\n", f.name, f.help)
	}
}

func faultHelp(w io.Writer) {
	for _, f := range Faults() {
		name := f.Name
		if f.Arg != "" {
			name += "=" + f.Arg
		}
		fmt.Fprintf(w, "  %-44s %s\n", name, f.Does)
	}
}
