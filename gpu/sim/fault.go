package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Fault is one way to fail on purpose, as --fault NAME[=ARG] gives it.
type Fault struct{ Name, Arg string }

// FaultInfo documents a fault.
type FaultInfo struct{ Name, Arg, Does string }

// Faults lists every fault. Steps are counted over the life of the process.
func Faults() []FaultInfo {
	return []FaultInfo{
		{"slow-start", "DURATION", "waits before it listens"},
		{"exit-at-start", "CODE", "exits with that code instead of listening"},
		{"crash-at-step", "N[/exit|kill|abort|segv]", "the process dies at the Nth step (exit code 3 by default)"},
		{"hang-at-step", "N", "the Nth step never ends and hears no interrupt"},
		{"hang-in-load", "", "the first load of a model file never ends; the next process of the same base directory lives"},
		{"hang-at-end", "", "the first prompt says that it is done and never gets into the history; the next process lives"},
		{"hang-in-view", "", "the first GET /view sends nothing; the next one answers"},
		{"deaf-at-step", "N", "at the Nth step HTTP refuses and sockets are cut while the process lives; the next process hears"},
		{"oom-at-step", "N", "the Nth step runs out of memory"},
		{"cuda-error", "N", "the Nth step breaks the CUDA context; every later prompt fails too"},
		{"ignore-sigint", "", "SIGINT is ignored"},
		{"zombie", "N", "the worker thread dies when it starts the Nth prompt (1 by default); HTTP stays healthy"},
		{"ws-drop-after", "N", "every WebSocket is cut after N messages"},
		{"ws-silent", "", "a WebSocket gets its first status and nothing more"},
		{"ws-duplicate", "", "every WebSocket message is sent twice"},
		{"ws-late", "DURATION", "WebSocket messages arrive that late"},
		{"history-500", "", "GET /history answers 500"},
		{"queue-500", "", "GET /queue answers 500"},
		{"reject-all", "", "every prompt is refused with 400"},
		{"disk-full", "", "every save raises an OSError: no space left on device"},
		{"huge-output", "BYTES", "every saved file is that much larger"},
		{"slow-view", "BYTES", "GET /view sends so many bytes a second"},
	}
}

// ParseFault reads NAME[=ARG] and checks the argument.
func ParseFault(text string) (Fault, error) {
	name, arg, _ := strings.Cut(text, "=")
	i := slices.IndexFunc(Faults(), func(f FaultInfo) bool { return f.Name == name })
	if i < 0 {
		return Fault{}, fmt.Errorf("unknown fault %q", name)
	}
	f := Fault{name, arg}
	var err error
	switch Faults()[i].Arg {
	case "DURATION":
		_, err = time.ParseDuration(arg)
	case "BYTES", "CODE":
		_, err = strconv.ParseInt(arg, 10, 64)
	case "":
		if arg != "" {
			err = fmt.Errorf("takes no argument")
		}
	default:
		number, _, _ := strings.Cut(arg, "/")
		if name != "zombie" || number != "" {
			_, err = strconv.Atoi(number)
		}
	}
	if err != nil {
		return Fault{}, fmt.Errorf("fault %s: argument %q: %w", name, arg, err)
	}
	return f, nil
}

// faults is the set that a server runs with.
type faults struct {
	set     map[string]string
	steps   atomic.Int64
	prompts atomic.Int64
}

func newFaults(list []Fault) *faults {
	f := &faults{set: map[string]string{}}
	for _, one := range list {
		f.set[one.Name] = one.Arg
	}
	return f
}

func (f *faults) has(name string) bool {
	_, ok := f.set[name]
	return ok
}

// number is a fault's numeric argument before any slash, 0 when the fault is absent or has none.
func (f *faults) number(name string) int64 {
	arg, _, _ := strings.Cut(f.set[name], "/")
	n, _ := strconv.ParseInt(arg, 10, 64) // checked by ParseFault
	return n
}

func (f *faults) duration(name string) time.Duration {
	d, _ := time.ParseDuration(f.set[name]) // checked by ParseFault
	return d
}

// atStep names the fault that is due at this step, "" for none.
func (f *faults) atStep() (name, variant string) {
	n := f.steps.Add(1)
	for _, name := range []string{"crash-at-step", "hang-at-step", "deaf-at-step", "oom-at-step", "cuda-error"} {
		if f.has(name) && f.number(name) == n {
			_, variant, _ = strings.Cut(f.set[name], "/")
			return name, variant
		}
	}
	return "", ""
}

// zombieNow says whether the worker dies at this prompt.
func (f *faults) zombieNow() bool {
	n := f.prompts.Add(1)
	return f.has("zombie") && n == max(1, f.number("zombie"))
}
