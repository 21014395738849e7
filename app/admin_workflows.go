package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"comfyfleet/models"
	"comfyfleet/workflows"
)

var workflowSlug = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`)

type workflowArgs struct {
	Slug    string          `json:"slug,omitempty"`
	Version int             `json:"version,omitempty"` // 0 for the newest
	Title   string          `json:"title,omitempty"`
	Alias   string          `json:"alias,omitempty"`
	Graph   json.RawMessage `json:"graph,omitempty"`
}

// libraryEntry is a workflow as the commands show it.
type libraryEntry struct {
	Slug     string                 `json:"slug"`
	Title    string                 `json:"title"`
	Version  int                    `json:"version"`
	Versions int                    `json:"versions"`
	Bundled  bool                   `json:"bundled"`
	Aliases  []models.WorkflowAlias `json:"aliases"`
	Params   []workflows.Param      `json:"params,omitempty"`
	Graph    json.RawMessage        `json:"graph,omitempty"`
}

func (a *admin) listWorkflows(ctx context.Context, _ workflowArgs) (any, error) {
	all, err := a.store.Workflows(ctx, "")
	if err != nil {
		return nil, err
	}
	out := []libraryEntry{}
	for _, w := range all {
		e, err := a.entry(ctx, w, 0)
		if err != nil {
			return nil, err
		}
		e.Graph, e.Params = nil, nil
		out = append(out, e)
	}
	return out, nil
}

func (a *admin) showWorkflow(ctx context.Context, args workflowArgs) (any, error) {
	w, err := a.store.Workflow(ctx, "", args.Slug)
	if err != nil {
		return nil, err
	}
	return a.entry(ctx, w, args.Version)
}

func (a *admin) entry(ctx context.Context, w models.Workflow, version int) (libraryEntry, error) {
	v, err := a.store.Version(ctx, w.Slug, version)
	if err != nil {
		return libraryEntry{}, err
	}
	versions, err := a.store.Versions(ctx, w.Slug)
	if err != nil {
		return libraryEntry{}, err
	}
	aliases, err := a.store.Aliases(ctx, w.Slug)
	if err != nil {
		return libraryEntry{}, err
	}
	e := libraryEntry{Slug: w.Slug, Title: w.Title, Version: v.Version, Versions: len(versions), Bundled: w.Bundled, Aliases: aliases, Graph: v.Graph}
	e.Params, err = workflows.ParseParams(v.Params)
	return e, err
}

// importWorkflow adds a graph to the library, as a new workflow or a new version of one. Its parameters are guessed.
func (a *admin) importWorkflow(ctx context.Context, args workflowArgs) (any, error) {
	if !workflowSlug.MatchString(args.Slug) {
		return nil, models.FieldErrorf(models.CodeInvalid, "", "slug", "must be 1 to 64 lower-case letters, digits and hyphens")
	}
	g, err := workflows.Parse(args.Graph)
	if err != nil {
		return nil, err
	}
	if err := workflows.Check(g, nil); err != nil {
		return nil, err
	}
	graph := g.JSON()
	params, err := json.Marshal(workflows.Guess(g, nil))
	if err != nil {
		return nil, fmt.Errorf("encode parameters: %w", err)
	}
	w, err := a.store.Workflow(ctx, "", args.Slug)
	switch {
	case models.ErrorCode(err) == models.CodeNotFound:
		w = models.Workflow{Slug: args.Slug, Title: args.Title, CreatedAt: a.now()}
		if w.Title == "" {
			w.Title = strings.ReplaceAll(args.Slug, "-", " ")
		}
	case err != nil:
		return nil, err
	case w.Bundled:
		return nil, models.Errorf(models.CodeConflict, "", "%s is bundled; import under another slug", w.Slug)
	case args.Title != "":
		w.Title = args.Title
	}
	w.UpdatedAt = a.now()
	sum := sha256.Sum256(append(graph, params...))
	version, err := a.store.PutVersion(ctx, w, models.WorkflowVersion{
		Slug: w.Slug, Graph: graph, Params: params, SHA256: hex.EncodeToString(sum[:]), CreatedAt: a.now(), CreatedBy: a.actor,
	})
	if err != nil {
		return nil, err
	}
	if err := a.audit(ctx, "workflow.import", fmt.Sprintf("%s@%d", w.Slug, version), ""); err != nil {
		return nil, err
	}
	return a.entry(ctx, w, version)
}

// promoteWorkflow points an alias at a version.
func (a *admin) promoteWorkflow(ctx context.Context, args workflowArgs) (any, error) {
	w, err := a.store.Workflow(ctx, "", args.Slug)
	if err != nil {
		return nil, err
	}
	if !workflowSlug.MatchString(args.Alias) {
		return nil, models.FieldErrorf(models.CodeInvalid, "", "alias", "must be lower-case letters, digits and hyphens")
	}
	v, err := a.store.Version(ctx, w.Slug, args.Version)
	if err != nil {
		return nil, err
	}
	if err := a.store.SetAlias(ctx, w.Slug, args.Alias, v.Version, a.now()); err != nil {
		return nil, err
	}
	if err := a.audit(ctx, "workflow.promote", fmt.Sprintf("%s@%d", w.Slug, v.Version), args.Alias); err != nil {
		return nil, err
	}
	return a.entry(ctx, w, v.Version)
}
