package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"comfyfleet/models"
	"comfyfleet/models/store"
	"comfyfleet/workflows"
)

// importBundled puts the bundled workflows into the library; one that is there unchanged stays as it is.
func importBundled(ctx context.Context, st *store.Store) error {
	entries, err := workflows.Bundled()
	if err != nil {
		return err
	}
	for _, e := range entries {
		params, err := json.Marshal(e.Params)
		if err != nil {
			return fmt.Errorf("parameters of %s: %w", e.Slug, err)
		}
		sum := sha256.New()
		sum.Write(e.Graph)
		sum.Write(params)
		at := now()
		_, err = st.PutVersion(ctx,
			models.Workflow{Slug: e.Slug, Title: e.Title, Description: e.Description, Bundled: true, CreatedAt: at, UpdatedAt: at},
			models.WorkflowVersion{Slug: e.Slug, Graph: e.Graph, Params: params, SHA256: hex.EncodeToString(sum.Sum(nil)), CreatedAt: at, CreatedBy: "comfyfleet"})
		if err != nil {
			return fmt.Errorf("bundled workflow %s: %w", e.Slug, err)
		}
	}
	return nil
}
