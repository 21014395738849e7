package sim

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// getView is GET /view. Only the base name of filename counts: a path in it silently names a file of the root.
func (s *Server) getView(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	name, kind := annotated(q.Get("filename"))
	if !q.Has("filename") {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if name == "" || name[0] == '/' || strings.Contains(name, "..") {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if kind == "" {
		kind = "output"
		if q.Has("type") {
			kind = q.Get("type")
		}
	}
	dir, ok := s.dirs.byType(kind)
	if !ok {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if dir, ok = inside(dir, q.Get("subfolder")); !ok {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	path := filepath.Join(dir, filepath.Base(name))
	f, err := os.Open(path)
	if err != nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Disposition", `filename="`+filepath.Base(name)+`"`)
	if q.Has("preview") || q.Has("channel") {
		s.viewVariant(w, path, q.Get("preview"), q.Get("channel"))
		return
	}
	setFileHeaders(w.Header(), filepath.Base(name), info)
	if s.hangsOnce(w, r) {
		return
	}
	if rate := s.faults.number("slow-view"); rate > 0 {
		w = &slowWriter{ResponseWriter: w, rate: rate, s: s}
	}
	http.ServeContent(w, r, path, info.ModTime(), f)
}

// setFileHeaders sets what aiohttp sets for plain files; active content is never shown inline.
func setFileHeaders(h http.Header, name string, info os.FileInfo) {
	h.Set("ETag", fmt.Sprintf(`"%x-%x"`, info.ModTime().UnixNano(), info.Size()))
	h.Set("X-Content-Type-Options", "nosniff")
	switch strings.ToLower(filepath.Ext(name)) {
	case ".html", ".htm", ".js", ".mjs", ".css", ".svg", ".xml":
		h.Set("Content-Type", "application/octet-stream")
		h.Set("Content-Disposition", `attachment; filename="`+name+`"`)
	case ".mp4":
		h.Set("Content-Type", "video/mp4")
	case ".flac":
		h.Set("Content-Type", "audio/flac")
	case ".apng":
		h.Set("Content-Type", "image/apng")
	case ".latent", ".glb", ".bin", "":
		h.Set("Content-Type", "application/octet-stream")
	}
}

// viewVariant re-encodes a picture: a small preview, or some of its channels. Every preview is a JPEG: there is no WebP
// encoder here.
func (s *Server) viewVariant(w http.ResponseWriter, path, preview, channels string) {
	img, mask, _, err := readPicture(path)
	if err != nil {
		trouble(w)
		return
	}
	if preview != "" {
		quality := 90
		if _, text, ok := strings.Cut(preview, ";"); ok {
			if n, err := strconv.Atoi(text); err == nil {
				quality = min(100, max(1, n))
			}
		}
		w.Header().Set("Content-Type", "image/jpeg")
		_, _ = w.Write(toJPEG(img, quality))
		return
	}
	var out image.Image = img
	if channels == "a" {
		alpha := image.NewNRGBA(img.Rect)
		for i, v := range mask.Pix {
			alpha.Pix[i*4+3] = 255 - v
		}
		out = alpha
	}
	var buf bytes.Buffer
	if err := png.Encode(&buf, out); err != nil {
		trouble(w)
		return
	}
	w.Header().Set("Content-Type", "image/png")
	_, _ = w.Write(buf.Bytes())
}

// hangsOnce keeps the first reader waiting until it goes away, when the fault says so.
func (s *Server) hangsOnce(w http.ResponseWriter, r *http.Request) bool {
	due, err := s.faultOnce("hang-in-view")
	if err != nil {
		trouble(w)
		return true
	}
	if due {
		select {
		case <-r.Context().Done():
		case <-s.ctx.Done():
		}
	}
	return due
}

// slowWriter sends at most rate bytes a second, in tenths.
type slowWriter struct {
	http.ResponseWriter
	rate int64
	s    *Server
}

func (w *slowWriter) Write(p []byte) (done int, err error) {
	for len(p) > 0 {
		n, err := w.ResponseWriter.Write(p[:min(len(p), int(max(1, w.rate/10)))])
		done, p = done+n, p[n:]
		if err != nil {
			return done, err
		}
		if f, ok := w.ResponseWriter.(http.Flusher); ok {
			f.Flush()
		}
		if err := w.s.block(100 * time.Millisecond); err != nil {
			return done, err
		}
	}
	return done, nil
}
