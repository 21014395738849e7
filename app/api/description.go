package api

import (
	"fmt"
	"html/template"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// description is what the page needs of the OpenAPI document.
type description struct {
	Info struct {
		Title       string `yaml:"title"`
		Version     string `yaml:"version"`
		Description string `yaml:"description"`
	} `yaml:"info"`
	Paths      map[string]pathItem `yaml:"paths"`
	Components struct {
		Parameters map[string]parameter `yaml:"parameters"`
		Schemas    map[string]schema    `yaml:"schemas"`
	} `yaml:"components"`
	// Shown are the schemas that the page lists field by field.
	Shown  []string      `yaml:"x-shown-schemas"`
	Codes  []problemCode `yaml:"x-problem-codes"`
	Causes []problemCode `yaml:"x-error-codes"`
}

type pathItem struct {
	Get        *operation  `yaml:"get"`
	Post       *operation  `yaml:"post"`
	Delete     *operation  `yaml:"delete"`
	Parameters []parameter `yaml:"parameters"`
}

type operation struct {
	Method, Path string      `yaml:"-"`
	Summary      string      `yaml:"summary"`
	Description  string      `yaml:"description"`
	Order        int         `yaml:"x-order"`
	Parameters   []parameter `yaml:"parameters"`
}

type parameter struct {
	Ref         string `yaml:"$ref"`
	Name        string `yaml:"name"`
	In          string `yaml:"in"`
	Description string `yaml:"description"`
}

// problemCode is one row of a table of errors.
type problemCode struct {
	Code    string `yaml:"code"`
	Status  int    `yaml:"status"`
	Meaning string `yaml:"meaning"`
}

// operations are all of them with their parameters, as the document numbers them.
func (d description) operations() []operation {
	var ops []operation
	for path, item := range d.Paths {
		for method, op := range map[string]*operation{"GET": item.Get, "POST": item.Post, "DELETE": item.Delete} {
			if op == nil {
				continue
			}
			op.Method, op.Path = method, path
			op.Parameters = slices.Concat(item.Parameters, op.Parameters)
			for i, p := range op.Parameters {
				if name, ok := strings.CutPrefix(p.Ref, "#/components/parameters/"); ok {
					op.Parameters[i] = d.Components.Parameters[name]
				}
			}
			ops = append(ops, *op)
		}
	}
	slices.SortFunc(ops, func(a, b operation) int { return a.Order - b.Order })
	return ops
}

// objects are the schemas that the page lists.
func (d description) objects() []object {
	var out []object
	for _, name := range d.Shown {
		out = append(out, object{name, d.Components.Schemas[name].fields("")})
	}
	return out
}

// object is a schema as a table.
type object struct {
	Name   string
	Fields []field
}

type field struct{ Name, Type, Description string }

// schema is what the page needs of a JSON Schema. Properties keep the order in which they are written.
type schema struct {
	Ref         string    `yaml:"$ref"`
	Type        any       `yaml:"type"`
	Enum        []any     `yaml:"enum"`
	Description string    `yaml:"description"`
	Properties  yaml.Node `yaml:"properties"`
	Items       *schema   `yaml:"items"`
	OneOf       []schema  `yaml:"oneOf"`
}

// fields lists the properties, those of objects in lists and of objects under their parent's name.
func (s schema) fields(prefix string) []field {
	var out []field
	for i := 0; i+1 < len(s.Properties.Content); i += 2 {
		var p schema
		if err := s.Properties.Content[i+1].Decode(&p); err != nil {
			continue // not reached: the contract tests read the whole document
		}
		name := prefix + s.Properties.Content[i].Value
		out = append(out, field{name, p.kind(), p.Description})
		out = append(out, p.fields(name+".")...)
		if p.Items != nil {
			out = append(out, p.Items.fields(name+"[].")...)
		}
	}
	return out
}

// kind is the type in words.
func (s schema) kind() string {
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		return name
	}
	if len(s.Enum) > 0 {
		return joined(s.Enum)
	}
	if s.Items != nil {
		return "list of " + s.Items.kind()
	}
	switch t := s.Type.(type) {
	case string:
		return t
	case []any:
		return joined(t)
	}
	var all []any
	for _, o := range s.OneOf {
		all = append(all, o.kind())
	}
	if len(all) == 0 {
		return "any"
	}
	return joined(all)
}

func joined(words []any) string {
	out := make([]string, len(words))
	for i, w := range words {
		if out[i] = fmt.Sprint(w); w == nil {
			out[i] = "null"
		}
	}
	return strings.Join(out, " or ")
}

var codeSpan = regexp.MustCompile("`([^`]*)`")

// prose is the document's text as HTML: paragraphs, and code between backquotes.
func prose(text string) template.HTML {
	if text == "" {
		return ""
	}
	var b strings.Builder
	for paragraph := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		escaped := template.HTMLEscapeString(paragraph)
		b.WriteString("<p>" + codeSpan.ReplaceAllString(escaped, "<code>$1</code>") + "</p>")
	}
	return template.HTML(b.String())
}
