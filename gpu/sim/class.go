package sim

import "encoding/json"

// Class is a node class as /object_info describes it, and what executes it.
type Class struct {
	Name     string
	Title    string // display name
	Category string
	About    string // one sentence of our own
	Module   string // python_module in ComfyUI: nodes, comfy_extras.…, custom_nodes.…
	Required []Input
	Optional []Input
	Hidden   []Hidden
	Outputs  []Output
	// OutputNode marks a class that is a reason to run a graph.
	OutputNode bool
	// InputIsList says that inputs arrive as whole lists and not item by item.
	InputIsList bool
	// ListOutput says that the outputs are lists whose items are run through later nodes one by one.
	ListOutput bool

	// run executes the node.
	run func(*call) (*result, error)
	// check is VALIDATE_INPUTS: "" means valid. It replaces the list check of the fields it names.
	check *check
	// fingerprint is IS_CHANGED: its answer is part of the node's cache signature.
	fingerprint func(*Server, map[string]any) string
}

// check is a class's own validation of literal inputs.
type check struct {
	fields []string
	valid  func(s *Server, field string, value any) string
}

// Output is one output slot.
type Output struct {
	Type string
	Name string
}

// Hidden is an input that the server fills in.
type Hidden struct{ Name, Type string }

// Input is one input of a class.
type Input struct {
	Name string
	// Type is a type name (INT, FLOAT, STRING, BOOLEAN, IMAGE, * …) or "COMBO" for a list of options.
	Type string
	// Options are the values of a COMBO.
	Options []string
	// Folder names the model folder, or "input", whose files are the options of a COMBO.
	Folder string
	// V3 writes a COMBO as ["COMBO", {"options": […]}], as newer nodes do.
	V3 bool
	// Numbers says that the options are numbers and not strings.
	Numbers bool
	Default any
	Min     any // int, uint64 or float64; nil for no limit
	Max     any
	Step    any

	Multiline  bool
	ForceInput bool
	Upload     string // image_upload, video_upload …
	Tooltip    string
}

// spec is the options object of an input, in the order that ComfyUI writes it.
type spec struct {
	Default     any    `json:"default,omitempty"`
	Min         any    `json:"min,omitempty"`
	Max         any    `json:"max,omitempty"`
	Step        any    `json:"step,omitempty"`
	Multiline   *bool  `json:"multiline,omitempty"`
	Multiselect *bool  `json:"multiselect,omitempty"`
	Options     any    `json:"options,omitempty"`
	ForceInput  bool   `json:"forceInput,omitempty"`
	ImageUpload bool   `json:"image_upload,omitempty"`
	VideoUpload bool   `json:"video_upload,omitempty"`
	Tooltip     string `json:"tooltip,omitempty"`
}

// config is the input as object_info and validation errors show it: [type or options, {…}].
func (in Input) config(names []string) []any {
	s := spec{
		Default: in.Default, Min: in.Min, Max: in.Max, Step: in.Step, ForceInput: in.ForceInput,
		ImageUpload: in.Upload == "image_upload", VideoUpload: in.Upload == "video_upload", Tooltip: in.Tooltip,
	}
	if in.Type == "STRING" {
		s.Multiline = &in.Multiline
	}
	if in.Type != "COMBO" {
		return []any{in.Type, s}
	}
	options := make([]any, len(names))
	for i, name := range names {
		options[i] = name
		if in.Numbers {
			options[i] = json.Number(name)
		}
	}
	if in.V3 {
		no := false
		s.Multiselect, s.Options = &no, options
		return []any{"COMBO", s}
	}
	return []any{options, s}
}

// definition renders the class as an entry of /object_info. options answers the current values of a COMBO.
func (c *Class) definition(options func(Input) []string) map[string]any {
	input, order := map[string]any{}, map[string]any{}
	group := func(name string, list []Input) {
		if len(list) == 0 {
			return
		}
		fields, names := ordered{}, []string{}
		for _, in := range list {
			fields = append(fields, field{in.Name, in.config(options(in))})
			names = append(names, in.Name)
		}
		input[name], order[name] = fields, names
	}
	group("required", c.Required)
	group("optional", c.Optional)
	if len(c.Hidden) > 0 {
		fields, names := ordered{}, []string{}
		for _, h := range c.Hidden {
			fields = append(fields, field{h.Name, h.Type})
			names = append(names, h.Name)
		}
		input["hidden"], order["hidden"] = fields, names
	}
	if _, ok := input["required"]; !ok {
		input["required"], order["required"] = ordered{}, []string{}
	}
	types, names, lists := []string{}, []string{}, []bool{}
	for _, o := range c.Outputs {
		types, names, lists = append(types, o.Type), append(names, o.Name), append(lists, c.ListOutput)
	}
	return map[string]any{
		"input": input, "input_order": order, "is_input_list": c.InputIsList,
		"output": types, "output_is_list": lists, "output_name": names,
		"name": c.Name, "display_name": c.Title, "description": c.About, "python_module": c.Module,
		"category": c.Category, "output_node": c.OutputNode, "has_intermediate_output": false,
	}
}

// input finds an input by name.
func (c *Class) input(name string) (in Input, required, ok bool) {
	for _, in := range c.Required {
		if in.Name == name {
			return in, true, true
		}
	}
	for _, in := range c.Optional {
		if in.Name == name {
			return in, false, true
		}
	}
	return Input{}, false, false
}

// hides says whether the class asks for a hidden value of that type.
func (c *Class) hides(kind string) bool {
	for _, h := range c.Hidden {
		if h.Type == kind {
			return true
		}
	}
	return false
}

// ordered is a JSON object that keeps the order of its fields, which clients show to people.
type ordered []field

type field struct {
	key   string
	value any
}

// MarshalJSON writes the fields in order.
func (o ordered) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i, f := range o {
		if i > 0 {
			out = append(out, ',')
		}
		key, err := json.Marshal(f.key)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(f.value)
		if err != nil {
			return nil, err
		}
		out = append(append(append(out, key...), ':'), value...)
	}
	return append(out, '}'), nil
}
