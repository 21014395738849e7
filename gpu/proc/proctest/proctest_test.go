package proctest

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// careless makes the test binary a run of tests that leaves a process of its own session behind.
const careless = "COMFYFLEET_TEST_CARELESS"

func TestMain(m *testing.M) {
	how := os.Getenv(careless)
	if how == "" {
		os.Exit(m.Run())
	}
	os.Exit(Main(func() int {
		child := exec.Command("sleep", "300")
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := child.Start(); err != nil {
			return 9
		}
		fmt.Println(child.Process.Pid)
		if how == "killed" {
			select {}
		}
		return 0
	}))
}

func TestWhatTestsLeaveBehindIsEnded(t *testing.T) {
	for _, how := range []string{"ends", "killed"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			run := exec.Command(os.Args[0])
			run.Env = append(os.Environ(), careless+"="+how)
			stderr := &strings.Builder{}
			run.Stderr = stderr
			stdout, err := run.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, run.Start())
			line, err := bufio.NewReader(stdout).ReadString('\n')
			require.NoError(t, err)
			pid, err := strconv.Atoi(strings.TrimSpace(line))
			require.NoError(t, err)
			require.NoError(t, syscall.Kill(pid, 0))
			if how == "killed" {
				require.NoError(t, run.Process.Kill())
			}
			require.Error(t, run.Wait())
			if how == "ends" {
				require.Contains(t, stderr.String(), "left behind by a test, and ended: "+strconv.Itoa(pid)+" sleep 300")
			}
			require.Eventually(t, func() bool { return len(read(pid, "cmdline")) == 0 }, time.Minute, look, "the process lives on")
		})
	}
}
