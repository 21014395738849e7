package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// directory is a local store's directory.
type directory struct{ path string }

// shards is how many directories the blobs are spread over.
const shards = 256

func shardName(n int) string { return fmt.Sprintf("%02x", n) }

// openDirectory makes every shard's directory, so that it outlives a power loss together with what is put into it. One
// sync for all of them at the start saves one for each among the first outputs.
func openDirectory(path string) (*directory, error) {
	for n := range shards {
		if err := os.Mkdir(filepath.Join(path, shardName(n)), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	// Also when they were there already: who made them may have crashed before the sync.
	return &directory{path: path}, syncFile(path)
}

// sync puts a file, and then its shard's entries, on the disk.
func (d *directory) sync(key, shard string) error {
	if err := syncFile(filepath.Join(d.path, filepath.FromSlash(key))); err != nil {
		return err
	}
	return syncFile(filepath.Join(d.path, shard))
}

// syncFile puts a file or directory on the disk, whoever wrote to it.
func syncFile(path string) error {
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
