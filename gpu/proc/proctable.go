package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// identity names a process for the time of one boot: numbers are reused, a number with its start time is not.
type identity struct {
	PID int `json:"pid"`
	// Start is when it started, in clock ticks since boot (field 22 of /proc/<pid>/stat).
	Start uint64 `json:"start"`
}

// errGone says that a process does not exist any more, or that its number now belongs to another one.
var errGone = errors.New("the process is gone")

// entry is what we use of /proc/<pid>/stat, see proc_pid_stat(5).
type entry struct {
	identity
	State   byte // R S D Z X …
	Parent  int
	Group   int
	Session int
	RSS     int64 // bytes
}

// dead says that the process has ended and only waits for its parent.
func (e entry) dead() bool { return e.State == 'Z' || e.State == 'X' }

// readEntry reads the process table's entry of pid; errGone when there is none.
func readEntry(pid int) (entry, error) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return entry{}, errGone
	}
	return parseStat(raw)
}

func parseStat(raw []byte) (entry, error) {
	// The second field is the program's name in parentheses, and may itself hold spaces and parentheses.
	open, end := bytes.IndexByte(raw, '('), bytes.LastIndexByte(raw, ')')
	if open < 0 || end < open {
		return entry{}, fmt.Errorf("unreadable process entry %q", raw)
	}
	f := strings.Fields(string(raw[end+1:]))
	if len(f) < 22 {
		return entry{}, fmt.Errorf("short process entry %q", raw)
	}
	num := func(s string) int64 { n, _ := strconv.ParseInt(s, 10, 64); return n }
	start, _ := strconv.ParseUint(f[19], 10, 64)
	return entry{
		identity: identity{PID: int(num(string(bytes.TrimSpace(raw[:open])))), Start: start},
		State:    f[0][0], Parent: int(num(f[1])), Group: int(num(f[2])), Session: int(num(f[3])),
		RSS: num(f[21]) * int64(os.Getpagesize()),
	}, nil
}

// bootID names the running boot of the machine.
func bootID() (string, error) {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the boot id: %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}

// processes lists the process table. Entries that vanish meanwhile are left out.
func processes() ([]entry, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var all []entry
	for _, n := range names {
		pid, err := strconv.Atoi(n)
		if err != nil {
			continue
		}
		if e, err := readEntry(pid); err == nil {
			all = append(all, e)
		}
	}
	return all, nil
}
