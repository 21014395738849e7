package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestAFloodOfConnectionsIsAnsweredAndSurvived gives the server few descriptors and opens more connections than it may
// have of them. Those beyond its limit are told to come back, those beyond any descriptor wait, and when the flood is
// over everything works as before, the job that ran meanwhile too.
func TestAFloodOfConnectionsIsAnsweredAndSurvived(t *testing.T) {
	t.Parallel()
	const files, cap = 160, 64 // the limit of connections where descriptors are few
	s := newServer(t, quick, "COMFYFLEET_WORKERS=sim:1")
	limited := filepath.Join(t.TempDir(), "limited")
	require.NoError(t, os.WriteFile(limited, fmt.Appendf(nil, "#!/bin/sh\nulimit -n %d || exit 1\nexec %s \"$@\"\n", files, binary), 0o700))
	s.binary = limited
	s.start()
	id := s.submit(waits())
	s.running(id)
	http.DefaultClient.CloseIdleConnections()

	var flood []net.Conn
	defer func() {
		for _, c := range flood {
			c.Close()
		}
	}()
	open := func() net.Conn {
		conn, err := net.DialTimeout("tcp", strings.TrimPrefix(s.base, "http://"), patience)
		require.NoError(t, err)
		flood = append(flood, conn)
		return conn
	}
	for range cap {
		open()
	}
	refused := 0
	for range 8 { // some of the first may have been the ones to be closed, so the first few may still be taken
		conn := open()
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		_, err := conn.Write([]byte("GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"))
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err, "a connection beyond the limit is answered")
		resp.Body.Close()
		if resp.StatusCode == http.StatusServiceUnavailable {
			refused++
			require.NotEmpty(t, resp.Header.Get("Retry-After"))
			require.Equal(t, "application/problem+json", resp.Header.Get("Content-Type"))
		}
	}
	require.Positive(t, refused, "connections beyond the limit are refused")
	for range 2 * files {
		open() // the system takes them for the server, which cannot
	}
	s.eventually(func() bool { return strings.Contains(s.log.String(), "cannot accept connections for the moment") }, "it ran out of descriptors")
	for _, c := range flood {
		c.Close()
	}
	s.eventually(func() bool {
		resp, err := http.Get(s.base + "/livez")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, "it answers again")
	s.release("go")
	s.completed(id)
	require.Len(t, s.completed(s.submit(steps(1, 0, 2))).Outputs, 1)
}
