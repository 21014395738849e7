package workflows

import "encoding/json"

// property is one parameter as JSON Schema. The order of its fields is the order that people read.
type property struct {
	Type        string          `json:"type"`
	Title       string          `json:"title,omitempty"`
	Description string          `json:"description,omitempty"`
	Default     json.RawMessage `json:"default,omitempty"`
	Minimum     json.Number     `json:"minimum,omitempty"`
	Maximum     json.Number     `json:"maximum,omitempty"`
	MinLength   int             `json:"minLength,omitempty"`
	Enum        []string        `json:"enum,omitempty"`
	// Media, Group, Step and Widget are for forms; validators ignore words that begin with x-.
	Media  string      `json:"x-media,omitempty"`
	Group  string      `json:"x-group,omitempty"`
	Step   json.Number `json:"x-step,omitempty"`
	Widget string      `json:"x-widget,omitempty"`
}

// Schema describes params as JSON Schema 2020-12: what a client may send as "params". Media parameters are texts that
// name an item of "media".
func Schema(params []Param) json.RawMessage {
	properties := make(map[string]property, len(params))
	order, required := []string{}, []string{}
	for _, p := range params {
		properties[p.Key] = p.property()
		order = append(order, p.Key)
		if p.Required {
			required = append(required, p.Key)
		}
	}
	b, err := json.Marshal(struct {
		Schema     string              `json:"$schema"`
		Type       string              `json:"type"`
		Properties map[string]property `json:"properties"`
		Required   []string            `json:"required,omitempty"`
		Additional bool                `json:"additionalProperties"`
		Order      []string            `json:"x-order"`
	}{"https://json-schema.org/draft/2020-12/schema", "object", properties, required, false, order})
	if err != nil {
		return json.RawMessage(`{"type":"object"}`) // a default that is not JSON; CheckParams and WithDefaults make none
	}
	return b
}

func (p Param) property() property {
	s := property{Type: "string", Title: p.Label, Description: p.Help, Default: p.Default, Group: p.Group}
	switch p.Type {
	case TypeInteger, TypeSeed:
		s.Type, s.Minimum, s.Maximum, s.Step = "integer", p.Min, p.Max, p.Step
	case TypeNumber:
		s.Type, s.Minimum, s.Maximum, s.Step = "number", p.Min, p.Max, p.Step
	case TypeBoolean:
		s.Type = "boolean"
	case TypeChoice:
		s.Enum = p.Options
		if number(p.Default) != "" { // options are texts here, also those of a list of numbers
			s.Default = quote(string(p.Default))
		}
	}
	if p.Type == TypeText || p.Type == TypeSeed {
		s.Widget = p.Type
	}
	if p.Media() {
		s.Media, s.MinLength = p.Type, 1
	}
	return s
}
