package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Exit codes of the program, as ComfyUI's.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// Run is the program: it understands ComfyUI's command line and ours, serves until SIGINT or the end of ctx and returns
// the exit code. SIGTERM is left to its default action, which ends ComfyUI at once too.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	set, err := parseFlags(args)
	switch {
	case err != nil:
		usage(stderr)
		fmt.Fprintf(stderr, "comfyfleet sim: error: %s\n", unwrapUsage(err))
		return exitUsage
	case set.help:
		usage(stdout)
		return exitOK
	case set.faultHelp:
		faultHelp(stdout)
		return exitOK
	}
	set.Log = stderr
	if set.logStdout {
		set.Log = stdout
	}
	ctx, stop := withInterrupt(ctx, newFaults(set.Faults).has("ignore-sigint"))
	defer stop()
	return set.serve(ctx)
}

func unwrapUsage(err error) string {
	text := err.Error()
	return text[len(errUsage.Error())+2:]
}

// withInterrupt ends the context on SIGINT, unless the fault says to ignore it.
func withInterrupt(ctx context.Context, ignored bool) (context.Context, context.CancelFunc) {
	if ignored {
		signal.Ignore(syscall.SIGINT)
		return context.WithCancel(ctx)
	}
	return signal.NotifyContext(ctx, os.Interrupt)
}

// serve starts the server, listens and waits for the end.
func (s *commandLine) serve(ctx context.Context) int {
	log := newLogger(s.Log)
	f := newFaults(s.Faults)
	if f.has("exit-at-start") {
		log.error("exit at start, as the fault says")
		return int(f.number("exit-at-start"))
	}
	pause(ctx, f.duration("slow-start"))
	if ctx.Err() != nil {
		return exitOK
	}
	server, err := New(s.Options)
	if err != nil {
		log.error("%v", err)
		return exitError
	}
	log.info("ComfyUI version: %s (simulated by comfyfleet)", Version)
	if s.quickTest {
		return s.end(server, log)
	}
	listeners, err := s.listen()
	log.info("Starting server\n")
	if err != nil {
		log.error("Port %d is already in use on address %s. Please close the other application or use a different port with --port. (%v)", s.port, s.hosts[0], err)
		_ = server.Close() // the first error is the one to show
		return exitError
	}
	stop := serveAll(server, listeners)
	for _, l := range listeners {
		log.info("To see the GUI go to: http://%s", l.Addr())
	}
	select {
	case <-server.deaf:
		stop()
		server.hub.closeAll()
		<-ctx.Done()
	case <-ctx.Done():
		stop()
	}
	return s.end(server, log)
}

// end stops as ComfyUI does on SIGINT: at once, without waiting for the running prompt.
func (s *commandLine) end(server *Server, log *logger) int {
	log.info("Stopped server")
	if err := server.Close(); err != nil {
		log.error("%v", err)
		return exitError
	}
	return exitOK
}

// listen opens a socket for each address; with port 0 they share the one that the first got.
func (s *commandLine) listen() ([]net.Listener, error) {
	var open []net.Listener
	for _, host := range s.hosts {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(s.port)))
		if err != nil {
			for _, o := range open {
				_ = o.Close()
			}
			return nil, err
		}
		s.port = l.Addr().(*net.TCPAddr).Port
		open = append(open, l)
	}
	return open, nil
}

// serveAll serves each listener. stop cuts them and every connection, and waits.
func serveAll(server *Server, listeners []net.Listener) (stop func()) {
	var open []*http.Server
	var done sync.WaitGroup
	for _, l := range listeners {
		h := &http.Server{Handler: server.Handler(), ReadHeaderTimeout: 30 * time.Second}
		open = append(open, h)
		done.Go(func() {
			if err := h.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
				server.log.error("serving %s: %v", l.Addr(), err)
			}
		})
	}
	return func() {
		for _, h := range open {
			_ = h.Close() // there is nobody to tell about connections that were gone already
		}
		done.Wait()
	}
}
