package storetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

var peopleTests = map[string]func(*testing.T, *bench){
	"tenants are made, found, changed and listed": func(t *testing.T, b *bench) {
		acme := models.Tenant{ID: "t2", Name: "acme", CreatedAt: start, Weight: 3, MaxRunning: 2, MaxQueued: 9,
			RateSubmit: -1, RateStatus: 5, RateManage: 6, WebhookSecret: "whsec_a", WebhookSecretPrevious: "whsec_b",
			WebhookSecretUntil: ptr(start.Add(time.Hour)), LibraryOnly: true, AllowClasses: "A\nB", DenyClasses: "C"}
		require.NoError(t, b.CreateTenant(t.Context(), acme))
		got, err := b.Tenant(t.Context(), "t2")
		require.NoError(t, err)
		require.Equal(t, acme, got)
		got, err = b.TenantByName(t.Context(), "acme")
		require.NoError(t, err)
		require.Equal(t, acme, got)
		acme.LibraryOnly, acme.MaxQueued, acme.WebhookSecretUntil, acme.SuspendedAt = false, 0, nil, ptr(start)
		require.NoError(t, b.UpdateTenant(t.Context(), acme))
		got, err = b.Tenant(t.Context(), "t2")
		require.NoError(t, err)
		require.Equal(t, acme, got, "zero values are stored too")
		acme.WebhooksDisabledAt = ptr(start)
		require.NoError(t, b.DisableWebhooks(t.Context(), "t2", start))
		require.NoError(t, b.DisableWebhooks(t.Context(), "t2", start.Add(time.Hour)))
		got, err = b.Tenant(t.Context(), "t2")
		require.NoError(t, err)
		require.Equal(t, acme, got, "since the first time, and nothing else changes")
		requireCode(t, models.CodeNotFound, b.DisableWebhooks(t.Context(), "nobody", start))
		list, err := b.Tenants(t.Context())
		require.NoError(t, err)
		require.Len(t, list, 2)
		require.Equal(t, "acme", list[0].Name)
		requireCode(t, models.CodeConflict, b.CreateTenant(t.Context(), models.Tenant{ID: "t3", Name: "acme"}))
		acme.Name = b.tenant
		requireCode(t, models.CodeConflict, b.UpdateTenant(t.Context(), acme))
		_, err = b.Tenant(t.Context(), "nobody")
		requireCode(t, models.CodeNotFound, err)
		_, err = b.TenantByName(t.Context(), "nobody")
		requireCode(t, models.CodeNotFound, err)
		requireCode(t, models.CodeNotFound, b.UpdateTenant(t.Context(), models.Tenant{ID: "nobody"}))
	},
	"a tenant with jobs is not deleted, one without goes with its keys and workflows": func(t *testing.T, b *bench) {
		job := b.accept(t)
		b.succeed(t, job.ID)
		requireCode(t, models.CodeConflict, b.DeleteTenant(t.Context(), b.tenant))
		_, _, err := b.SweepJobs(t.Context(), b.now(), 10)
		require.NoError(t, err)
		require.NoError(t, b.CreateKey(t.Context(), models.APIKey{ID: "k", TenantID: b.tenant, Hash: "h", CreatedAt: start}))
		_, err = b.PutVersion(t.Context(), models.Workflow{Slug: "own", TenantID: b.tenant}, models.WorkflowVersion{Graph: []byte("{}")})
		require.NoError(t, err)
		require.NoError(t, b.DeleteTenant(t.Context(), b.tenant))
		_, err = b.Key(t.Context(), "k")
		requireCode(t, models.CodeNotFound, err)
		_, err = b.Workflow(t.Context(), "", "own")
		requireCode(t, models.CodeNotFound, err)
		requireCode(t, models.CodeNotFound, b.DeleteTenant(t.Context(), b.tenant))
	},
	"keys are found by hash with their tenant": func(t *testing.T, b *bench) {
		k := models.APIKey{ID: "k1", TenantID: b.tenant, Name: "ci", Prefix: "cfk_abcdefgh", Hash: "hash1",
			Scopes: "jobs:read", CreatedAt: start, CreatedBy: "cli", ExpiresAt: ptr(start.Add(time.Hour))}
		require.NoError(t, b.CreateKey(t.Context(), k))
		got, tenant, err := b.KeyByHash(t.Context(), "hash1")
		require.NoError(t, err)
		require.Equal(t, k, got)
		require.Equal(t, b.tenant, tenant.ID)
		_, _, err = b.KeyByHash(t.Context(), "nobody")
		requireCode(t, models.CodeNotFound, err)
		requireCode(t, models.CodeConflict, b.CreateKey(t.Context(), models.APIKey{ID: "k2", TenantID: b.tenant, Hash: "hash1"}))
		list, err := b.Keys(t.Context(), b.tenant)
		require.NoError(t, err)
		require.Equal(t, []models.APIKey{k}, list)
		list, err = b.Keys(t.Context(), "")
		require.NoError(t, err)
		require.Len(t, list, 1)
	},
	"the first revocation stands": func(t *testing.T, b *bench) {
		require.NoError(t, b.CreateKey(t.Context(), models.APIKey{ID: "k1", TenantID: b.tenant, Hash: "h", CreatedAt: start}))
		at := b.now()
		require.NoError(t, b.RevokeKey(t.Context(), "k1", at))
		require.NoError(t, b.RevokeKey(t.Context(), "k1", b.now()))
		got, err := b.Key(t.Context(), "k1")
		require.NoError(t, err)
		require.Equal(t, at, *got.RevokedAt)
		requireCode(t, models.CodeNotFound, b.RevokeKey(t.Context(), "nobody", at))
	},
	"the latest use of a key stands": func(t *testing.T, b *bench) {
		require.NoError(t, b.CreateKey(t.Context(), models.APIKey{ID: "k1", TenantID: b.tenant, Hash: "h", CreatedAt: start}))
		early, late := b.now(), b.now()
		require.NoError(t, b.TouchKeys(t.Context(), map[string]models.KeyUse{"k1": {At: late, IP: "::1"}, "nobody": {At: late}}))
		require.NoError(t, b.TouchKeys(t.Context(), map[string]models.KeyUse{"k1": {At: early, IP: "::2"}}))
		require.NoError(t, b.TouchKeys(t.Context(), nil))
		got, err := b.Key(t.Context(), "k1")
		require.NoError(t, err)
		require.Equal(t, late, *got.LastUsedAt)
		require.Equal(t, "::1", got.LastUsedIP)
	},
	"operators are made, found, changed and listed": func(t *testing.T, b *bench) {
		o := models.Operator{ID: "o1", Email: "a@example.org", PasswordHash: "x", Role: models.RoleAdmin, CreatedAt: start}
		require.NoError(t, b.CreateOperator(t.Context(), o))
		got, err := b.OperatorByEmail(t.Context(), o.Email)
		require.NoError(t, err)
		require.Equal(t, o, got)
		requireCode(t, models.CodeConflict, b.CreateOperator(t.Context(), models.Operator{ID: "o2", Email: o.Email}))
		o.Role, o.DisabledAt, o.LastSignInAt = models.RoleViewer, ptr(start), ptr(start)
		require.NoError(t, b.UpdateOperator(t.Context(), o))
		got, err = b.Operator(t.Context(), "o1")
		require.NoError(t, err)
		require.Equal(t, o, got)
		list, err := b.Operators(t.Context())
		require.NoError(t, err)
		require.Equal(t, []models.Operator{o}, list)
		_, err = b.OperatorByEmail(t.Context(), "nobody")
		requireCode(t, models.CodeNotFound, err)
		_, err = b.Operator(t.Context(), "nobody")
		requireCode(t, models.CodeNotFound, err)
		requireCode(t, models.CodeNotFound, b.UpdateOperator(t.Context(), models.Operator{ID: "nobody"}))
	},
	"sessions are found with their operator, touched and ended": func(t *testing.T, b *bench) {
		require.NoError(t, b.CreateOperator(t.Context(), models.Operator{ID: "o1", Email: "a@example.org", Role: models.RoleAdmin, CreatedAt: start}))
		session := func(hash string, life time.Duration) models.Session {
			at := b.now()
			return models.Session{Hash: hash, OperatorID: "o1", CSRF: "c", CreatedAt: at, SeenAt: at, ExpiresAt: at.Add(life), IP: "::1", UserAgent: "test"}
		}
		first := session("s1", time.Hour)
		require.NoError(t, b.CreateSession(t.Context(), first))
		got, o, err := b.SessionByHash(t.Context(), "s1")
		require.NoError(t, err)
		require.Equal(t, first, got)
		require.Equal(t, "a@example.org", o.Email)
		late := b.now()
		require.NoError(t, b.TouchSession(t.Context(), "s1", late))
		require.NoError(t, b.TouchSession(t.Context(), "s1", start))
		got, _, err = b.SessionByHash(t.Context(), "s1")
		require.NoError(t, err)
		require.Equal(t, late, got.SeenAt)

		require.NoError(t, b.CreateSession(t.Context(), session("s2", time.Millisecond)))
		require.NoError(t, b.CreateSession(t.Context(), session("s3", time.Hour)))
		_, _, err = b.SessionByHash(t.Context(), "s2")
		requireCode(t, models.CodeNotFound, err)
		require.NoError(t, b.DeleteSession(t.Context(), "s1"))
		require.NoError(t, b.DeleteSession(t.Context(), "s1"))
		_, _, err = b.SessionByHash(t.Context(), "s1")
		requireCode(t, models.CodeNotFound, err)
		require.NoError(t, b.DeleteSessions(t.Context(), "o1"))
		_, _, err = b.SessionByHash(t.Context(), "s3")
		requireCode(t, models.CodeNotFound, err)
	},
	"the audit log reads backwards in pages": func(t *testing.T, b *bench) {
		for i := range 5 {
			require.NoError(t, b.Audit(t.Context(), models.AuditEntry{At: start.Add(time.Duration(i)), Actor: "cli",
				Action: "worker.drain", Target: "gpu0", Detail: "d", IP: "::1"}))
		}
		first, err := b.AuditLog(t.Context(), 0, 3)
		require.NoError(t, err)
		require.Len(t, first, 3)
		require.Greater(t, first[0].Seq, first[1].Seq)
		require.Equal(t, "worker.drain", first[0].Action)
		rest, err := b.AuditLog(t.Context(), first[2].Seq, 10)
		require.NoError(t, err)
		require.Len(t, rest, 2)
		require.Less(t, rest[0].Seq, first[2].Seq)
	},
}
