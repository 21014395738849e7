package api

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"

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
	page, err := template.New("docs").Funcs(template.FuncMap{"prose": prose}).Parse(docsHTML)
	if err != nil {
		return nil, fmt.Errorf("docs.html: %w", err)
	}
	var b bytes.Buffer
	if err := page.Execute(&b, struct {
		description
		Operations []operation
		Objects    []object
	}{d, d.operations(), d.objects()}); err != nil {
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
