package workflows

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"comfyfleet/models"
)

// change is one field to set.
type change struct {
	target Target
	value  json.RawMessage
}

// Bind sets the fields of g that the given values name. A parameter without a value, or with null, leaves the graph's
// own. It answers the names of media that values refer to, each once. When a value is wrong g is left as it was and the
// error names each such field as params.<key>.
func Bind(g *Graph, params []Param, values map[string]json.RawMessage) (media []string, err error) {
	name, wrong := "", []models.FieldError(nil)
	report := func(kind, key, detail string) {
		name = cmp.Or(name, kind)
		wrong = append(wrong, models.FieldError{Field: "params." + shorten(key), Detail: detail})
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if !slices.ContainsFunc(params, func(p Param) bool { return p.Key == key }) {
			report(ErrNameUnknownParam, key, "no such parameter; there are "+keyList(params))
		}
	}
	var changes []change
	for _, p := range params {
		raw, given := values[p.Key]
		if !given || string(raw) == "null" {
			if p.Required {
				report(ErrNameMissingParam, p.Key, "is required")
			}
			continue
		}
		value, problem := p.convert(raw)
		if problem != "" {
			report(ErrNameBadValue, p.Key, problem)
			continue
		}
		if m := unquoted(value); p.Media() && !slices.Contains(media, m) {
			media = append(media, m)
		}
		for _, t := range p.Targets {
			changes = append(changes, change{t, p.asIn(g, t, value)})
		}
	}
	if len(wrong) > 0 {
		e := unprocessable(name, "%s: %s", wrong[0].Field, wrong[0].Detail)
		e.Fields = wrong
		return nil, e
	}
	for _, c := range changes {
		if err := g.Set(c.target.Node, c.target.Field, c.value); err != nil {
			return nil, err // a list that does not fit its graph: CheckParams refuses it
		}
	}
	return media, nil
}

// convert checks a value against the parameter and writes it as the graph needs it. Forms send everything as text, so
// "12" is a good number and "true" a good boolean.
func (p Param) convert(raw json.RawMessage) (value json.RawMessage, problem string) {
	if raw = bytes.TrimSpace(raw); !json.Valid(raw) {
		return nil, "is not JSON"
	}
	text, isText := unquoted(raw), len(raw) > 0 && raw[0] == '"'
	switch p.Type {
	case TypeInteger, TypeSeed:
		n := string(raw)
		if isText {
			n = strings.TrimSpace(text)
		}
		if !isInteger(n) || strings.HasPrefix(n, "+") {
			return nil, "must be a whole number"
		}
		return p.inRange(n)
	case TypeNumber:
		n := string(raw)
		if isText {
			n = strings.TrimSpace(text)
		}
		if number(json.RawMessage(n)) == "" || !json.Valid([]byte(n)) {
			return nil, "must be a number"
		}
		return p.inRange(n)
	case TypeBoolean:
		switch {
		case string(raw) == "true", isText && (text == "true" || text == "on"):
			return json.RawMessage("true"), ""
		case string(raw) == "false", isText && (text == "false" || text == "off" || text == ""):
			return json.RawMessage("false"), ""
		}
		return nil, "must be true or false"
	}
	if p.Type == TypeChoice && number(raw) != "" { // as the graph has it
		text, isText, raw = string(raw), true, quote(string(raw))
	}
	if !isText {
		return nil, "must be a text"
	}
	if p.Type == TypeChoice && !slices.Contains(p.Options, text) {
		return nil, "must be one of " + strings.Join(p.Options, ", ")
	}
	if p.Media() && text == "" {
		return nil, "must name an item of media"
	}
	return raw, ""
}

func (p Param) inRange(n string) (json.RawMessage, string) {
	if p.Min != "" && compare(n, string(p.Min)) < 0 {
		return nil, fmt.Sprintf("must be at least %s", p.Min)
	}
	if p.Max != "" && compare(n, string(p.Max)) > 0 {
		return nil, fmt.Sprintf("must be at most %s", p.Max)
	}
	if isInteger(n) { // JSON has no leading zeros
		sign, digits := "", strings.TrimLeft(strings.TrimPrefix(n, "-"), "0")
		if strings.HasPrefix(n, "-") && digits != "" {
			sign = "-"
		}
		if digits == "" {
			digits = "0"
		}
		n = sign + digits
	}
	return json.RawMessage(n), ""
}

// asIn gives a choice the JSON type of the value that it replaces: the options 16 and 24 of a list of numbers.
func (p Param) asIn(g *Graph, t Target, value json.RawMessage) json.RawMessage {
	if p.Type != TypeChoice {
		return value
	}
	n, ok := g.Node(t.Node)
	if !ok {
		return value
	}
	old, ok := n.Input(t.Field)
	if text := unquoted(value); ok && number(old) != "" && number(json.RawMessage(text)) != "" && json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	return value
}

func keyList(params []Param) string {
	if len(params) == 0 {
		return "none"
	}
	keys := make([]string, len(params))
	for i, p := range params {
		keys[i] = p.Key
	}
	return strings.Join(keys, ", ")
}
