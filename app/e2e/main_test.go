// Package e2e holds the dashboard to its promises with the real program on the other side: real sockets, real workers,
// and, in `make e2e`, a real Chromium. What needs no browser runs with all other tests too.
package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"comfyfleet/gpu/proc/proctest"
)

var (
	// binary is the program, built once for all tests here.
	binary string
	// chrome is the one browser of the run; each test has a profile of its own in it. It starts when a test asks.
	chrome browser
)

func TestMain(m *testing.M) { os.Exit(proctest.Main(func() int { return buildAndRun(m) })) }

func buildAndRun(m *testing.M) (code int) {
	dir, err := os.MkdirTemp("", "comfyfleet-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "comfyfleet")
	build := exec.Command("go", "build", "-o", binary, "..")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return 1
	}
	defer chrome.close()
	return m.Run()
}

// skip skips a test for want of something on the machine; under CI_STRICT, where everything is installed, it fails.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI_STRICT") != "" {
		t.Fatal("must not be skipped here: ", why)
	}
	t.Skip(why)
}
