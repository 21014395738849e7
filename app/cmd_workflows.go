package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"comfyfleet/models"
)

// maxGraphFile bounds a file that is imported, in bytes; a graph may have 4 MiB.
const maxGraphFile = 8 << 20

type workflowsCmd struct {
	List    workflowListCmd    `cmd:"" default:"1" help:"List the library."`
	Show    workflowShowCmd    `cmd:"" help:"Show one workflow and its parameters."`
	Export  workflowExportCmd  `cmd:"" help:"Print a workflow's graph in API format."`
	Import  workflowImportCmd  `cmd:"" help:"Add a graph in API format, as a new workflow or a new version of one."`
	Promote workflowPromoteCmd `cmd:"" help:"Point an alias, prod by default, at a version."`
}

type workflowListCmd struct{}

func (c *workflowListCmd) Run(s *session) error {
	var all []libraryEntry
	if err := s.act("workflows.list", workflowArgs{}, &all); err != nil {
		return err
	}
	return s.show(all, "SLUG VERSION ALIASES TITLE", func(add func(...any)) {
		for _, e := range all {
			add(e.Slug, e.Version, aliasWords(e.Aliases), e.Title)
		}
	})
}

func aliasWords(aliases []models.WorkflowAlias) string {
	words := make([]string, len(aliases))
	for i, a := range aliases {
		words[i] = fmt.Sprintf("%s=%d", a.Alias, a.Version)
	}
	return strings.Join(words, " ")
}

// namedVersion is a workflow and, after "@", one of its versions; the newest without.
type namedVersion struct {
	Workflow string `arg:"" help:"SLUG, or SLUG@VERSION."`
}

func (n namedVersion) args() (workflowArgs, error) {
	slug, at, pinned := strings.Cut(n.Workflow, "@")
	a := workflowArgs{Slug: slug}
	if pinned {
		if _, err := fmt.Sscanf(at, "%d", &a.Version); err != nil || a.Version < 1 {
			return a, fmt.Errorf("%q is no version number", at)
		}
	}
	return a, nil
}

type workflowShowCmd struct{ namedVersion }

func (c *workflowShowCmd) Run(s *session) error {
	args, err := c.args()
	if err != nil {
		return err
	}
	return s.workflow("workflows.show", args)
}

type workflowExportCmd struct{ namedVersion }

func (c *workflowExportCmd) Run(s *session) error {
	args, err := c.args()
	if err != nil {
		return err
	}
	var e libraryEntry
	if err := s.act("workflows.show", args, &e); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.stdout, "%s\n", e.Graph)
	return err
}

type workflowImportCmd struct {
	File  string `arg:"" type:"existingfile" help:"Graph in API format."`
	Slug  string `help:"Its name in the API; from the file by default."`
	Title string `help:"Its name for people."`
}

func (c *workflowImportCmd) Run(s *session) error {
	info, err := os.Stat(c.File)
	if err != nil {
		return err
	}
	if info.Size() > maxGraphFile {
		return fmt.Errorf("%s is larger than %d MiB", c.File, maxGraphFile>>20)
	}
	raw, err := os.ReadFile(c.File)
	if err != nil {
		return err
	}
	if !json.Valid(raw) {
		return fmt.Errorf("%s is not JSON", c.File)
	}
	slug := c.Slug
	if slug == "" {
		slug = slugOf(c.File)
	}
	return s.workflow("workflows.import", workflowArgs{Slug: slug, Title: c.Title, Graph: raw})
}

// slugOf makes a slug of a file's name.
func slugOf(file string) string {
	name := strings.ToLower(strings.TrimSuffix(filepath.Base(file), filepath.Ext(file)))
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, name)
	return strings.Trim(name, "-")
}

type workflowPromoteCmd struct {
	namedVersion
	Alias string `default:"prod" help:"The alias to move."`
}

func (c *workflowPromoteCmd) Run(s *session) error {
	args, err := c.args()
	if err != nil {
		return err
	}
	args.Alias = c.Alias
	return s.workflow("workflows.promote", args)
}

// workflow runs a verb that answers with one entry and prints it without its graph.
func (s *session) workflow(verb string, args workflowArgs) error {
	var e libraryEntry
	if err := s.act(verb, args, &e); err != nil {
		return err
	}
	return s.show(e, "", func(add func(...any)) {
		add("slug", e.Slug)
		add("title", e.Title)
		add("version", fmt.Sprintf("%d of %d", e.Version, e.Versions))
		add("aliases", aliasWords(e.Aliases))
		for _, p := range e.Params {
			add("  "+p.Key, p.Type, p.Label)
		}
	})
}
