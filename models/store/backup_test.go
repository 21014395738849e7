package store

import (
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

func TestABackupTakenDuringWritesIsADatabase(t *testing.T) {
	s := openTest(t)
	addTenant(t, s, "t1")
	before := accept(t, s)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				accept(t, s)
			}
		}
	})
	path := filepath.Join(t.TempDir(), "copy.db")
	err := s.Backup(t.Context(), path)
	close(stop)
	wg.Wait()
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	require.NoFileExists(t, path+".partial")

	restored := openAt(t, path)
	got, err := restored.Job(t.Context(), "t1", before.ID)
	require.NoError(t, err)
	require.Equal(t, before, got)
	require.NoError(t, restored.VerifyCounters(t.Context()))
	require.Greater(t, accept(t, restored).Seq, before.Seq)
}

func TestABackupOverwritesNothing(t *testing.T) {
	s := openTest(t)
	path := filepath.Join(t.TempDir(), "copy.db")
	require.NoError(t, os.WriteFile(path, []byte("mine"), 0o600))
	require.ErrorIs(t, s.Backup(t.Context(), path), fs.ErrExist)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "mine", string(b))
	require.Error(t, s.Backup(t.Context(), filepath.Join(t.TempDir(), "no", "dir.db")))
}

func TestCountersThatDriftAreFound(t *testing.T) {
	s := openTest(t)
	addTenant(t, s, "t1")
	accept(t, s)
	require.NoError(t, s.VerifyCounters(t.Context()))
	for _, drift := range []string{"UPDATE tenant_load SET queued = 2", "DELETE FROM tenant_load",
		"INSERT INTO tenant_load VALUES ('t1', 1, 1)"} {
		require.NoError(t, s.writer.exec(drift))
		require.ErrorContains(t, s.VerifyCounters(t.Context()), "t1", drift)
	}
	_, _, err := s.AcceptJob(t.Context(), models.NewJob{Job: models.Job{TenantID: "t1"}, MaxQueuedTenant: 1})
	require.Equal(t, models.CodeLimited, models.ErrorCode(err))
}
