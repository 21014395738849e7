package main

import (
	"comfyfleet/models"
)

type tenantsCmd struct {
	Create  tenantCreateCmd  `cmd:"" help:"Create a tenant."`
	List    tenantListCmd    `cmd:"" help:"List the tenants."`
	Show    tenantShowCmd    `cmd:"" help:"Show one tenant with its webhook secret."`
	Set     tenantSetCmd     `cmd:"" help:"Change settings: weight, max-running, max-queued, rate-submit, rate-status, rate-manage, library-only, allow-classes, deny-classes, webhooks."`
	Suspend tenantSuspendCmd `cmd:"" help:"Stop a tenant's intake and dispatch; its data stays."`
	Delete  tenantDeleteCmd  `cmd:"" help:"Delete a tenant that has no jobs."`
}

type tenantCreateCmd struct {
	Name string `arg:"" help:"Lower-case letters, digits and hyphens."`
}

func (c *tenantCreateCmd) Run(s *session) error {
	return s.tenant("tenants.create", tenantArgs{Name: c.Name})
}

type tenantListCmd struct{}

func (c *tenantListCmd) Run(s *session) error {
	var tenants []models.Tenant
	if err := s.act("tenants.list", tenantArgs{}, &tenants); err != nil {
		return err
	}
	return s.show(tenants, "NAME WEIGHT RUNNING QUEUED SUSPENDED CREATED", func(add func(...any)) {
		for _, t := range tenants {
			add(t.Name, t.Weight, limit(t.MaxRunning), limit(t.MaxQueued), t.SuspendedAt, t.CreatedAt)
		}
	})
}

type tenantShowCmd struct {
	Name string `arg:""`
}

func (c *tenantShowCmd) Run(s *session) error {
	return s.tenant("tenants.show", tenantArgs{Name: c.Name})
}

type tenantSetCmd struct {
	Name string            `arg:""`
	Set  map[string]string `arg:"" help:"NAME=VALUE pairs."`
}

func (c *tenantSetCmd) Run(s *session) error {
	return s.tenant("tenants.set", tenantArgs{Name: c.Name, Set: c.Set})
}

type tenantSuspendCmd struct {
	Name string `arg:""`
	Undo bool   `help:"Let it run again."`
}

func (c *tenantSuspendCmd) Run(s *session) error {
	return s.tenant("tenants.suspend", tenantArgs{Name: c.Name, Suspended: !c.Undo})
}

type tenantDeleteCmd struct {
	Name string `arg:""`
}

func (c *tenantDeleteCmd) Run(s *session) error {
	return s.tenant("tenants.delete", tenantArgs{Name: c.Name})
}

// tenant runs a verb that answers with one tenant and prints it.
func (s *session) tenant(verb string, args tenantArgs) error {
	var t models.Tenant
	if err := s.act(verb, args, &t); err != nil {
		return err
	}
	return s.show(t, "", func(add func(...any)) {
		add("name", t.Name)
		add("created", t.CreatedAt)
		add("suspended", t.SuspendedAt)
		add("weight", t.Weight)
		add("max running", limit(t.MaxRunning))
		add("max queued", limit(t.MaxQueued))
		add("library only", t.LibraryOnly)
		add("webhook secret", t.WebhookSecret)
	})
}

func limit(n int) any {
	if n == 0 {
		return "default"
	}
	return n
}
