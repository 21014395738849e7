package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"comfyfleet/app/config"
	"comfyfleet/models"
	"comfyfleet/models/store"
)

// exitError is an error that chooses the exit code and has been explained already.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// session is what every command gets: its settings, its streams and what the user asked about output.
type session struct {
	ctx      context.Context
	settings *config.Settings
	stdout   io.Writer
	stderr   io.Writer
	asJSON   bool
}

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// act runs one admin verb and decodes its answer: on the live server when one holds the data directory, else on the
// store, which no server can open meanwhile.
func (s *session) act(verb string, args, answer any) error {
	raw, err := s.actRaw(verb, args)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, answer); err != nil {
		return fmt.Errorf("answer of %s: %w", verb, err)
	}
	return nil
}

func (s *session) actRaw(verb string, args any) (json.RawMessage, error) {
	if err := os.MkdirAll(s.settings.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	unlock, err := store.LockDir(s.settings.DataDir)
	if err != nil {
		var held *store.LockedError
		if !errors.As(err, &held) {
			return nil, err
		}
		return callControl(s.ctx, s.settings.DataDir, verb, args)
	}
	defer unlock()
	st, err := store.Open(s.ctx, s.settings.DatabaseURL(), store.Options{})
	if err != nil {
		return nil, err
	}
	defer st.Close()
	a := &admin{store: st, now: now, newID: uuid.NewString, actor: "cli"}
	if err := a.ensureDefaultTenant(s.ctx); err != nil {
		return nil, err
	}
	if err := importBundled(s.ctx, st); err != nil {
		return nil, err
	}
	body, err := json.Marshal(args)
	if err != nil {
		return nil, fmt.Errorf("encode arguments: %w", err)
	}
	answer := control(a, s.ctx, verb, body)
	if answer.Error != nil {
		return nil, answer.Error
	}
	return answer.Result, nil
}

// show prints v as JSON when asked to, else as the table.
func (s *session) show(v any, header string, rows func(add func(cells ...any))) error {
	if s.asJSON {
		e := json.NewEncoder(s.stdout)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	w := tabwriter.NewWriter(s.stdout, 0, 4, 2, ' ', 0)
	if header != "" {
		fmt.Fprintln(w, strings.ReplaceAll(header, " ", "\t"))
	}
	rows(func(cells ...any) {
		text := make([]string, len(cells))
		for i, c := range cells {
			text[i] = cell(c)
		}
		fmt.Fprintln(w, strings.Join(text, "\t"))
	})
	return w.Flush()
}

// cell writes one value of a table; what is missing is a dash.
func cell(v any) string {
	switch v := v.(type) {
	case time.Time:
		if v.IsZero() {
			return "-"
		}
		return v.Local().Format("2006-01-02 15:04:05")
	case *time.Time:
		if v == nil {
			return "-"
		}
		return cell(*v)
	}
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' ' // a tenant's string moves no cursor
		}
		return r
	}, fmt.Sprint(v))
	if text == "" {
		return "-"
	}
	return text
}

// explain writes an error for a person and returns the exit code.
func explain(err error, stderr io.Writer) int {
	var code exitError
	var e *models.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &e):
		fmt.Fprintln(stderr, "comfyfleet:", e.Detail)
	default:
		fmt.Fprintln(stderr, "comfyfleet:", err)
	}
	return 1
}
