// Package proctest sees to it that tests leave no process behind. Workers are made to outlive whoever started them, so a
// test that fails half-way, runs into its time limit or is killed would leave them on the machine for ever.
package proctest

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// mark is in the environment of everything that the tests start. Workers inherit this name: see proc.BaseEnv.
	mark = "LC_TEST_RUN"
	// watchEnv makes the test binary the watcher of the run that it names.
	watchEnv = "COMFYFLEET_TEST_WATCH"
	// looks is how often processes that were told to end are looked for after the last test, look what is between: a
	// machine that stands still meanwhile uses up one of them.
	looks = 250
	look  = 20 * time.Millisecond
)

// Main runs tests, and is to be called by TestMain before anything else. A process that is left when they are over is
// ended, named and makes the run fail. Should the test binary itself be killed, a second process of it does the same.
func Main(run func() int) (code int) {
	if id := os.Getenv(watchEnv); id != "" {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the one who watches over the other end
		end(id)
		return 0
	}
	id := fmt.Sprintf("%d-%d", os.Getpid(), time.Now().UnixNano())
	watcher, release, err := watch(id)
	if err != nil {
		fmt.Fprintln(os.Stderr, "start the watcher of processes:", err)
		return 1
	}
	os.Setenv(mark, id)
	code = run()
	for n := 0; n < looks && len(left(id)) > 0; n++ {
		time.Sleep(look)
	}
	for _, line := range end(id) {
		fmt.Fprintln(os.Stderr, "left behind by a test, and ended:", line)
		code = max(code, 1)
	}
	release.Close()
	_ = watcher.Wait()
	return code
}

// watch starts the watcher, out of reach of what ends the tests' group. It acts when release is closed.
func watch(id string) (watcher *exec.Cmd, release io.Closer, err error) {
	watcher = exec.Command(os.Args[0])
	watcher.Env = append(os.Environ(), watchEnv+"="+id)
	watcher.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	release, err = watcher.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	return watcher, release, watcher.Start()
}

// end kills what is left of a run until nothing is, and names it.
func end(id string) (names []string) {
	for range looks {
		pids := left(id)
		if len(pids) == 0 {
			break
		}
		for _, pid := range pids {
			name := strings.TrimSpace(strings.ReplaceAll(string(read(pid, "cmdline")), "\x00", " "))
			if syscall.Kill(pid, syscall.SIGKILL) == nil && name != "" {
				names = append(names, fmt.Sprint(pid, " ", name))
			}
		}
		time.Sleep(look)
	}
	return names
}

// left are the living processes of a run, without the one that asks. One that has ended has no environment any more.
func left(id string) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range files {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		for kv := range bytes.SplitSeq(read(pid, "environ"), []byte{0}) {
			if string(kv) == mark+"="+id && pid != os.Getpid() {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// read is empty for a process that has gone, and for one that is not ours to look at.
func read(pid int, file string) []byte {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	return raw
}
