package gpu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// OpenOutput opens a file that a prompt made: from the worker's own directory when it is local, also when its engine
// is down, else over HTTP (size -1 when unknown). Paths that lead out of the directory, by links too, are refused.
func (m *Manager) OpenOutput(ctx context.Context, worker string, f FileRef) (io.ReadCloser, int64, error) {
	w, err := m.find(worker)
	if err != nil {
		return nil, 0, err
	}
	var body io.ReadCloser
	var size int64
	finish := func() {}
	if w.spec.local() {
		body, size, err = openBeneath(w.dirs.of(f.Type), f)
	}
	// Arguments of the operator's own may have moved a local engine's directories.
	if url := w.snap.Load().URL; !w.spec.local() || (errors.Is(err, fs.ErrNotExist) && url != "" && w.snap.Load().State.Up()) {
		engine := m.cfg.NewEngine(url)
		if body, size, err = engine.View(ctx, f); err != nil {
			closeEngine(engine)
		} else {
			finish = func() { closeEngine(engine) }
		}
	}
	if err != nil {
		return nil, 0, fmt.Errorf("open %s of %s: %w", f.Filename, worker, err)
	}
	w.readers.Add(1)
	w.mark()
	return &outputReader{ReadCloser: body, done: sync.OnceFunc(func() {
		finish()
		w.readers.Add(-1)
		w.mark()
	})}, size, nil
}

// OutputStamp tells versions of a local worker's file apart: it changes when the file is written. It is "" where that
// cannot be seen.
func (m *Manager) OutputStamp(worker string, f FileRef) string {
	w := m.byName[worker]
	path := filepath.Join(f.Subfolder, filepath.Base(f.Filename))
	if w == nil || !w.spec.local() || w.dirs.of(f.Type) == "" || !filepath.IsLocal(path) {
		return ""
	}
	info, err := os.Stat(filepath.Join(w.dirs.of(f.Type), path)) // where a link leads does not matter: nothing is read
	if err != nil {
		return ""
	}
	return fmt.Sprint(info.Size(), info.ModTime().UnixNano())
}

// outputReader tells the strip when an output was read.
type outputReader struct {
	io.ReadCloser
	done func()
}

func (r *outputReader) Close() error {
	defer r.done()
	return r.ReadCloser.Close()
}

func openBeneath(dir string, f FileRef) (io.ReadCloser, int64, error) {
	if dir == "" {
		return nil, 0, fmt.Errorf("unknown type %q", f.Type)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, 0, err
	}
	defer root.Close()
	file, err := root.Open(filepath.Join(f.Subfolder, filepath.Base(f.Filename)))
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a file")
	}
	if err != nil {
		file.Close()
		return nil, 0, err
	}
	return file, info.Size(), nil
}

// Forget clears away what an ended attempt left on its worker: the engine's history entry, and on a local worker its
// outputs and the job's input files. What cannot be cleared is logged: it is no reason to fail a job.
func (m *Manager) Forget(ctx context.Context, worker, attemptID, jobID string) {
	w := m.byName[worker]
	if w == nil {
		return
	}
	var s *session
	shared := false // another attempt of the job is on the worker
	w.do(func() {
		s = w.sess
		for _, x := range w.runs {
			shared = shared || x.task.JobID == jobID
		}
	})
	if s != nil {
		call, cancel := s.call()
		defer context.AfterFunc(ctx, cancel)()
		if err := s.engine.Forget(call, attemptID); err != nil {
			w.log.Debug("forget a prompt's history", "attempt", attemptID, "error", err)
		}
		cancel()
	}
	if !w.spec.local() {
		return
	}
	if err := removeBeneath(w.dirs.output, attemptID); err != nil {
		w.log.Warn("remove a prompt's outputs", "attempt", attemptID, "error", err)
	}
	if shared {
		return
	}
	if err := removeBeneath(w.dirs.input, jobID); err != nil {
		w.log.Warn("remove a job's input files", "job", jobID, "error", err)
	}
}

// removeBeneath deletes dir/name with all that is in it. name is an id of ours, and nothing else is ever deleted.
func removeBeneath(dir, name string) error {
	if name == "" || name != filepath.Base(name) || name == "." || name == ".." {
		return fmt.Errorf("%q is no id", name)
	}
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	return root.RemoveAll(name)
}

// attachedFile is what is kept about an attached engine, so that the next server hears the events of its prompts.
type attachedFile struct {
	URL      string `json:"url"`
	ClientID string `json:"client_id"`
}

// attachedClientID reads the client id under which an earlier server sent its prompts to this engine, or makes one.
func (m *Manager) attachedClientID(s Spec, d dirs) string {
	path := d.root + ".json"
	var f attachedFile
	raw, err := os.ReadFile(path)
	if err == nil && json.Unmarshal(raw, &f) == nil && f.URL == s.URL && f.ClientID != "" {
		return f.ClientID
	}
	f = attachedFile{URL: s.URL, ClientID: m.cfg.NewID()}
	if err := writeAttached(path, f); err != nil {
		m.cfg.Log.Warn("keep the client id of an attached worker", "worker", s.Name, "error", err)
	}
	return f.ClientID
}

func writeAttached(path string, f attachedFile) error {
	raw, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", raw, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
