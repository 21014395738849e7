package web

import (
	"context"
	"fmt"
	"hash/maphash"
	"runtime/debug"
	"sync"
	"time"
)

// lookLimit bounds one look at what a page shows.
const lookLimit = 10 * time.Second

// rendered is a part as it is sent. sum tells whether it changed.
type rendered struct {
	id   string
	html []byte
	sum  uint64
}

// boards are the pages that are the same for all readers of a role. However many look at one, it is looked up and
// rendered once for all of them.
type boards struct {
	mu  sync.Mutex
	all map[string]*board
}

// board is one such page while somebody reads it: its own goroutine keeps it current and wakes its readers.
type board struct {
	stop func()

	mu      sync.Mutex
	readers map[chan struct{}]bool
	parts   []rendered
	err     error
}

// join makes the caller a reader of the board called name, which is opened for the first one with what open answers.
func (b *boards) join(name string, open func() *board) (it *board, wake <-chan struct{}, leave func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	it = b.all[name]
	if it == nil {
		it = open()
		b.all[name] = it
	}
	mine := make(chan struct{}, 1)
	it.mu.Lock()
	it.readers[mine] = true
	it.mu.Unlock()
	return it, mine, sync.OnceFunc(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		it.mu.Lock()
		delete(it.readers, mine)
		last := len(it.readers) == 0
		it.mu.Unlock()
		if last {
			delete(b.all, name)
			it.stop()
		}
	})
}

// latest is the board as it was rendered last: nothing before the first time, which wakes its readers.
func (b *board) latest(context.Context) ([]rendered, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.parts, b.err
}

// show replaces what the board shows and wakes the readers.
func (b *board) show(parts []rendered, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.parts, b.err = parts, err
	for reader := range b.readers {
		select {
		case reader <- struct{}{}:
		default:
		}
	}
}

// openBoard begins to keep a page current.
func (w *Web) openBoard(on watch, look page) *board {
	ctx, cancel := context.WithCancel(w.server.Context())
	wakes, _, stop := w.subscribe(ctx, on)
	b := &board{readers: map[chan struct{}]bool{}, stop: func() { cancel(); stop() }}
	go func() {
		for {
			parts, err := w.guarded(ctx, look)
			if ctx.Err() != nil {
				return
			}
			b.show(parts, err)
			select {
			case <-wakes:
			case <-ctx.Done():
				return
			}
		}
	}()
	return b
}

// guarded is renderAll for the board's own goroutine: a panic is an error of that page and must not end the server.
func (w *Web) guarded(ctx context.Context, look page) (list []rendered, err error) {
	defer func() {
		if p := recover(); p != nil {
			w.Log.Error("panic in a page", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic in a page: %v", p)
		}
	}()
	return w.renderAll(ctx, look)
}

// renderAll looks at a page and renders its parts.
func (w *Web) renderAll(ctx context.Context, look page) (list []rendered, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	parts, err := look(ctx)
	if err != nil {
		return nil, err
	}
	list = make([]rendered, 0, len(parts))
	for _, part := range parts {
		html, err := render(ctx, part.component)
		if err != nil {
			return nil, err
		}
		list = append(list, rendered{part.id, html, maphash.Bytes(w.seed, ticking.ReplaceAll(html, []byte("$1")))})
	}
	return list, nil
}
