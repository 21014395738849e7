package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

// MinBootstrapKey is the fewest characters of a bootstrap key.
const MinBootstrapKey = 24

// Validate names everything that is wrong with the settings at once; nil when nothing is.
func (s *Settings) Validate() error {
	var problems []error
	wrong := func(name, format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s: %s", name, fmt.Sprintf(format, args...)))
	}
	if _, _, err := net.SplitHostPort(s.Listen); err != nil {
		wrong("listen", "%q is no address: write host:port", s.Listen)
	}
	if s.DataDir == "" {
		wrong("data-dir", "must not be empty")
	}
	if u, err := url.Parse(s.PublicURL); s.PublicURL != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		wrong("public-url", "%q is no http or https address", s.PublicURL)
	}
	if !strings.HasPrefix(s.DatabaseURL(), "sqlite:") {
		wrong("database-url", "must begin with sqlite:")
	}
	if !strings.HasPrefix(s.StorageURL(), "file:") {
		wrong("storage-url", "must begin with file:")
	}
	for _, n := range []struct {
		name  string
		value int
		least int
	}{{"min-ready", s.MinReady, 0}, {"max-queued", s.MaxQueued, 1}, {"max-queued-per-tenant", s.MaxQueuedPerTenant, 1}} {
		if n.value < n.least {
			wrong(n.name, "must be at least %d", n.least)
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
		least time.Duration
	}{{"scale-down-after", s.ScaleDownAfter, 0}, {"shutdown-grace", s.ShutdownGrace, 0}, {"stall-after", s.StallAfter, time.Second},
		{"start-timeout", s.StartTimeout, time.Second}, {"retention", s.Retention, 0}} {
		if d.value < d.least {
			wrong(d.name, "must be at least %s", d.least)
		}
	}
	if s.BootstrapKey != "" && len(s.BootstrapKey) < MinBootstrapKey {
		wrong("bootstrap-key", "must have at least %d characters", MinBootstrapKey)
	}
	if s.AdminPassword != "" && len(s.AdminPassword) < 12 {
		wrong("admin-password", "must have at least 12 characters")
	}
	if s.AdminEmail != "" && !strings.Contains(s.AdminEmail, "@") {
		wrong("admin-email", "%q is no e-mail address", s.AdminEmail)
	}
	if s.AdminPassword != "" && s.AdminEmail == "" {
		wrong("admin-email", "is required with admin-password")
	}
	return errors.Join(problems...)
}
