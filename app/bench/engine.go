package main

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/google/uuid"

	"comfyfleet/gpu"
	"comfyfleet/gpu/comfy"
)

// engine is a simulator spoken to straight, as a program without us in between would.
type engine struct {
	client *comfy.Client
	id     string
	cancel context.CancelFunc
	ended  chan struct{} // the watch has ended
	// connected is closed when the socket is open: what ends before that is not heard of.
	connected chan struct{}
	once      sync.Once

	mu      sync.Mutex
	waiting map[string]chan struct{} // by prompt, closed at its end
}

func newEngine(c *comfy.Client) *engine {
	ctx, cancel := context.WithCancel(context.Background())
	e := &engine{client: c, id: uuid.NewString(), cancel: cancel, ended: make(chan struct{}), connected: make(chan struct{}), waiting: map[string]chan struct{}{}}
	go func() {
		defer close(e.ended)
		_ = c.Watch(ctx, e.id, e.hear)
	}()
	return e
}

func (e *engine) close() error {
	e.cancel()
	<-e.ended
	return e.client.Close()
}

func (e *engine) hear(event gpu.Event) {
	if event.Kind == gpu.EventConnected {
		e.once.Do(func() { close(e.connected) })
	}
	if event.Kind != gpu.EventEnd {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if end, ok := e.waiting[event.PromptID]; ok {
		close(end)
		delete(e.waiting, event.PromptID)
	}
}

// submit queues a graph; end is closed when the engine says that it is done (executing without a node).
func (e *engine) submit(ctx context.Context, graph []byte) (end <-chan struct{}, err error) {
	id, ch := uuid.NewString(), make(chan struct{})
	e.mu.Lock()
	e.waiting[id] = ch
	e.mu.Unlock()
	return ch, e.client.Submit(ctx, gpu.Prompt{ID: id, ClientID: e.id, Graph: graph})
}

// run is submit and the wait for the end.
func (e *engine) run(ctx context.Context, graph []byte) error {
	end, err := e.submit(ctx, graph)
	if err != nil {
		return err
	}
	return within(ctx, end, 30*time.Second)
}

func within(ctx context.Context, end <-chan struct{}, limit time.Duration) error {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-end:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return fmt.Errorf("nothing heard for %s", limit)
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}
