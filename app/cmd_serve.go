package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/lmittmann/tint"
	"golang.org/x/term"

	"comfyfleet/app/config"
)

type serveCmd struct{}

func (c *serveCmd) Run(s *session) error {
	log := newLogger(s.settings, s.stderr)
	svc, err := newService(s.ctx, s.settings, log)
	if err != nil {
		return err
	}
	if err := svc.reveal(s.stderr); err != nil {
		svc.close()
		return err
	}
	return svc.run(s.ctx, func(string) {})
}

// reveal shows the secrets of a first start.
func (svc *service) reveal(stderr io.Writer) error {
	where, err := reveal(svc.secrets, svc.settings.DataDir, terminal(stderr))
	if err != nil {
		return fmt.Errorf("show the first secrets: %w", err)
	}
	if where != "" {
		svc.log.Info("made a first key and operator; read the file, then delete it", "file", where)
	}
	return nil
}

// terminal is w when somebody sits before it, else nil.
func terminal(w io.Writer) *os.File {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}

// newLogger writes what the settings ask for: coloured text for a person, JSON for a machine.
func newLogger(s *config.Settings, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(s.LogLevel)) // the settings were checked
	if s.LogFormat == "json" || s.LogFormat == "auto" && terminal(w) == nil {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
	}
	return slog.New(tint.NewHandler(w, &tint.Options{Level: level, TimeFormat: "15:04:05.000", NoColor: terminal(w) == nil}))
}
