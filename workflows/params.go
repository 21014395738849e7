package workflows

import (
	"encoding/json"
	"regexp"
	"slices"

	"comfyfleet/models"
)

// Types of parameters.
const (
	TypeText    = "text"    // prose of several lines
	TypeString  = "string"  // one line
	TypeInteger = "integer" // up to 64 bits, so that seeds fit
	TypeNumber  = "number"
	TypeBoolean = "boolean"
	TypeChoice  = "choice" // one of Options
	TypeSeed    = "seed"   // an integer that a form may offer to draw
	TypeImage   = "image"  // this and the following: the name of an item of media
	TypeMask    = "mask"
	TypeVideo   = "video"
	TypeAudio   = "audio"
	TypeFile    = "file"
)

// Types lists the types of parameters in the order that an editor offers them.
func Types() []string {
	return []string{TypeText, TypeString, TypeInteger, TypeNumber, TypeBoolean, TypeChoice, TypeSeed,
		TypeImage, TypeMask, TypeVideo, TypeAudio, TypeFile}
}

// Limits of a parameter list.
const (
	maxParams  = 200
	maxTargets = 100
)

// Param is a named, typed input of a workflow, bound to one or more node fields. A parameter that is not given leaves
// the graph's own value.
type Param struct {
	// Key is its name in the API: lower-case letters, digits and underscores, beginning with a letter.
	Key   string `json:"key" yaml:"key"`
	Label string `json:"label" yaml:"label"`
	Help  string `json:"help,omitempty" yaml:"help"`
	Type  string `json:"type" yaml:"type"`
	// Group is the heading that a form shows it under, "" for the main part.
	Group   string   `json:"group,omitempty" yaml:"group"`
	Targets []Target `json:"targets" yaml:"targets"`
	// Default is the graph's own value, JSON; nil when the fields have none or are linked.
	Default json.RawMessage `json:"default,omitempty" yaml:"-"`
	Min     json.Number     `json:"min,omitempty" yaml:"min"` // "" for none
	Max     json.Number     `json:"max,omitempty" yaml:"max"`
	Step    json.Number     `json:"step,omitempty" yaml:"step"` // for the form only; not enforced
	Options []string        `json:"options,omitempty" yaml:"options"`
	// Required asks for a value although the graph has one.
	Required bool `json:"required,omitempty" yaml:"required"`
}

// Target is one field that a parameter sets.
type Target struct {
	Node  string `json:"node" yaml:"node"`
	Field string `json:"field" yaml:"field"`
}

// Media reports whether the parameter's value names an item of media.
func (p Param) Media() bool {
	switch p.Type {
	case TypeImage, TypeMask, TypeVideo, TypeAudio, TypeFile:
		return true
	}
	return false
}

var keyForm = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

// CheckParams holds a parameter list against the graph that it is for: well-formed unique keys, known types, targets
// that exist. What it accepts, Bind and Schema can use.
func CheckParams(g *Graph, params []Param) error {
	if len(params) > maxParams {
		return unprocessable(ErrNameBadParams, "%d parameters; the limit is %d", len(params), maxParams)
	}
	seen := map[string]bool{}
	for _, p := range params {
		switch {
		case !keyForm.MatchString(p.Key):
			return unprocessable(ErrNameBadParams, "the key %q is not lower-case letters, digits and underscores", shorten(p.Key))
		case seen[p.Key]:
			return unprocessable(ErrNameBadParams, "two parameters have the key %q", p.Key)
		case !slices.Contains(Types(), p.Type):
			return unprocessable(ErrNameBadParams, "parameter %s has the unknown type %q", p.Key, shorten(p.Type))
		case len(p.Targets) == 0 || len(p.Targets) > maxTargets:
			return unprocessable(ErrNameBadParams, "parameter %s must set 1 to %d fields", p.Key, maxTargets)
		case p.Type == TypeChoice && len(p.Options) == 0:
			return unprocessable(ErrNameBadParams, "parameter %s is a choice without options", p.Key)
		}
		seen[p.Key] = true
		for _, t := range p.Targets {
			if err := checkTarget(g, p, t); err != nil {
				return err
			}
		}
		for _, limit := range []json.Number{p.Min, p.Max, p.Step} {
			if limit != "" && (!json.Valid([]byte(limit)) || number(json.RawMessage(limit)) == "") {
				return unprocessable(ErrNameBadParams, "parameter %s has the limit %q, which is not a number", p.Key, shorten(string(limit)))
			}
		}
	}
	return nil
}

func checkTarget(g *Graph, p Param, t Target) error {
	n, ok := g.Node(t.Node)
	if !ok {
		return unprocessable(ErrNameBadParams, "parameter %s sets node %q, which the graph lacks", p.Key, shorten(t.Node))
	}
	if _, ok := n.Input(t.Field); !ok {
		return unprocessable(ErrNameBadParams, "parameter %s sets %q of %s, which has %s", p.Key, shorten(t.Field), n.describe(), n.fieldNames())
	}
	return nil
}

// WithDefaults is params with each Default read from the graph.
func WithDefaults(g *Graph, params []Param) []Param {
	out := slices.Clone(params)
	for i, p := range out {
		out[i].Default = nil
		if len(p.Targets) == 0 {
			continue
		}
		if n, ok := g.Node(p.Targets[0].Node); ok {
			if v, ok := n.Input(p.Targets[0].Field); ok && v[0] != '[' && v[0] != '{' {
				out[i].Default = v
			}
		}
	}
	return out
}

// ParseParams reads a stored parameter list.
func ParseParams(raw []byte) ([]Param, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var params []Param
	if err := json.Unmarshal(raw, &params); err != nil {
		return nil, &models.Error{Code: models.CodeUnprocessed, Name: ErrNameBadParams, Detail: "the parameter list is not valid", Err: err}
	}
	return params, nil
}
