package store

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"comfyfleet/models"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// openTest opens an empty database that ends with the test.
func openTest(t testing.TB) *Store {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "comfyfleet.db"))
}

func openAt(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), "sqlite:"+path, Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func addTenant(t testing.TB, s *Store, id string) {
	t.Helper()
	require.NoError(t, s.CreateTenant(t.Context(), models.Tenant{ID: id, Name: id, Weight: 1}))
}

func accept(t testing.TB, s *Store, change ...func(*models.NewJob)) models.Job {
	t.Helper()
	n := models.NewJob{Job: models.Job{TenantID: "t1"}, Payload: models.JobPayload{Graph: []byte("{}")}}
	for _, c := range change {
		c(&n)
	}
	job, _, err := s.AcceptJob(t.Context(), n)
	require.NoError(t, err)
	return job
}
