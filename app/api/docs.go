package api

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"
	"gopkg.in/yaml.v3"
)

//go:embed openapi.yaml
var openapiYAML []byte

//go:embed docs.html
var docsHTML string

// pages are the description of the API, made once.
type pages struct{ openapi, docs []byte }

func newPages() (*pages, error) {
	var d description
	if err := yaml.Unmarshal(openapiYAML, &d); err != nil {
		return nil, fmt.Errorf("openapi.yaml: %w", err)
	}
	var all map[string]any
	if err := yaml.Unmarshal(openapiYAML, &all); err != nil {
		return nil, fmt.Errorf("openapi.yaml: %w", err)
	}
	openapi, err := json.Marshal(all)
	if err != nil {
		return nil, fmt.Errorf("openapi.yaml as JSON: %w", err)
	}
	page, err := template.New("docs").Parse(docsHTML)
	if err != nil {
		return nil, fmt.Errorf("docs.html: %w", err)
	}
	var b bytes.Buffer
	if err := page.Execute(&b, struct {
		description
		Operations []operation
	}{d, d.operations()}); err != nil {
		return nil, fmt.Errorf("docs.html: %w", err)
	}
	return &pages{openapi: openapi, docs: b.Bytes()}, nil
}

// openAPI serves the description for programs: GET /openapi.json.
func (a *api) openAPI(c *fiber.Ctx) error {
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	c.Set(fiber.HeaderCacheControl, "public, max-age=300")
	return c.Send(a.pages.openapi)
}

// docs serves it for people: GET /docs. The page has no script and fetches nothing.
func (a *api) docs(c *fiber.Ctx) error {
	c.Set(fiber.HeaderContentType, fiber.MIMETextHTMLCharsetUTF8)
	c.Set(fiber.HeaderContentSecurityPolicy, "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	c.Set(fiber.HeaderCacheControl, "public, max-age=300")
	return c.Send(a.pages.docs)
}

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
	} `yaml:"components"`
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
