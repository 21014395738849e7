package storetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

var libraryTests = map[string]func(*testing.T, *bench){
	"versions count up, the same graph makes none": func(t *testing.T, b *bench) {
		w := models.Workflow{Slug: "wan", Title: "Wan", Description: "moves", Bundled: true}
		v := models.WorkflowVersion{Graph: []byte(`{"1":{}}`), Editor: []byte(`{"nodes":[]}`), Params: []byte(`[]`),
			SHA256: "one", CreatedAt: b.now(), CreatedBy: "cli"}
		put := func(want int) {
			t.Helper()
			n, err := b.PutVersion(t.Context(), w, v)
			require.NoError(t, err)
			require.Equal(t, want, n)
		}
		put(1)
		made := v.CreatedAt
		w.Title = "Wan 2"
		put(1)
		got, err := b.Workflow(t.Context(), "", "wan")
		require.NoError(t, err)
		require.Equal(t, "Wan", got.Title, "nothing written")
		v.SHA256, v.CreatedAt = "two", b.now()
		put(2)
		v.SHA256 = "one"
		put(3) // only the newest is compared: going back is a new version
		got, err = b.Workflow(t.Context(), "", "wan")
		require.NoError(t, err)
		require.Equal(t, models.Workflow{Slug: "wan", Title: "Wan 2", Description: "moves", Bundled: true,
			CreatedAt: made, UpdatedAt: v.CreatedAt}, got)
		second, err := b.Version(t.Context(), "wan", 2)
		require.NoError(t, err)
		v.Slug, v.Version, v.SHA256 = "wan", 2, "two"
		require.Equal(t, v, second)
		newest, err := b.Version(t.Context(), "wan", 0)
		require.NoError(t, err)
		require.Equal(t, 3, newest.Version)
		all, err := b.Versions(t.Context(), "wan")
		require.NoError(t, err)
		require.Len(t, all, 3)
		require.Equal(t, newest, all[0])
		_, err = b.Version(t.Context(), "wan", 4)
		requireCode(t, models.CodeNotFound, err)
		_, err = b.Version(t.Context(), "nobody", 0)
		requireCode(t, models.CodeNotFound, err)
	},
	"a private workflow is its tenant's alone": func(t *testing.T, b *bench) {
		for slug, tenant := range map[string]string{"public": "", "mine": b.tenant, "theirs": "tenant-b"} {
			_, err := b.PutVersion(t.Context(), models.Workflow{Slug: slug, TenantID: tenant}, models.WorkflowVersion{Graph: []byte("{}"), SHA256: "x"})
			require.NoError(t, err)
		}
		slugs := func(tenant string) (list []string) {
			ws, err := b.Workflows(t.Context(), tenant)
			require.NoError(t, err)
			for _, w := range ws {
				list = append(list, w.Slug)
			}
			return list
		}
		require.Equal(t, []string{"mine", "public"}, slugs(b.tenant))
		require.Equal(t, []string{"mine", "public", "theirs"}, slugs(""))
		_, err := b.Workflow(t.Context(), b.tenant, "theirs")
		requireCode(t, models.CodeNotFound, err)
		_, err = b.Workflow(t.Context(), b.tenant, "mine")
		require.NoError(t, err)
		for _, slug := range []string{"theirs", "public"} {
			_, err = b.PutVersion(t.Context(), models.Workflow{Slug: slug, TenantID: b.tenant}, models.WorkflowVersion{Graph: []byte("{}"), SHA256: "x"})
			requireCode(t, models.CodeConflict, err)
		}
	},
	"aliases point at versions that exist": func(t *testing.T, b *bench) {
		for _, sha := range []string{"one", "two"} {
			_, err := b.PutVersion(t.Context(), models.Workflow{Slug: "wan"}, models.WorkflowVersion{Graph: []byte("{}"), SHA256: sha})
			require.NoError(t, err)
		}
		at := b.now()
		require.NoError(t, b.SetAlias(t.Context(), "wan", "prod", 1, start))
		require.NoError(t, b.SetAlias(t.Context(), "wan", "prod", 2, at))
		require.NoError(t, b.SetAlias(t.Context(), "wan", "next", 1, at))
		n, err := b.Alias(t.Context(), "wan", "prod")
		require.NoError(t, err)
		require.Equal(t, 2, n)
		list, err := b.Aliases(t.Context(), "wan")
		require.NoError(t, err)
		require.Equal(t, []models.WorkflowAlias{{Slug: "wan", Alias: "next", Version: 1, MovedAt: at},
			{Slug: "wan", Alias: "prod", Version: 2, MovedAt: at}}, list)
		_, err = b.Alias(t.Context(), "wan", "nobody")
		requireCode(t, models.CodeNotFound, err)
		requireCode(t, models.CodeNotFound, b.SetAlias(t.Context(), "wan", "prod", 9, at))
	},
}
