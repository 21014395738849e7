package main

import (
	"os"
	"runtime/debug"
	"syscall"
)

const (
	// reservedFiles are descriptors kept for the database, workers, blobs being read and outbound requests.
	reservedFiles = 256
	// maxConnections is as many as are useful: streams take one each.
	maxConnections = 16384
)

// gcPercent is how far the heap may grow between collections. What lives is small (tens of MB, whatever the load), so
// Go's default of 100 would collect many times a second under load to save a few dozen MB.
const gcPercent = 300

// tuneMemory sets the collector's pace, unless the operator did with GOGC.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// connectionLimit is how many connections may be open, below what the process may have of descriptors. A listener that
// runs out of them serves nobody.
func connectionLimit() int {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return 512
	}
	return int(max(64, min(maxConnections, int64(min(files.Cur, 1<<20))-reservedFiles)))
}
