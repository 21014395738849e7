package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// madeKey is what `keys create --json` prints.
type madeKey struct{ Key, Prefix, ID string }

// newTenant makes a tenant with a key.
func (s *testServer) newTenant(name string) madeKey {
	s.t.Helper()
	_, err := s.run("tenants", "create", name)
	require.NoError(s.t, err)
	var k madeKey
	s.runJSON(&k, "keys", "create", "--tenant", name, "--name", "scenario")
	require.NotEmpty(s.t, k.Key)
	require.True(s.t, strings.HasPrefix(k.Key, k.Prefix))
	return k
}

func TestTenantsSeeNothingOfEachOther(t *testing.T) {
	s := startServer(t)
	id := s.submit(map[string]any{"workflow_id": "text-to-image"})
	job := s.wait(id, patience)
	require.Equal(t, "completed", job.Status, job.Error)
	require.NotEmpty(t, job.Outputs)

	other := s.newTenant("other")
	for _, c := range []struct{ method, path string }{
		{"GET", "/v1/jobs/" + id},
		{"DELETE", "/v1/jobs/" + id},
		{"GET", "/v1/jobs/" + id + "/events"},
		{"GET", "/v1/outputs/" + job.Outputs[0].OutputID},
	} {
		require.Equal(t, 200, s.call("GET", strings.Replace(c.path, "/events", "", 1), testKey, nil).status, "its owner sees %s", c.path)
		theirs := s.call(c.method, c.path, other.Key, nil)
		require.Equal(t, 404, theirs.status, "%s %s: %s", c.method, c.path, theirs.body)
		require.NotContains(t, string(theirs.body), id, "the answer repeats no id")
	}
	var list struct {
		Jobs []jobStatus `json:"jobs"`
	}
	s.call("GET", "/v1/jobs", other.Key, nil).json(t, &list)
	require.Empty(t, list.Jobs)
	s.call("GET", "/v1/jobs", testKey, nil).json(t, &list)
	require.Len(t, list.Jobs, 1)
}

func TestKeysAndTenantsAreCutOffAtOnce(t *testing.T) {
	s := startServer(t)
	k := s.newTenant("brief")
	status := func(key string) int { return s.call("GET", "/v1/jobs", key, nil).status }
	require.Equal(t, 200, status(k.Key))

	_, err := s.run("tenants", "suspend", "brief")
	require.NoError(t, err)
	a := s.call("POST", "/v1/jobs", k.Key, map[string]any{"workflow_id": "text-to-text"})
	require.Equal(t, 403, a.status, "%s", a.body)
	require.Equal(t, "tenant_suspended", a.problem(t).Code)
	_, err = s.run("tenants", "suspend", "brief", "--undo")
	require.NoError(t, err)
	require.Equal(t, 200, status(k.Key))

	var rotated madeKey
	s.runJSON(&rotated, "keys", "rotate", k.Prefix)
	require.Equal(t, 401, status(k.Key), "the old key")
	require.Equal(t, 200, status(rotated.Key))
	_, err = s.run("keys", "revoke", rotated.Prefix)
	require.NoError(t, err)
	require.Equal(t, 401, status(rotated.Key))
	require.Equal(t, 200, status(testKey), "another tenant's key goes on")

	var reader madeKey
	s.runJSON(&reader, "keys", "create", "--tenant", "brief", "--name", "reader", "--scopes", "jobs:read")
	require.Equal(t, 200, status(reader.Key))
	a = s.call("POST", "/v1/jobs", reader.Key, map[string]any{"workflow_id": "text-to-text"})
	require.Equal(t, 403, a.status, "a scope it lacks: %s", a.body)
}

// TestCommandsWorkWithAndWithoutAServer changes tenants through the live server and through the bare database: each side
// sees what the other did.
func TestCommandsWorkWithAndWithoutAServer(t *testing.T) {
	s := newServer(t)
	before := s.newTenant("before")
	s.start()
	require.Equal(t, 200, s.call("GET", "/v1/jobs", before.Key, nil).status, "a key made while nothing ran")
	during := s.newTenant("during")
	require.Equal(t, 200, s.call("GET", "/v1/jobs", during.Key, nil).status)

	_, err := s.run("tenants", "create", "during")
	require.ErrorContains(t, err, "during", "a name that is taken")
	_, err = s.run("keys", "create", "--tenant", "nobody", "--name", "x")
	require.ErrorContains(t, err, "no such tenant")
	_, err = s.run("serve")
	require.ErrorContains(t, err, s.dir, "a second server on the same data")

	copied := filepath.Join(t.TempDir(), "copy.db")
	_, err = s.run("backup", copied)
	require.NoError(t, err)
	info, err := os.Stat(copied)
	require.NoError(t, err)
	require.Positive(t, info.Size())
	out, err := s.run("workers", "list")
	require.NoError(t, err)
	require.Contains(t, out, "sim0")
	s.stop()

	names := func() (names []string) {
		var tenants []struct{ Name string }
		s.runJSON(&tenants, "tenants", "list")
		for _, tenant := range tenants {
			names = append(names, tenant.Name)
		}
		return names
	}
	require.ElementsMatch(t, []string{"default", "before", "during"}, names())
	_, err = s.run("tenants", "delete", "during")
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"default", "before"}, names())
	_, err = s.run("workers", "list")
	require.Error(t, err, "there is nobody to ask")
}

func TestConfigShowsEverySettingAndNoSecret(t *testing.T) {
	s := newServer(t, "COMFYFLEET_METRICS_TOKEN=token-that-nobody-may-read")
	for _, args := range [][]string{{"config"}, {"config", "--json"}} {
		out, err := s.run(args...)
		require.NoError(t, err)
		require.Contains(t, out, s.dir)
		require.Contains(t, out, "environment")
		require.Contains(t, out, "COMFYFLEET_METRICS_TOKEN")
		for _, secret := range []string{testKey, "correct horse battery", "token-that-nobody-may-read"} {
			require.NotContains(t, out, secret)
		}
	}
}
