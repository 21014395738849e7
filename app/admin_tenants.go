package main

import (
	"context"
	"regexp"
	"strings"
	"time"

	"comfyfleet/app/auth"
	"comfyfleet/app/webhooks"
	"comfyfleet/models"
)

var tenantName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

type tenantArgs struct {
	Name      string            `json:"name"`
	Set       map[string]string `json:"set,omitempty"`
	Suspended bool              `json:"suspended,omitempty"`
}

func (a *admin) createTenant(ctx context.Context, t tenantArgs) (any, error) {
	if !tenantName.MatchString(t.Name) {
		return nil, models.FieldErrorf(models.CodeInvalid, "bad_name", "name", "must be 1 to 63 lower-case letters, digits and hyphens")
	}
	tenant := a.newTenant(t.Name)
	if err := a.store.CreateTenant(ctx, tenant); err != nil {
		return nil, err
	}
	return tenant, a.audit(ctx, "tenant.create", t.Name, "")
}

func (a *admin) newTenant(name string) models.Tenant {
	return models.Tenant{ID: a.newID(), Name: name, CreatedAt: a.now(), Weight: 1, WebhookSecret: webhooks.NewSecret()}
}

func (a *admin) listTenants(ctx context.Context, _ tenantArgs) (any, error) {
	return a.store.Tenants(ctx)
}

func (a *admin) showTenant(ctx context.Context, t tenantArgs) (any, error) {
	return a.store.TenantByName(ctx, t.Name)
}

func (a *admin) setTenant(ctx context.Context, t tenantArgs) (any, error) {
	tenant, err := a.store.TenantByName(ctx, t.Name)
	if err != nil {
		return nil, err
	}
	if err := applyTenantSettings(&tenant, t.Set); err != nil {
		return nil, err
	}
	if err := a.store.UpdateTenant(ctx, tenant); err != nil {
		return nil, err
	}
	a.forgetKeys(tenant.ID)
	return tenant, a.audit(ctx, "tenant.set", t.Name, strings.Join(sortedKeys(t.Set), " "))
}

func (a *admin) suspendTenant(ctx context.Context, t tenantArgs) (any, error) {
	tenant, err := a.store.TenantByName(ctx, t.Name)
	if err != nil {
		return nil, err
	}
	tenant.SuspendedAt = nil
	if t.Suspended {
		now := a.now()
		tenant.SuspendedAt = &now
	}
	if err := a.store.UpdateTenant(ctx, tenant); err != nil {
		return nil, err
	}
	a.forgetKeys(tenant.ID)
	return tenant, a.audit(ctx, "tenant.suspend", t.Name, "")
}

func (a *admin) deleteTenant(ctx context.Context, t tenantArgs) (any, error) {
	tenant, err := a.store.TenantByName(ctx, t.Name)
	if err != nil {
		return nil, err
	}
	if tenant.Name == models.DefaultTenant {
		return nil, models.Errorf(models.CodeConflict, "", "the default tenant cannot be deleted")
	}
	if err := a.store.DeleteTenant(ctx, tenant.ID); err != nil {
		return nil, err
	}
	return tenant, a.audit(ctx, "tenant.delete", t.Name, "")
}

// forgetKeys makes a change of a tenant count at once.
func (a *admin) forgetKeys(tenantID string) {
	if a.keys != nil {
		a.keys.ForgetTenant(tenantID)
	}
}

type keyArgs struct {
	Tenant  string `json:"tenant,omitempty"`
	Name    string `json:"name,omitempty"`
	Scopes  string `json:"scopes,omitempty"` // space or comma separated; "" for all
	Expires string `json:"expires,omitempty"`
	ID      string `json:"id,omitempty"` // an id or a prefix
}

// newKey is what `keys create` prints; the key is never shown again.
type newKey struct {
	Key    string `json:"key"`
	Prefix string `json:"prefix"`
	ID     string `json:"id"`
}

func (a *admin) createKey(ctx context.Context, k keyArgs) (any, error) {
	tenant, err := a.store.TenantByName(ctx, k.Tenant)
	if err != nil {
		return nil, err
	}
	scopes, err := auth.ParseScopes(k.Scopes)
	if err != nil {
		return nil, err
	}
	var expires *time.Time
	if k.Expires != "" {
		d, err := time.ParseDuration(k.Expires)
		if err != nil || d <= 0 {
			return nil, models.FieldErrorf(models.CodeInvalid, "", "expires", "must be a duration such as 720h")
		}
		at := a.now().Add(d)
		expires = &at
	}
	key, made, err := a.mintKey(ctx, tenant.ID, k.Name, scopes, expires)
	if err != nil {
		return nil, err
	}
	return newKey{Key: key, Prefix: made.Prefix, ID: made.ID}, a.audit(ctx, "key.create", made.Prefix, tenant.Name)
}

func (a *admin) mintKey(ctx context.Context, tenantID, name, scopes string, expires *time.Time) (string, models.APIKey, error) {
	key, row := auth.NewKey()
	row.ID, row.TenantID, row.Name, row.Scopes = a.newID(), tenantID, name, scopes
	row.CreatedAt, row.CreatedBy, row.ExpiresAt = a.now(), a.actor, expires
	return key, row, a.store.CreateKey(ctx, row)
}

func (a *admin) listKeys(ctx context.Context, k keyArgs) (any, error) {
	keys, err := a.keysOf(ctx, k.Tenant)
	for i := range keys {
		keys[i].Hash = "" // of no use to a reader
	}
	return keys, err
}

// keysOf are a tenant's keys, or everybody's.
func (a *admin) keysOf(ctx context.Context, tenant string) ([]models.APIKey, error) {
	var tenants []models.Tenant
	var err error
	if tenant == "" {
		tenants, err = a.store.Tenants(ctx)
	} else {
		var t models.Tenant
		t, err = a.store.TenantByName(ctx, tenant)
		tenants = []models.Tenant{t}
	}
	if err != nil {
		return nil, err
	}
	out := []models.APIKey{}
	for _, t := range tenants {
		keys, err := a.store.Keys(ctx, t.ID)
		if err != nil {
			return nil, err
		}
		out = append(out, keys...)
	}
	return out, nil
}

func (a *admin) keyNamed(ctx context.Context, id string) (models.APIKey, error) {
	keys, err := a.keysOf(ctx, "")
	if err != nil {
		return models.APIKey{}, err
	}
	for _, k := range keys {
		if k.ID == id || k.Prefix == id {
			return k, nil
		}
	}
	return models.APIKey{}, models.ErrNotFound("key " + id)
}

func (a *admin) revokeKey(ctx context.Context, k keyArgs) (any, error) {
	key, err := a.keyNamed(ctx, k.ID)
	if err != nil {
		return nil, err
	}
	if err := a.store.RevokeKey(ctx, key.ID, a.now()); err != nil {
		return nil, err
	}
	if a.keys != nil {
		a.keys.Forget(key.Hash)
	}
	key.Hash = ""
	return key, a.audit(ctx, "key.revoke", key.Prefix, "")
}

// rotateKey makes a new key like an old one and revokes the old one.
func (a *admin) rotateKey(ctx context.Context, k keyArgs) (any, error) {
	old, err := a.keyNamed(ctx, k.ID)
	if err != nil {
		return nil, err
	}
	key, made, err := a.mintKey(ctx, old.TenantID, old.Name, old.Scopes, old.ExpiresAt)
	if err != nil {
		return nil, err
	}
	if _, err := a.revokeKey(ctx, keyArgs{ID: old.ID}); err != nil {
		return nil, err
	}
	return newKey{Key: key, Prefix: made.Prefix, ID: made.ID}, nil
}
