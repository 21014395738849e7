package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"comfyfleet/models"
)

// controlTimeout bounds one command on a live server; a drain or a restart answers at once, a backup may take minutes.
const controlTimeout = 10 * time.Minute

// maxArguments bounds what a command may send, in bytes: a graph to import is the largest.
const maxArguments = 2 * maxGraphFile

// controlPath is the socket through which commands reach the server that holds the data directory. Its mode 0600 is the
// authorisation: who may read the data may command the service.
func controlPath(dataDir string) string { return filepath.Join(dataDir, "control.sock") }

// serveControl answers commands until ctx ends.
func serveControl(ctx context.Context, dataDir string, a *admin, log *slog.Logger) error {
	path := controlPath(dataDir)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove old control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return fmt.Errorf("control socket: %w", err)
	}
	srv := &http.Server{Handler: controlHandler(a), ReadHeaderTimeout: 5 * time.Second, WriteTimeout: controlTimeout,
		BaseContext: func(net.Listener) context.Context { return ctx }}
	ended := context.AfterFunc(ctx, func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if srv.Shutdown(stop) != nil {
			srv.Close()
		}
	})
	defer ended()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		log.Error("control socket", "error", err)
		return err
	}
	return nil
}

// controlAnswer is what goes back over the socket: one of the two.
type controlAnswer struct {
	Result json.RawMessage `json:"result,omitempty"`
	Error  *models.Error   `json:"error,omitempty"`
}

func controlHandler(a *admin) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{action}", func(w http.ResponseWriter, r *http.Request) {
		args, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxArguments))
		var answer controlAnswer
		if err == nil {
			answer = control(a, r.Context(), r.PathValue("action"), args)
		} else {
			answer.Error = models.Errorf(models.CodeInvalid, "", "read arguments: %v", err)
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer) // a client that has gone needs no answer
	})
	return mux
}

func control(a *admin, ctx context.Context, name string, args json.RawMessage) controlAnswer {
	result, err := a.do(ctx, name, args)
	if err == nil {
		b, merr := json.Marshal(result)
		if merr == nil {
			return controlAnswer{Result: b}
		}
		err = merr
	}
	var e *models.Error
	if !errors.As(err, &e) {
		e = models.Errorf(models.CodeInternal, "", "%v", err)
	}
	return controlAnswer{Error: &models.Error{Code: e.Code, Name: e.Name, Detail: e.Detail}}
}

// callControl runs one verb on the live server.
func callControl(ctx context.Context, dataDir, name string, args any) (json.RawMessage, error) {
	body, err := json.Marshal(args)
	if err != nil {
		return nil, fmt.Errorf("encode arguments: %w", err)
	}
	client := &http.Client{Timeout: controlTimeout, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", controlPath(dataDir))
		},
	}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://control/"+name, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("reach the running server: %w", err)
	}
	defer resp.Body.Close()
	var answer controlAnswer
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("read the running server's answer: %w", err)
	}
	if answer.Error != nil {
		return nil, answer.Error
	}
	return answer.Result, nil
}
