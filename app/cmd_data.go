package main

import (
	"fmt"
	"path/filepath"

	"comfyfleet/models"
)

type usageCmd struct {
	Tenant string `help:"Only this tenant's."`
	From   string `help:"First UTC day, 2006-01-02."`
	To     string `help:"Last UTC day."`
}

func (c *usageCmd) Run(s *session) error {
	var rows []models.Usage
	if err := s.act("usage", usageArgs{Tenant: c.Tenant, From: c.From, To: c.To}, &rows); err != nil {
		return err
	}
	return s.show(rows, "DAY TENANT WORKFLOW JOBS FAILED GPU-SECONDS OUTPUT-BYTES", func(add func(...any)) {
		for _, r := range rows {
			add(r.Day, r.TenantID, r.WorkflowSlug, r.Jobs, r.Failed, fmt.Sprintf("%.1f", float64(r.GPUMS)/1000), r.OutputBytes)
		}
	})
}

type backupCmd struct {
	File string `arg:"" help:"The copy of the database to write; it must not exist."`
}

func (c *backupCmd) Run(s *session) error {
	// The server that writes it may run in another directory.
	file, err := filepath.Abs(c.File)
	if err != nil {
		return err
	}
	var done backupArgs
	if err := s.act("backup", backupArgs{Path: file}, &done); err != nil {
		return err
	}
	return s.show(done, "", func(add func(...any)) { add("written", done.Path) })
}

type versionCmd struct{}

func (c *versionCmd) Run(s *session) error {
	return s.show(map[string]string{"version": version}, "", func(add func(...any)) { add("comfyfleet", version) })
}

type configCmd struct{}

func (c *configCmd) Run(s *session) error { return s.settings.Print(s.stdout, s.asJSON) }
