package e2e

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// rogueEngine is an engine whose workflows make what they like: a simulator, started here, behind a proxy that serves
// other bytes for output files with these endings. It answers the address to attach.
func rogueEngine(t *testing.T, made map[string]string) string {
	t.Helper()
	cmd := exec.Command(binary, "sim", "--listen", "127.0.0.1:0", "--test-nodes", "--speed", "20", "--base-directory", t.TempDir())
	out, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	address, done := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(done)
		says := regexp.MustCompile(`http://127\.0\.0\.1:\d+`)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if a := says.FindString(lines.Text()); a != "" {
				address <- a
				break
			}
		}
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		select {
		case <-done:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			<-done
		}
	})
	var target *url.URL
	select {
	case a := <-address:
		target, err = url.Parse(a)
		require.NoError(t, err)
	case <-time.After(patience):
		t.Fatal("the simulator did not say where it listens")
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: func(r *http.Response) error {
			body, ok := made[path.Ext(r.Request.URL.Query().Get("filename"))]
			if r.Request.URL.Path != "/view" || !ok {
				return nil
			}
			r.Body.Close()
			r.Body, r.ContentLength = io.NopCloser(bytes.NewBufferString(body)), int64(len(body))
			r.Header.Set("Content-Length", strconv.Itoa(len(body)))
			return nil
		},
	}
	front := httptest.NewServer(proxy)
	t.Cleanup(front.Close)
	return front.URL
}
