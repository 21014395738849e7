package web

import (
	"fmt"
	"hash/maphash"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"comfyfleet/app/server"
	"comfyfleet/workflows"
)

// Web is the dashboard.
type Web struct {
	Deps
	server  *server.Server
	samples map[string]map[string][]byte // bundled workflow → media name → bytes
	uploads *uploads
	results *results
	boards  boards
	seed    maphash.Seed // of what tells whether a part changed
	secure  bool
}

// Register puts the dashboard's routes on s.
func Register(s *server.Server, d Deps) error {
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.NewID == nil {
		d.NewID = uuid.NewString
	}
	if d.Log == nil {
		d.Log = slog.Default()
	}
	bundled, err := workflows.Bundled()
	if err != nil {
		return fmt.Errorf("dashboard: %w", err)
	}
	w := &Web{
		Deps:    d,
		server:  s,
		samples: map[string]map[string][]byte{},
		uploads: newUploads(d.Blobs, d.Now),
		results: newResults(),
		boards:  boards{all: map[string]*board{}},
		seed:    maphash.MakeSeed(),
		secure:  hasScheme(d.PublicURL, "https"),
	}
	for _, e := range bundled {
		w.samples[e.Slug] = e.Sample
	}
	s.SetErrorPage(w.errorPage)
	w.routes(s.App)
	return nil
}

func hasScheme(url, scheme string) bool {
	return len(url) > len(scheme)+3 && url[:len(scheme)+3] == scheme+"://"
}
