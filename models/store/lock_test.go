package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestADirectoryHasOneHolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	release, err := LockDir(dir)
	require.NoError(t, err)
	_, err = LockDir(dir)
	var locked *LockedError
	require.True(t, errors.As(err, &locked))
	require.Equal(t, os.Getpid(), locked.PID)
	require.ErrorContains(t, err, dir)
	require.NoError(t, release())
	release, err = LockDir(dir)
	require.NoError(t, err)
	require.NoError(t, release())
}

func TestALockFileLeftBehindHoldsNothing(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, lockName), []byte("1234567\n"), 0o600))
	release, err := LockDir(dir)
	require.NoError(t, err)
	require.NoError(t, release())
}
