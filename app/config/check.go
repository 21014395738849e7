package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// MinBootstrapKey and maxBootstrapKey bound a bootstrap key in characters.
	MinBootstrapKey = 24
	maxBootstrapKey = 512
	// minPassword is the fewest characters of an operator's password, as everywhere.
	minPassword = 8
)

// Check reads what the file and the environment say, without flags, and names every value that cannot be read, and
// then whatever else Validate finds. It answers nil when all can be read: Validate judges the merged settings later.
// kong by itself would stop at the first.
func Check(file map[string]any, environ func(string) (string, bool)) error {
	var merged Settings
	var problems []error
	for _, o := range options() {
		text, from := o.fallback, ""
		if v, ok := file[o.name]; ok {
			text, from = fmt.Sprint(v), "config file"
		}
		if v, ok := environ(o.env); ok && v != "" {
			text, from = v, o.env
		}
		if text == "" {
			continue
		}
		if err := o.set(&merged, text); err != nil {
			problems = append(problems, fmt.Errorf("%s (from %s): %w", o.name, from, err))
			if o.fallback != "" {
				_ = o.set(&merged, o.fallback) // so that Validate does not complain of the gap too
			}
		}
	}
	if problems == nil {
		return nil
	}
	return errors.Join(append(problems, merged.Validate())...)
}

// Validate names everything that is wrong with the settings at once; nil when nothing is.
func (s *Settings) Validate() error {
	var problems []error
	wrong := func(name, format string, args ...any) {
		from := ""
		if source := s.sources[name]; source != "" && source != "flag" {
			from = " (from " + source + ")"
		}
		problems = append(problems, fmt.Errorf("%s%s: %s", name, from, fmt.Sprintf(format, args...)))
	}
	s.validatePlaces(wrong)
	s.validateNumbers(wrong)
	s.validateSecrets(wrong)
	return errors.Join(problems...)
}

func (s *Settings) validatePlaces(wrong func(name, format string, args ...any)) {
	if _, port, err := net.SplitHostPort(s.Listen); err != nil || !isPort(port) {
		wrong("listen", "%q is no address: write host:port", s.Listen)
	}
	if s.DataDir == "" {
		wrong("data-dir", "must not be empty")
	}
	if u, err := url.Parse(s.PublicURL); s.PublicURL != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "") {
		wrong("public-url", "%q is no http or https address", s.PublicURL)
	}
	if rest, ok := strings.CutPrefix(s.DatabaseURL(), "sqlite:"); !ok || rest == "" {
		wrong("database-url", "must be sqlite:/path/to/file.db")
	}
	if rest, ok := strings.CutPrefix(s.StorageURL(), "file:"); !ok || rest == "" {
		wrong("storage-url", "must be file:/path/to/directory")
	}
	if strings.TrimSpace(s.Workers) == "" {
		wrong("workers", "must not be empty: write auto, managed:0,1, attached:http://host:8188 or sim:2")
	}
}

// isPort takes 0 too: the system then chooses one.
func isPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

func (s *Settings) validateNumbers(wrong func(name, format string, args ...any)) {
	for _, n := range []struct {
		name  string
		value int
		least int
	}{{"min-ready", s.MinReady, 0}, {"recycle-jobs", s.RecycleJobs, 0}, {"max-queued", s.MaxQueued, 1}, {"max-queued-per-tenant", s.MaxQueuedPerTenant, 1}} {
		if n.value < n.least {
			wrong(n.name, "must be at least %d", n.least)
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
		least time.Duration
	}{
		{"scale-down-after", s.ScaleDownAfter, 0}, {"free-after", s.FreeAfter, 0}, {"shutdown-grace", s.ShutdownGrace, 0}, {"stall-after", s.StallAfter, time.Second},
		{"start-timeout", s.StartTimeout, time.Second}, {"retention", s.Retention, 0},
	} {
		if d.value < d.least {
			wrong(d.name, "must be at least %s", d.least)
		}
	}
}

// validateSecrets never quotes a secret: problems go to logs and terminals.
func (s *Settings) validateSecrets(wrong func(name, format string, args ...any)) {
	if k := s.BootstrapKey; k != "" {
		switch {
		case len(k) < MinBootstrapKey || len(k) > maxBootstrapKey:
			wrong("bootstrap-key", "must have %d to %d characters", MinBootstrapKey, maxBootstrapKey)
		case strings.TrimSpace(k) != k || strings.ContainsFunc(k, func(r rune) bool { return r < ' ' || r > '~' }):
			wrong("bootstrap-key", "must be ASCII without spaces at its ends: it travels in a header")
		}
	}
	if s.AdminPassword != "" && utf8.RuneCountInString(s.AdminPassword) < minPassword {
		wrong("admin-password", "must have at least %d characters", minPassword)
	}
	if s.AdminEmail != "" && !strings.Contains(s.AdminEmail, "@") {
		wrong("admin-email", "%q is no e-mail address", s.AdminEmail)
	}
	if s.AdminPassword != "" && s.AdminEmail == "" {
		wrong("admin-email", "is required with admin-password")
	}
}
