package gpu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"comfyfleet/gpu/proc"
	"comfyfleet/models"
)

const (
	// preflightLimit bounds one question to Python: its files may lie on a slow network disk.
	preflightLimit = 30 * time.Second
	// pythonProbe names the packages that ComfyUI cannot start without and this Python lacks. Finding a package is
	// quick; importing torch takes seconds.
	pythonProbe = `import importlib.util as u; print(",".join(m for m in ("torch","aiohttp","yaml","PIL") if not u.find_spec(m)))`
)

// ownFlags are those that comfyfleet gives each worker. A second value would send two workers into one directory, or
// open the engine to the network.
var ownFlags = []string{"--listen", "--port", "--base-directory", "--input-directory", "--output-directory", "--temp-directory",
	"--user-directory", "--database-url", "--cuda-device", "--log-stdout"}

// Preflight says in plain words, all at once, what would keep managed workers from starting: in the ComfyUI directory,
// its Python or the arguments. It changes nothing, asks Python two short questions and returns nil when there is no
// managed worker or nothing is found.
func (c Config) Preflight(ctx context.Context) error {
	if !slices.ContainsFunc(c.Workers, func(s Spec) bool { return s.Kind == models.WorkerManaged }) {
		return nil
	}
	problems := c.ComfyUI.checkDirs()
	python, err := c.ComfyUI.findPython()
	if err != nil {
		problems = append(problems, err)
	}
	taken := c.ComfyUI.ownArgs()
	problems = append(problems, taken...)
	if len(problems) == 0 {
		problems = c.ComfyUI.ask(ctx, python)
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("ComfyUI cannot be started:\n%w", err)
	}
	return nil
}

func (c ComfyUI) checkDirs() (problems []error) {
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	switch info, err := os.Stat(c.Dir); {
	case errors.Is(err, os.ErrNotExist):
		wrong("there is no directory %s", c.Dir)
		return problems
	case err != nil:
		wrong("%v", err)
		return problems
	case !info.IsDir():
		wrong("%s is no directory", c.Dir)
		return problems
	}
	if info, err := os.Stat(filepath.Join(c.Dir, "main.py")); err != nil || !info.Mode().IsRegular() {
		wrong("%s has no main.py: it is not ComfyUI's directory", c.Dir)
	} else if !isDir(filepath.Join(c.Dir, "custom_nodes")) {
		wrong("%s has no custom_nodes directory, without which ComfyUI does not start: make an empty one", c.Dir)
	}
	if c.ModelsDir != "" && !isDir(c.ModelsDir) {
		wrong("the models directory %s does not exist", c.ModelsDir)
	}
	return problems
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func (c ComfyUI) findPython() (string, error) {
	name := c.Python
	if name == "" {
		name = defaultPython
	}
	path, err := exec.LookPath(name)
	if err == nil { // ComfyUI runs in its own directory
		path, err = filepath.Abs(path)
	}
	switch {
	case errors.Is(err, os.ErrPermission):
		return "", fmt.Errorf("the Python %s is not executable", name)
	case err != nil:
		return "", fmt.Errorf("there is no Python %s", name)
	}
	return path, nil
}

// ownArgs are the arguments that are not the operator's to give.
func (c ComfyUI) ownArgs() (problems []error) {
	for _, flag := range c.flags() {
		// argparse takes the beginning of a name for the name.
		if slices.ContainsFunc(ownFlags, func(own string) bool { return strings.HasPrefix(own, flag) }) {
			problems = append(problems, fmt.Errorf("the argument %s is chosen by comfyfleet for each worker: leave it out", flag))
		}
	}
	return problems
}

// flags are the names of the configured arguments that look like one.
func (c ComfyUI) flags() (flags []string) {
	for _, arg := range c.Args {
		if name, _, _ := strings.Cut(arg, "="); strings.HasPrefix(name, "--") {
			flags = append(flags, name)
		}
	}
	return flags
}

// ask lets Python say whether it has what ComfyUI needs, and ComfyUI whether it knows the arguments: it reads its
// command line before it loads anything else.
func (c ComfyUI) ask(ctx context.Context, python string) []error {
	missing, err := c.answer(ctx, python, "-c", pythonProbe)
	if err != nil {
		return []error{fmt.Errorf("the Python %s does not work: %w", python, err)}
	}
	if missing = strings.TrimSpace(missing); missing != "" {
		return []error{fmt.Errorf("the Python %s has no %s: is it the one of ComfyUI's virtual environment?", python, strings.ReplaceAll(missing, ",", ", "))}
	}
	help, err := c.answer(ctx, python, filepath.Join(c.Dir, "main.py"), "--help")
	if err != nil {
		return []error{fmt.Errorf("%s --help: %w", filepath.Join(c.Dir, "main.py"), err)}
	}
	known := strings.FieldsFunc(help, func(r rune) bool { return strings.ContainsRune(" \t\r\n[](),|=", r) })
	var problems []error
	for _, flag := range c.flags() {
		if !slices.ContainsFunc(known, func(k string) bool { return strings.HasPrefix(k, flag) }) {
			problems = append(problems, fmt.Errorf("this ComfyUI does not know the argument %s", flag))
		}
	}
	return problems
}

// answer is what Python prints. An error has the last line that it complained with.
func (c ComfyUI) answer(ctx context.Context, python string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, preflightLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, python, args...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = c.Dir, proc.BaseEnv(), 10*time.Second
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("no answer within %v", preflightLimit)
	case err != nil:
		return "", fmt.Errorf("%w: %s", err, lastLine(stderr.String()))
	}
	return stdout.String(), nil
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
