package storage

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

func TestFullDiskIsSaidPlainly(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), "file:"+dir)
	require.NoError(t, err)
	defer s.Close()
	id := uuid.NewString()
	w, err := s.Create(t.Context(), id)
	require.NoError(t, err)
	defer w.Abort()
	// The writer's own file descriptor now leads to a device that is really full.
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	require.NoError(t, err)
	defer full.Close()
	require.NoError(t, syscall.Dup3(int(full.Fd()), int(w.file.Fd()), syscall.O_CLOEXEC))

	_, err = w.Write([]byte("does not fit"))
	assert.Equal(t, models.CodeFull, models.ErrorCode(err))
	w.Abort()
	left, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}
