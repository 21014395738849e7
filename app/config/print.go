package config

import (
	"encoding"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"reflect"
	"strings"
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
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", v.Name, dash(v.Value), v.Source, v.Env)
	}
	return table.Flush()
}

// Values are all settings in the order of the struct, fit to be shown.
func (s *Settings) Values() []Value {
	var out []Value
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		name := flagName(f)
		source := s.sources[name]
		if source == "" {
			source = "default"
		}
		out = append(out, Value{Name: name, Env: f.Tag.Get("env"), Value: shown(f, v.Field(i)), Source: source})
	}
	return out
}

func shown(f reflect.StructField, v reflect.Value) string {
	text := ""
	switch m := v.Interface().(type) {
	case encoding.TextMarshaler:
		b, _ := m.MarshalText()
		text = string(b)
	default:
		text = strings.Trim(fmt.Sprint(m), "[]")
	}
	switch secret := f.Tag.Get("secret"); {
	case text == "":
		return ""
	case secret == "true":
		return "(set)"
	case secret == "url":
		if u, err := url.Parse(text); err == nil {
			return u.Redacted()
		}
		return "(set)"
	}
	return text
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// flagName is the flag of a field, as kong makes it.
func flagName(f reflect.StructField) string {
	if n := f.Tag.Get("name"); n != "" {
		return n
	}
	var b strings.Builder
	runes := []rune(f.Name)
	for i, r := range runes {
		upper := r >= 'A' && r <= 'Z'
		if upper && i > 0 && (runes[i-1] < 'A' || runes[i-1] > 'Z' || i+1 < len(runes) && runes[i+1] >= 'a' && runes[i+1] <= 'z') {
			b.WriteByte('-')
		}
		b.WriteRune(r)
	}
	return strings.ToLower(b.String())
}

// NoteSources remembers where each setting's value came from. Call it after the command line was parsed.
func (s *Settings) NoteSources(ctx *kong.Context, file map[string]any, environ func(string) (string, bool)) {
	s.sources = map[string]string{}
	for name := range file {
		s.sources[name] = "file"
	}
	for _, flag := range ctx.Model.AllFlags(false) {
		for _, f := range flag {
			for _, env := range f.Envs {
				if _, ok := environ(env); ok {
					s.sources[f.Name] = "environment"
				}
			}
		}
	}
	for _, p := range ctx.Path {
		if p.Flag != nil && !p.Resolved {
			s.sources[p.Flag.Name] = "flag"
		}
	}
}
