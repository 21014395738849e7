package workflows

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Defs are the node definitions of an engine, as its /object_info says. They are read only. A nil *Defs knows nothing.
type Defs struct {
	classes map[string]*Class
}

// Class is the definition of one node class.
type Class struct {
	Name        string
	DisplayName string
	// Module is python_module: "nodes" and "comfy_extras.…" come with ComfyUI, "custom_nodes.…" do not.
	Module     string
	OutputNode bool
	// Outputs are the types of its output slots; "COMBO" for a slot that yields one of a list.
	Outputs []string
	// Inputs are the required ones, then the optional ones, each in the order of its definition.
	Inputs []InputDef
}

// InputDef is the definition of one input.
type InputDef struct {
	Name     string
	Required bool
	// Type is INT, FLOAT, STRING, BOOLEAN, COMBO, or the type of a link such as IMAGE; several joined by commas.
	Type string
	// Options are the values of a COMBO that does not list files.
	Options []json.RawMessage
	// Files says that the options are what lies in a folder of the worker: models, or input media.
	Files bool
	// Media is "image", "video", "audio" or "file" when a user's file belongs here, "" otherwise.
	Media     string
	Multiline bool
	Default   json.RawMessage
	Min       json.Number // "" for none
	Max       json.Number
	Step      json.Number

	config json.RawMessage // as the engine wrote it, for node_errors
}

// ParseDefs reads /object_info. A class that cannot be read is left out, as ComfyUI leaves out broken nodes: one odd
// custom node must not cost the definitions of all others.
func ParseDefs(raw []byte) (*Defs, error) {
	var classes map[string]json.RawMessage
	if err := json.Unmarshal(raw, &classes); err != nil {
		return nil, fmt.Errorf("read node definitions: %w", err)
	}
	d := &Defs{classes: make(map[string]*Class, len(classes))}
	for name, body := range classes {
		if c, ok := parseClass(name, body); ok {
			d.classes[name] = c
		}
	}
	return d, nil
}

// Class finds a class by its class_type.
func (d *Defs) Class(name string) (*Class, bool) {
	if d == nil {
		return nil, false
	}
	c, ok := d.classes[name]
	return c, ok
}

// Input finds an input by name.
func (c *Class) Input(name string) (InputDef, bool) {
	for _, in := range c.Inputs {
		if in.Name == name {
			return in, true
		}
	}
	return InputDef{}, false
}

// Custom reports whether the class does not come with ComfyUI.
func (c *Class) Custom() bool { return strings.HasPrefix(c.Module, "custom_nodes.") }

// input finds the definition of one input of a class; ok is false when either is unknown.
func (d *Defs) input(class, name string) (InputDef, bool) {
	c, ok := d.Class(class)
	if !ok {
		return InputDef{}, false
	}
	return c.Input(name)
}

func parseClass(name string, body json.RawMessage) (*Class, bool) {
	var raw struct {
		Input       map[string]json.RawMessage `json:"input"`
		InputOrder  map[string][]string        `json:"input_order"`
		Output      []json.RawMessage          `json:"output"`
		DisplayName string                     `json:"display_name"`
		Module      string                     `json:"python_module"`
		OutputNode  bool                       `json:"output_node"`
	}
	if json.Unmarshal(body, &raw) != nil {
		return nil, false
	}
	c := &Class{Name: name, DisplayName: raw.DisplayName, Module: raw.Module, OutputNode: raw.OutputNode}
	for _, out := range raw.Output {
		c.Outputs = append(c.Outputs, typeName(out))
	}
	for _, section := range []string{"required", "optional"} {
		var fields map[string]json.RawMessage
		if body := raw.Input[section]; body == nil || json.Unmarshal(body, &fields) != nil {
			continue
		}
		for _, field := range ordered(fields, raw.InputOrder[section]) {
			in, ok := parseInputDef(field, fields[field])
			if !ok {
				continue
			}
			in.Required = section == "required"
			c.Inputs = append(c.Inputs, in)
		}
	}
	return c, true
}

// ordered lists the keys of fields, first those that order names, then what it forgot (old versions have no order).
func ordered(fields map[string]json.RawMessage, order []string) []string {
	names := make([]string, 0, len(fields))
	for _, name := range order {
		if _, ok := fields[name]; ok && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	rest := len(names)
	for name := range fields {
		if !slices.Contains(names[:rest], name) {
			names = append(names, name)
		}
	}
	slices.Sort(names[rest:])
	return names
}

func typeName(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return "COMBO" // a list of options used as a type
}

// parseInputDef reads [TYPE, {…}], [[options], {…}] or ["COMBO", {"options": […]}].
func parseInputDef(name string, raw json.RawMessage) (InputDef, bool) {
	var parts []json.RawMessage
	if json.Unmarshal(raw, &parts) != nil || len(parts) == 0 {
		return InputDef{}, false
	}
	var o struct {
		Options     []json.RawMessage `json:"options"`
		Default     json.RawMessage   `json:"default"`
		Min         json.RawMessage   `json:"min"`
		Max         json.RawMessage   `json:"max"`
		Step        json.RawMessage   `json:"step"`
		Multiline   bool              `json:"multiline"`
		ImageUpload bool              `json:"image_upload"`
		AnimUpload  bool              `json:"animated_image_upload"`
		VideoUpload bool              `json:"video_upload"`
		AudioUpload bool              `json:"audio_upload"`
		FileUpload  bool              `json:"file_upload"`
		Remote      json.RawMessage   `json:"remote"`
		ImageFolder string            `json:"image_folder"`
		PathExts    []string          `json:"vhs_path_extensions"` // VideoHelperSuite's typed paths
		MultiSelect bool              `json:"multiselect"`
	}
	if len(parts) > 1 {
		_ = json.Unmarshal(parts[1], &o) // a field of an odd type leaves the others as read; without any it is just a type
	}
	in := InputDef{
		Name: name, Type: typeName(parts[0]), Default: o.Default, Multiline: o.Multiline,
		Min: number(o.Min), Max: number(o.Max), Step: number(o.Step), config: raw,
	}
	options := o.Options
	if in.Type == "COMBO" && parts[0][0] == '[' {
		options = nil
		_ = json.Unmarshal(parts[0], &options)
	}
	switch {
	case o.ImageUpload, o.AnimUpload:
		in.Media = "image"
	case o.VideoUpload:
		in.Media = "video"
	case o.AudioUpload:
		in.Media = "audio"
	case o.FileUpload, len(o.PathExts) > 0:
		in.Media = "file"
	}
	in.Files = in.Media != "" || in.Type == "COMBO" && (o.Remote != nil || o.ImageFolder != "" || listsFiles(name, options))
	if in.Type == "COMBO" && !in.Files && !o.MultiSelect {
		in.Options = options
	}
	return in, true
}

// listsFiles tells a list of what lies in a folder from a list of choices: another worker may have other files, and a
// list without any is a folder without any.
func listsFiles(name string, options []json.RawMessage) bool {
	if len(options) == 0 || isModelField(name) {
		return true
	}
	files := 0
	for _, o := range options {
		if s := unquoted(o); hasFileExtension(s) {
			files++
		}
	}
	return 2*files > len(options)
}

// unquoted is the string that raw is, "" when it is something else.
func unquoted(raw json.RawMessage) string {
	if len(raw) == 0 || raw[0] != '"' {
		return ""
	}
	return unquote(raw)
}

func number(raw json.RawMessage) json.Number {
	if len(raw) == 0 || raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') {
		return ""
	}
	return json.Number(raw)
}
