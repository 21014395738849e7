package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// directory is a local store's directory, and what of it is known to be on the disk.
type directory struct {
	path string

	mu sync.Mutex
	// durable marks the shards whose own entry was synced.
	durable map[string]bool
}

// ensure makes a shard's directory, so that it outlives a power loss together with what is put into it.
func (d *directory) ensure(shard string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.durable[shard] {
		return nil
	}
	if err := os.Mkdir(filepath.Join(d.path, shard), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// Also when it was there already: who made it may have crashed before the sync.
	if err := syncDirectory(d.path); err != nil {
		return err
	}
	if d.durable == nil {
		d.durable = map[string]bool{}
	}
	d.durable[shard] = true
	return nil
}

// sync puts a shard's entries on the disk.
func (d *directory) sync(shard string) error {
	return syncDirectory(filepath.Join(d.path, shard))
}

func syncDirectory(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}

// isLeftover reports whether key is a temporary file of the local driver: "<shard>/<id>.<hex time>.tmp".
func isLeftover(key string) bool {
	shard, name, ok := strings.Cut(key, "/")
	return ok && len(name) > idLength && idOf(shard+"/"+name[:idLength]) != "" && strings.HasSuffix(name, ".tmp")
}
