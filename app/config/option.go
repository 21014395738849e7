package config

import (
	"encoding"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// option is one row of the table that the tags of Settings are.
type option struct {
	name     string // of the flag and in the file
	env      string
	fallback string
	enum     []string
	secret   string // "true", "url", or "" for none
	field    reflect.StructField
}

// options are all rows, in the order of the struct.
func options() []option {
	var all []option
	for f := range reflect.TypeFor[Settings]().Fields() {
		if !f.IsExported() {
			continue
		}
		o := option{name: flagName(f), env: f.Tag.Get("env"), fallback: f.Tag.Get("default"), secret: f.Tag.Get("secret"), field: f}
		if e := f.Tag.Get("enum"); e != "" {
			o.enum = strings.Split(e, ",")
		}
		all = append(all, o)
	}
	return all
}

func find(name string) (option, bool) {
	all := options()
	i := slices.IndexFunc(all, func(o option) bool { return o.name == name })
	if i < 0 {
		return option{}, false
	}
	return all[i], true
}

// separator joins a list of the file into the flag's text; "" when the flag takes one value.
func (o option) separator() string {
	switch {
	case o.field.Type.Kind() == reflect.Slice:
		return ","
	case o.name == "workers":
		return ";"
	default:
		return ""
	}
}

func (o option) in(s *Settings) reflect.Value {
	return reflect.ValueOf(s).Elem().FieldByIndex(o.field.Index)
}

// set reads text into the option's field of s, as kong does.
func (o option) set(s *Settings, text string) error {
	if o.enum != nil && !slices.Contains(o.enum, text) {
		return fmt.Errorf("%q is none of %s", text, strings.Join(o.enum, ", "))
	}
	switch field := o.in(s).Addr().Interface().(type) {
	case *string:
		*field = text
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is no whole number", text)
		}
		*field = n
	case *time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is no length of time: write 10s, 5m or 168h", text)
		}
		*field = d
	case *[]netip.Prefix:
		*field = nil
		for word := range strings.SplitSeq(text, ",") {
			p, err := netip.ParsePrefix(word)
			if err != nil {
				return fmt.Errorf("%q is no network: write 10.0.0.0/8, more of them joined by commas", word)
			}
			*field = append(*field, p)
		}
	case encoding.TextUnmarshaler:
		return field.UnmarshalText([]byte(text))
	default:
		return fmt.Errorf("settings of type %s are not read", o.field.Type)
	}
	return nil
}

// text is the option's value in s as set would read it.
func (o option) text(s *Settings) string {
	switch v := o.in(s).Interface().(type) {
	case []netip.Prefix:
		words := make([]string, len(v))
		for i, p := range v {
			words[i] = p.String()
		}
		return strings.Join(words, ",")
	default:
		return fmt.Sprint(v)
	}
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

// BeforeReset is kong's hook before it reads the environment: a variable that is set to nothing counts as not set, as
// compose files and unit files mean it.
func (s *Settings) BeforeReset() error {
	for _, o := range options() {
		if v, ok := os.LookupEnv(o.env); ok && v == "" {
			if err := os.Unsetenv(o.env); err != nil {
				return fmt.Errorf("%s: %w", o.env, err)
			}
		}
	}
	return nil
}
