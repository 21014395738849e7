package storage

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
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
	require.NoError(t, syscall.Dup3(int(full.Fd()), descriptorBelow(t, dir), syscall.O_CLOEXEC))

	_, err = w.Write([]byte("does not fit"))
	assert.Equal(t, models.CodeFull, models.ErrorCode(err))
	w.Abort()
	left, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

// descriptorBelow is this process's one open file in a directory.
func descriptorBelow(t *testing.T, dir string) int {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, fd := range open {
		path, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if err == nil && strings.HasPrefix(path, dir+"/") {
			n, err := strconv.Atoi(fd.Name())
			require.NoError(t, err)
			return n
		}
	}
	t.Fatal("no file is open in " + dir)
	return -1
}
