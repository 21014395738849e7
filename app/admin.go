package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"
	"time"

	"comfyfleet/app/auth"
	"comfyfleet/gpu"
	"comfyfleet/models"
	"comfyfleet/models/store"
)

// admin is what commands do to a service: on the live server through its control socket, or straight on the store when
// no server holds the data directory. fleet is nil in the second case.
type admin struct {
	store *store.Store
	keys  *auth.Keys
	fleet *gpu.Manager
	now   func() time.Time
	newID func() string
	// actor is written into the audit log.
	actor string
}

// action is one verb of admin: its arguments come and its answer goes as JSON.
type action func(a *admin, ctx context.Context, args json.RawMessage) (any, error)

// typed makes an action of a method with typed arguments.
func typed[A any](do func(a *admin, ctx context.Context, args A) (any, error)) action {
	return func(a *admin, ctx context.Context, raw json.RawMessage) (any, error) {
		var args A
		if len(raw) > 0 {
			if err := json.Unmarshal(raw, &args); err != nil {
				return nil, models.Errorf(models.CodeInvalid, "", "arguments: %v", err)
			}
		}
		return do(a, ctx, args)
	}
}

// actions are all verbs, by noun and verb as on the command line.
func actions() map[string]action {
	return map[string]action{
		"tenants.create":     typed((*admin).createTenant),
		"tenants.list":       typed((*admin).listTenants),
		"tenants.show":       typed((*admin).showTenant),
		"tenants.set":        typed((*admin).setTenant),
		"tenants.suspend":    typed((*admin).suspendTenant),
		"tenants.delete":     typed((*admin).deleteTenant),
		"keys.create":        typed((*admin).createKey),
		"keys.list":          typed((*admin).listKeys),
		"keys.revoke":        typed((*admin).revokeKey),
		"keys.rotate":        typed((*admin).rotateKey),
		"operators.create":   typed((*admin).createOperator),
		"operators.list":     typed((*admin).listOperators),
		"operators.password": typed((*admin).setPassword),
		"operators.role":     typed((*admin).setRole),
		"workers.list":       typed((*admin).listWorkers),
		"workers.act":        typed((*admin).actOnWorker),
		"workers.logs":       typed((*admin).workerLog),
		"workflows.list":     typed((*admin).listWorkflows),
		"workflows.show":     typed((*admin).showWorkflow),
		"workflows.import":   typed((*admin).importWorkflow),
		"workflows.promote":  typed((*admin).promoteWorkflow),
		"usage":              typed((*admin).usage),
		"backup":             typed((*admin).backup),
	}
}

// do runs one verb.
func (a *admin) do(ctx context.Context, name string, args json.RawMessage) (any, error) {
	act, ok := actions()[name]
	if !ok {
		return nil, models.Errorf(models.CodeNotFound, "", "no such action %q", name)
	}
	return act(a, ctx, args)
}

func (a *admin) audit(ctx context.Context, verb, target, detail string) error {
	return a.store.Audit(ctx, models.AuditEntry{At: a.now(), Actor: a.actor, Action: verb, Target: target, Detail: detail})
}

type workerArgs struct {
	Name  string `json:"name,omitempty"`
	Verb  string `json:"verb,omitempty"`
	Lines int    `json:"lines,omitempty"`
}

func (a *admin) needFleet() error {
	if a.fleet == nil {
		return models.Errorf(models.CodeUnavailable, "not_serving", "no server is running on this data directory; start it with: comfyfleet serve")
	}
	return nil
}

func (a *admin) listWorkers(context.Context, workerArgs) (any, error) {
	if err := a.needFleet(); err != nil {
		return nil, err
	}
	return a.fleet.Workers(), nil
}

func (a *admin) actOnWorker(ctx context.Context, w workerArgs) (any, error) {
	if err := a.needFleet(); err != nil {
		return nil, err
	}
	name, err := a.workerNamed(w.Name)
	if err != nil {
		return nil, err
	}
	verbs := map[string]func(context.Context, string) error{
		"drain": a.fleet.Drain, "resume": a.fleet.Resume, "restart": a.fleet.Restart, "free": a.fleet.Free,
		"disable": a.fleet.Disable, "enable": a.fleet.Enable, "clear": a.fleet.ClearQuarantine,
	}
	act, ok := verbs[w.Verb]
	if !ok {
		return nil, models.Errorf(models.CodeInvalid, "", "no such verb %q", w.Verb)
	}
	if err := act(ctx, name); err != nil {
		return nil, err
	}
	if err := a.audit(ctx, "worker."+w.Verb, name, ""); err != nil {
		return nil, err
	}
	worker, _ := a.fleet.Worker(name)
	return worker, nil
}

// workerNamed finds a worker by its name, or by its number among all ("0" is the first).
func (a *admin) workerNamed(name string) (string, error) {
	workers := a.fleet.Workers()
	for i, w := range workers {
		if w.Name == name || fmt.Sprint(i) == name {
			return w.Name, nil
		}
	}
	return "", models.ErrNotFound("worker " + name)
}

func (a *admin) workerLog(_ context.Context, w workerArgs) (any, error) {
	if err := a.needFleet(); err != nil {
		return nil, err
	}
	name, err := a.workerNamed(w.Name)
	if err != nil {
		return nil, err
	}
	return a.fleet.Log(name, w.Lines)
}

type usageArgs struct {
	Tenant string `json:"tenant,omitempty"`
	From   string `json:"from,omitempty"`
	To     string `json:"to,omitempty"`
}

func (a *admin) usage(ctx context.Context, u usageArgs) (any, error) {
	var tenants []models.Tenant
	if u.Tenant != "" {
		t, err := a.store.TenantByName(ctx, u.Tenant)
		if err != nil {
			return nil, err
		}
		tenants = append(tenants, t)
	} else {
		all, err := a.store.Tenants(ctx)
		if err != nil {
			return nil, err
		}
		tenants = all
	}
	names := map[string]string{}
	out := []models.Usage{}
	for _, t := range tenants {
		names[t.ID] = t.Name
		rows, err := a.store.UsageOf(ctx, t.ID, u.From, u.To)
		if err != nil {
			return nil, err
		}
		out = append(out, rows...)
	}
	for i := range out {
		out[i].TenantID = names[out[i].TenantID]
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Day < out[j].Day })
	return out, nil
}

type backupArgs struct {
	Path string `json:"path"`
}

func (a *admin) backup(ctx context.Context, b backupArgs) (any, error) {
	if err := a.store.Backup(ctx, b.Path); err != nil {
		return nil, err
	}
	return b, a.audit(ctx, "database.backup", b.Path, "")
}
