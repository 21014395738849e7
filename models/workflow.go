package models

import "time"

// Workflow is a named entry of the library. Its versions never change.
type Workflow struct {
	Slug        string `gorm:"primaryKey"` // lower-case letters, digits, hyphens
	Title       string
	Description string
	// TenantID limits it to one tenant; "" for all.
	TenantID  string
	Bundled   bool
	CreatedAt time.Time
	UpdatedAt time.Time
}

// WorkflowVersion is one immutable graph of a workflow.
type WorkflowVersion struct {
	Slug    string `gorm:"primaryKey"`
	Version int    `gorm:"primaryKey"` // 1, 2, 3 …
	// Graph is API-format JSON; Editor the editor's file it came from, nil when unknown. Stored compressed.
	Graph  []byte
	Editor []byte
	// Params is a JSON array of parameters as workflows.Param.
	Params    []byte
	SHA256    string // of the canonical graph and params
	CreatedAt time.Time
	CreatedBy string
}

// WorkflowAlias points a name such as "prod" at a version.
type WorkflowAlias struct {
	Slug    string `gorm:"primaryKey"`
	Alias   string `gorm:"primaryKey"`
	Version int
	MovedAt time.Time
}
