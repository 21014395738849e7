package proc

import (
	"fmt"
	"net"
)

// FreePort is a TCP port of the loopback address that nobody uses now. Somebody may take it before the worker does;
// ComfyUI then ends with exit 1, and the caller tries another.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
