package sim

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Server is one simulated ComfyUI process.
type Server struct {
	opts    Options
	dirs    dirs
	classes catalogue
	faults  *faults
	hub     *hub
	memory  *memory
	cache   *cache
	journal *journal
	log     *logger
	mux     http.Handler

	ctx    context.Context // of the worker and the publisher
	cancel context.CancelFunc
	done   sync.WaitGroup
	worker chan struct{} // closed when the worker thread has ended
	deaf   chan struct{} // closed when a fault says that nothing is heard any more
	wake   chan struct{} // holds one token when the worker has something to look at

	interrupt atomic.Bool

	mu       sync.Mutex
	counter  int64 // of numbers, also of refused prompts
	pending  heapQueue
	running  *item
	history  *history
	free     freeRequest
	lastNode string               // display node that executes
	counts   map[string]int       // how often a node with a times input has acted
	prefixes map[[2]string]string // random temp prefix per node id and class
	poisoned bool                 // the CUDA context is broken
}

// freeRequest is what POST /free asked for, applied between prompts.
type freeRequest struct{ models, memory bool }

// New creates the directories, opens the journal and starts the worker and the publisher. Close ends them.
func New(o Options) (*Server, error) {
	o.fill()
	d, err := o.makeDirs()
	if err != nil {
		return nil, err
	}
	j, err := openJournal(o.Journal)
	if err != nil {
		return nil, err
	}
	s := &Server{
		opts: o, dirs: d, classes: newCatalogue(o.TestNodes), faults: newFaults(o.Faults), journal: j, history: newHistory(),
		memory: newMemory(o.VRAM), cache: newCache(o.Cache, o.CacheEntries), log: newLogger(o.Log),
		wake: make(chan struct{}, 1), worker: make(chan struct{}), deaf: make(chan struct{}), counts: map[string]int{}, prefixes: map[[2]string]string{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.hub = newHub(s.faults, s.publisherDied)
	s.mux = s.routes()
	s.done.Go(func() { s.hub.publish(s.ctx) })
	s.done.Go(func() {
		defer close(s.worker)
		s.work()
	})
	return s, nil
}

// Handler serves HTTP and the WebSocket.
func (s *Server) Handler() http.Handler { return s.mux }

// OutputDir is where saved files go.
func (s *Server) OutputDir() string { return s.dirs.output }

// InputDir is where uploads go.
func (s *Server) InputDir() string { return s.dirs.input }

// Close ends the worker without waiting for its prompt's nodes, cuts the sockets and removes temp, and the base
// directory if it was temporary.
func (s *Server) Close() error {
	s.cancel()
	s.hub.closeAll()
	s.done.Wait()
	errs := []error{s.journal.close(), os.RemoveAll(s.dirs.temp)}
	if s.dirs.owned {
		errs = append(errs, os.RemoveAll(s.dirs.base))
	}
	return errors.Join(errs...)
}

// publisherDied ends the process as an unhandled exception of the event loop does.
func (s *Server) publisherDied(text string) {
	s.log.error("Traceback (most recent call last):\n%s", text)
	s.opts.Die("exit", 1)
}

// send publishes a text event to a client id, or to all for "".
func (s *Server) send(kind string, data any, to string) {
	s.hub.send(s.ctx, event{kind: kind, data: data, to: to})
}

// sendStatus tells everybody the length of the queue.
func (s *Server) sendStatus() {
	s.send("status", map[string]any{"status": s.queueInfo()}, "")
}

func (s *Server) queueInfo() map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return map[string]any{"exec_info": map[string]any{"queue_remaining": s.remaining()}}
}

// remaining counts waiting and running prompts. The caller holds mu.
func (s *Server) remaining() int {
	n := len(s.pending)
	if s.running != nil {
		n++
	}
	return n
}

// runningNode is the display node that executes for a client, "" when its prompt does not run.
func (s *Server) runningNode(clientID string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil || s.running.clientID != clientID {
		return ""
	}
	return s.lastNode
}

// poke wakes the worker.
func (s *Server) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// scaled is a simulated duration at this server's speed.
func (s *Server) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) / s.opts.Speed)
}

// block sleeps as a node does that hears no interrupt: only the server's end cuts it short.
func (s *Server) block(d time.Duration) error {
	pause(s.ctx, d)
	return s.closed()
}

func (s *Server) closed() error {
	if s.ctx.Err() != nil {
		return errClosed
	}
	return nil
}

// options are the current values of a list input.
func (s *Server) options(in Input) []string {
	switch in.Folder {
	case "":
		return in.Options
	case "input":
		return listFiles(s.dirs.input)
	}
	return s.modelFiles(in.Folder)
}

// definitions is /object_info of some classes.
func (s *Server) definitions(names []string) ordered {
	out := ordered{}
	for _, name := range names {
		if c := s.classes[name]; c != nil {
			out = append(out, field{name, c.definition(s.options)})
		}
	}
	return out
}

// limited counts an action of a node whose times input bounds it: true while the action is still due.
func (s *Server) limited(key string, times int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[key]++
	return times <= 0 || s.counts[key] <= times
}

// limitedForGood is limited over all processes of the same base directory, one after the other: a byte for each action.
func (s *Server) limitedForGood(key string, times int) bool {
	f, err := os.OpenFile(filepath.Join(s.dirs.user, ".sim-count-"+hex.EncodeToString([]byte(key))), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		s.log.error("count: %v", err)
		return true
	}
	defer f.Close()
	_, err = f.Write([]byte{'.'})
	info, statErr := f.Stat()
	if err = errors.Join(err, statErr); err != nil {
		s.log.error("count: %v", err)
		return true
	}
	return times <= 0 || info.Size() <= int64(times)
}

// tempPrefix is the random prefix that a preview node keeps for its life.
func (s *Server) tempPrefix(id, class string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := [2]string{id, class}
	if len(s.prefixes) > maxHistory {
		maps.DeleteFunc(s.prefixes, func([2]string, string) bool { return true })
	}
	if s.prefixes[key] == "" {
		letters := make([]byte, 5)
		for i := range letters {
			letters[i] = byte('a' + rand.IntN(26))
		}
		s.prefixes[key] = "ComfyUI_temp_" + string(letters)
	}
	return s.prefixes[key]
}

// faultOnce reports whether a fault is set and acts for the first time in the base directory.
func (s *Server) faultOnce(name string) (bool, error) {
	if !s.faults.has(name) {
		return false, nil
	}
	return s.once(name)
}

// once creates a marker file in the user directory: true only for the first process of the same directory.
func (s *Server) once(name string) (bool, error) {
	f, err := os.OpenFile(filepath.Join(s.dirs.user, ".sim-once-"+hex.EncodeToString([]byte(name))), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, os.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("marker: %w", err)
	}
	return true, f.Close()
}
