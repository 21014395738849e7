package store_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"comfyfleet/models/store"
	"comfyfleet/models/store/storetest"
)

func TestSQLiteConforms(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Opener {
		path := filepath.Join(t.TempDir(), "comfyfleet.db")
		return func(t *testing.T) storetest.Store {
			s, err := store.Open(t.Context(), "sqlite:"+path, store.Options{})
			require.NoError(t, err)
			return s
		}
	})
}
