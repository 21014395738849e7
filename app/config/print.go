package config

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"text/tabwriter"

	"github.com/alecthomas/kong"
)

// Value is one setting as Print shows it.
type Value struct {
	Name   string `json:"name"`
	Env    string `json:"env"`
	Value  string `json:"value"`
	Source string `json:"source"` // flag, environment, file or default
}

// Print writes every setting with where it came from. Secrets are shown as set or not.
func (s *Settings) Print(w io.Writer, asJSON bool) error {
	values := s.Values()
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(values)
	}
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "SETTING\tVALUE\tFROM\tVARIABLE")
	for _, v := range values {
		shown := v.Value
		if shown == "" {
			shown = "-"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", v.Name, shown, v.Source, v.Env)
	}
	return table.Flush()
}

// Values are all settings in the order of the struct, fit to be shown. What follows from other settings is shown as it
// comes out.
func (s *Settings) Values() []Value {
	var out []Value
	for _, o := range options() {
		source := s.sources[o.name]
		if source == "" {
			source = "default"
		}
		out = append(out, Value{Name: o.name, Env: o.env, Value: s.shown(o), Source: source})
	}
	return out
}

func (s *Settings) shown(o option) string {
	text := o.text(s)
	switch o.name {
	case "database-url":
		text = s.DatabaseURL()
	case "storage-url":
		text = s.StorageURL()
	case "public-url":
		text = s.Public(s.Listen)
	case "models-dir":
		if text == "" && s.ComfyUIDir != "" {
			text = filepath.Join(s.ComfyUIDir, "models")
		}
	}
	switch {
	case text == "":
		return ""
	case o.secret == "true":
		return "(set)"
	case o.secret == "url":
		u, err := url.Parse(text)
		if err != nil {
			return "(set)"
		}
		return u.Redacted()
	}
	return text
}

// NoteSources remembers where each setting's value came from. Call it after the command line was parsed.
func (s *Settings) NoteSources(ctx *kong.Context, file map[string]any, environ func(string) (string, bool)) {
	s.sources = map[string]string{}
	for _, o := range options() {
		if _, ok := file[o.name]; ok {
			s.sources[o.name] = "file"
		}
		if v, ok := environ(o.env); ok && v != "" {
			s.sources[o.name] = "environment"
		}
	}
	for _, p := range ctx.Path {
		if p.Flag != nil && !p.Resolved {
			s.sources[p.Flag.Name] = "flag"
		}
	}
}
