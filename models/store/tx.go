package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"

	"gorm.io/gorm"

	"comfyfleet/models"
)

const (
	// maxBatch bounds how many writes share a commit, and so how long the first of them waits.
	maxBatch = 64
	// maxPending bounds writes that wait for the writer; more wait outside, under their own context.
	maxPending = 256
)

// errClosed is what a write answers once Close began.
var errClosed = &models.Error{Code: models.CodeUnavailable, Name: "database_closed", Detail: "the server is stopping"}

// operation is one caller's write. do must be pure: it may touch only tx, set (never add to) what its caller captured,
// and give the same result when it is run again, because a batch is replayed without a member that broke it.
type operation struct {
	ctx  context.Context
	do   func(tx *gorm.DB) error
	done chan error // has room for the one answer
}

// writer commits together what arrives together. A caller that finds it idle commits by itself, without a change of
// goroutine. What arrives meanwhile waits for the loop, which takes what is there into one commit; there is no timer, so
// waiting is for commits before one's own and nothing else.
type writer struct {
	conn *sql.Conn // the one that writes
	db   *gorm.DB  // over conn
	log  *slog.Logger
	// turn is held during a commit: there is one connection.
	turn sync.Mutex

	mu     sync.RWMutex // held for reading while sending, so that in is never closed under a sender
	closed bool
	in     chan *operation
	ended  chan struct{}
}

// startWriter takes the connection that writes.
func (s *Store) startWriter(ctx context.Context) (*writer, error) {
	conn, err := s.writes.Conn(ctx)
	if err != nil {
		return nil, err
	}
	db, err := s.gorm(conn)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	w := &writer{conn: conn, db: db, log: s.log, in: make(chan *operation, maxPending), ended: make(chan struct{})}
	go w.loop()
	return w, nil
}

// stop lets accepted operations finish, ends the loop and gives the connection back.
func (w *writer) stop() error {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.in)
	}
	w.mu.Unlock()
	<-w.ended
	return w.conn.Close()
}

// write runs do in a transaction and answers after its commit. A ctx that ends while the operation still waits for its
// turn cancels it; one that ends later changes nothing, so the answer is never in doubt.
func (s *Store) write(ctx context.Context, what, noun string, do func(tx *gorm.DB) error) error {
	return translate(s.writer.run(ctx, do), what, noun)
}

func (w *writer) run(ctx context.Context, do func(tx *gorm.DB) error) error {
	op := &operation{ctx: ctx, do: do, done: make(chan error, 1)}
	if err := w.take(op); err != nil {
		return err
	}
	return <-op.done // bounded: the writer answers every operation it took
}

// take commits op when nothing else is to be committed, and otherwise puts it before the loop.
func (w *writer) take(op *operation) error {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return errClosed
	}
	if len(w.in) == 0 && w.turn.TryLock() {
		defer w.turn.Unlock()
		w.commit(w.wanted([]*operation{op}))
		return nil
	}
	select {
	case w.in <- op:
		return nil
	case <-op.ctx.Done():
		return fmt.Errorf("wait for the database writer: %w", context.Cause(op.ctx))
	}
}

// idle reports whether nothing is being committed or waits to be. It may be otherwise a moment later.
func (w *writer) idle() bool {
	if len(w.in) > 0 || !w.turn.TryLock() {
		return false
	}
	w.turn.Unlock()
	return true
}

func (w *writer) loop() {
	defer close(w.ended)
	batch := make([]*operation, 0, maxBatch)
	for first := range w.in {
		w.turn.Lock()
		batch = append(batch[:0], first)
		batch = w.fill(batch)
		w.commit(w.wanted(batch))
		w.turn.Unlock()
	}
}

// fill adds what is waiting already.
func (w *writer) fill(batch []*operation) []*operation {
	for len(batch) < maxBatch {
		select {
		case op, ok := <-w.in:
			if !ok {
				return batch
			}
			batch = append(batch, op)
		default:
			return batch
		}
	}
	return batch
}

// wanted answers and drops operations whose callers gave up before their turn.
func (w *writer) wanted(batch []*operation) []*operation {
	return slices.DeleteFunc(batch, func(op *operation) bool {
		if op.ctx.Err() == nil {
			return false
		}
		op.done <- fmt.Errorf("wait for the database writer: %w", context.Cause(op.ctx))
		return true
	})
}

// commit runs a batch and answers each member. A member that broke the transaction itself gets its error, and the
// others run again without it.
func (w *writer) commit(batch []*operation) {
	for len(batch) > 0 {
		errs := make([]error, len(batch))
		err := w.attempt(batch, errs)
		var broken *brokenError
		if errors.As(err, &broken) {
			batch[broken.member].done <- broken.err
			batch = slices.Delete(batch, broken.member, broken.member+1)
			continue
		}
		for i, op := range batch {
			if err != nil {
				op.done <- err // nothing of the batch was committed
				continue
			}
			op.done <- errs[i]
		}
		return
	}
}

// brokenError says that a member's failure took the whole transaction with it; SQLite does that on a full disk.
type brokenError struct {
	member int
	err    error
}

func (e *brokenError) Error() string { return e.err.Error() }

// attempt runs the batch in one transaction, each member in a savepoint, and commits. A member that is alone needs none:
// its error takes back the transaction. Panics are errors: the writer must outlive them.
func (w *writer) attempt(batch []*operation, errs []error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = w.panicked(p)
		}
	}()
	if len(batch) == 1 {
		return w.transaction(func() error { return w.guarded(batch[0]) })
	}
	return w.transaction(func() error {
		for i, op := range batch {
			if err := w.exec("SAVEPOINT member"); err != nil {
				return err
			}
			errs[i] = w.guarded(op)
			if errs[i] != nil {
				if err := w.exec("ROLLBACK TO SAVEPOINT member"); err != nil {
					return &brokenError{i, errors.Join(errs[i], err)}
				}
			}
			if err := w.exec("RELEASE SAVEPOINT member"); err != nil {
				return &brokenError{i, errors.Join(errs[i], err)}
			}
		}
		return nil
	})
}

// transaction runs do between BEGIN and COMMIT, or takes back what it did. database/sql's own transactions wake a
// goroutine each.
func (w *writer) transaction(do func() error) (err error) {
	if err = w.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	committed := false
	defer func() { // after a panic too
		if !committed {
			_ = w.exec("ROLLBACK") // a full disk has done so already
		}
	}()
	if err = do(); err == nil {
		err = w.exec("COMMIT")
	}
	committed = err == nil
	return err
}

func (w *writer) exec(statement string) error {
	_, err := w.conn.ExecContext(context.Background(), statement)
	return err
}

// guarded runs one member; its panic is its own error.
func (w *writer) guarded(op *operation) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = w.panicked(p)
		}
	}()
	return op.do(w.db)
}

func (w *writer) panicked(p any) error {
	w.log.Error("panic in a database write", "panic", p, "stack", string(debug.Stack()))
	return fmt.Errorf("panic in a database write: %v", p)
}
