package main

import (
	"syscall"
)

const (
	// reservedFiles are descriptors kept for the database, workers, blobs being read and outbound requests.
	reservedFiles = 256
	// maxConnections is as many as are useful: streams take one each.
	maxConnections = 16384
)

// connectionLimit is how many connections may be open, below what the process may have of descriptors. A listener that
// runs out of them serves nobody.
func connectionLimit() int {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return 512
	}
	return int(max(64, min(maxConnections, int64(min(files.Cur, 1<<20))-reservedFiles)))
}
