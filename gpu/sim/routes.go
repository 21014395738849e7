package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// routes is the table of everything that a runner uses. Every route exists with and without /api, but for the jobs.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	both := func(method, path string, h http.HandlerFunc) {
		mux.HandleFunc(method+" "+path, h)
		mux.HandleFunc(method+" /api"+path, h)
	}
	both("GET", "/ws", s.handleSocket)
	both("GET", "/prompt", s.getPrompt)
	both("POST", "/prompt", s.postPrompt)
	both("GET", "/queue", s.getQueue)
	both("POST", "/queue", s.postQueue)
	both("POST", "/interrupt", s.postInterrupt)
	both("POST", "/free", s.postFree)
	both("GET", "/history", s.getHistory)
	both("GET", "/history/{id}", s.getHistoryOf)
	both("POST", "/history", s.postHistory)
	both("GET", "/view", s.getView)
	both("POST", "/upload/image", s.postUpload)
	both("POST", "/upload/mask", s.postUploadMask)
	both("GET", "/object_info", s.getObjectInfo)
	both("GET", "/object_info/{class...}", s.getObjectInfoOf)
	both("GET", "/system_stats", s.getSystemStats)
	both("GET", "/features", s.fixed(func() any { return s.features() }))
	both("GET", "/models", s.fixed(func() any { return modelFolders() }))
	both("GET", "/models/{folder}", s.getModels)
	both("GET", "/embeddings", s.fixed(func() any { return []string{} }))
	both("GET", "/extensions", s.fixed(func() any { return []string{} }))
	both("GET", "/settings", s.fixed(func() any { return ordered{} }))
	both("GET", "/users", s.fixed(func() any { return map[string]any{"storage": "server", "migrated": false} }))
	both("GET", "/i18n", s.fixed(func() any { return ordered{} }))
	both("GET", "/workflow_templates", s.fixed(func() any { return ordered{} }))
	both("GET", "/node_replacements", s.fixed(func() any { return ordered{} }))
	mux.HandleFunc("GET /api/jobs", s.getJobs)
	mux.HandleFunc("GET /api/jobs/{id}", s.getJob)
	mux.HandleFunc("POST /api/jobs/cancel", s.postJobsCancel)
	mux.HandleFunc("POST /api/jobs/{id}/cancel", s.postJobCancel)
	mux.HandleFunc("GET /internal/logs", s.getLogs)
	mux.HandleFunc("GET /internal/logs/raw", s.getRawLogs)
	mux.HandleFunc("GET /{$}", s.getRoot)
	return s.guard(mux)
}

// guard refuses foreign origins and large bodies for all routes, as ComfyUI's middleware and aiohttp do.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Sec-Fetch-Site") == "cross-site" || foreignOrigin(r) {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if r.ContentLength > s.opts.MaxUpload {
			s.tooLarge(w, r.ContentLength)
			return
		}
		r.URL.RawQuery = strings.ReplaceAll(r.URL.RawQuery, ";", "%3B") // preview=webp;90 is one value, which Go's parser refuses
		r.Body = http.MaxBytesReader(w, r.Body, s.opts.MaxUpload)
		next.ServeHTTP(w, r)
	})
}

// foreignOrigin says whether a browser page of another host talks to a loopback address.
func foreignOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || !loopback(r.Host) {
		return false
	}
	u, err := url.Parse(origin)
	return err != nil || u.Host != r.Host
}

func loopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (s *Server) tooLarge(w http.ResponseWriter, size int64) {
	plain(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("Maximum request body size %d exceeded, actual body size %d", s.opts.MaxUpload, size))
}

// body reads a whole request body; it has answered when it returns false.
func (s *Server) body(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	raw, err := io.ReadAll(r.Body)
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		s.tooLarge(w, large.Limit+1)
		return nil, false
	}
	if err != nil {
		return nil, false // the client went away
	}
	return raw, true
}

// reply writes JSON. What cannot be encoded is a 500, as in Python.
func reply(w http.ResponseWriter, status int, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		trouble(w)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(raw)
}

// trouble is aiohttp's answer to an unhandled exception.
func trouble(w http.ResponseWriter) {
	plain(w, http.StatusInternalServerError, "500 Internal Server Error\n\nServer got itself in trouble")
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

// fixed is a route without parameters.
func (s *Server) fixed(value func() any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, value()) }
}

func (s *Server) getRoot(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(w, "<!doctype html><title>comfyfleet simulator</title><p>This is comfyfleet's stand-in for ComfyUI. It has no editor.</p>")
}

func (s *Server) getLogs(w http.ResponseWriter, _ *http.Request) {
	var b strings.Builder
	for _, l := range s.log.tail() {
		b.WriteString(l.T.Format("2006-01-02T15:04:05.000000") + " - " + l.M)
	}
	reply(w, http.StatusOK, b.String())
}

func (s *Server) getRawLogs(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, map[string]any{"entries": s.log.tail(), "size": map[string]int{"cols": 80, "rows": 24}})
}
