package proc

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	stateVersion = 1
	exitSuffix   = ".exit"
	lockSuffix   = ".lock"
)

// state is what the state file says.
type state struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
	BootID  string `json:"boot_id"`
	// Shim is zero for a direct child. Worker is zero between the shim's start and the worker's.
	Shim      identity          `json:"shim"`
	Worker    identity          `json:"worker"`
	StartedAt time.Time         `json:"started_at"`
	Port      int               `json:"port"`
	Argv      []string          `json:"argv"`
	Meta      map[string]string `json:"meta,omitempty"`
}

func newState(s Spec) (state, error) {
	boot, err := bootID()
	if err != nil {
		return state{}, err
	}
	return state{Version: stateVersion, Name: s.Name, BootID: boot, StartedAt: time.Now().UTC(),
		Port: s.Port, Argv: s.Argv, Meta: s.Meta}, nil
}

// session of the processes that the state names.
func (st state) session() session {
	if st.Shim.PID != 0 {
		return session{leader: st.Shim, spare: st.Shim.PID}
	}
	return session{leader: st.Worker}
}

// loadState reads a state file. ok is false when there is none, or one that belongs to an earlier boot or that nobody
// can read: none of its processes can be alive, or be found.
func loadState(path string) (st state, ok bool, err error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return state{}, false, nil
	}
	if err != nil {
		return state{}, false, fmt.Errorf("read the state file: %w", err)
	}
	if err := json.Unmarshal(raw, &st); err != nil || st.Version != stateVersion {
		return state{}, false, nil
	}
	boot, err := bootID()
	if err != nil {
		return state{}, false, err
	}
	return st, st.BootID == boot, nil
}

// exitRecord is what the shim leaves behind.
type exitRecord struct {
	BootID string   `json:"boot_id"`
	Worker identity `json:"worker"`
	Exit   Exit     `json:"exit"`
}

// loadExit reads how the worker of st ended, if its shim wrote it down.
func loadExit(path string, st state) (Exit, bool) {
	raw, err := os.ReadFile(path + exitSuffix)
	if err != nil {
		return Exit{}, false
	}
	var r exitRecord
	if json.Unmarshal(raw, &r) != nil || r.BootID != st.BootID || r.Worker != st.Worker {
		return Exit{}, false
	}
	return r.Exit, true
}

// forget removes what is known about a process that is over.
func forget(path string) error {
	return errors.Join(remove(path), remove(path+exitSuffix))
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// writeJSON replaces a file by temporary file, fsync and rename, mode 0600: a reader sees the old or the new one.
func writeJSON(path string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // CreateTemp makes it 0600
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}
