package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/klauspost/compress/zstd"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	"gorm.io/gorm/schema"
)

// Options are what a Store may be given. The zero value is right for a service.
type Options struct {
	// Now defaults to the clock. It is used only where no time is passed in.
	Now func() time.Time
	Log *slog.Logger
	// NewID defaults to random lower-case UUIDs.
	NewID func() string
}

// Store is an open database. Its methods may be called from any goroutine.
type Store struct {
	log   *slog.Logger
	now   func() time.Time
	newID func() string

	path   string
	writes *sql.DB
	reads  *sql.DB
	reader *gorm.DB
	writer *writer

	compress *zstd.Encoder
	expand   *zstd.Decoder

	closing sync.Once
	closed  error
}

// Open opens the database named by url, "sqlite:" and a path, and brings its tables up to date. The file and its
// directory are made if absent, readable by their owner only. A database that a newer comfyfleet has migrated is refused.
func Open(ctx context.Context, url string, opts Options) (*Store, error) {
	path, ok := strings.CutPrefix(url, "sqlite:")
	if !ok || path == "" {
		return nil, fmt.Errorf("open database %q: the address must be sqlite:/path/to/file.db", redactURL(url))
	}
	s := &Store{log: opts.Log, now: opts.Now, newID: opts.NewID, path: path}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.newID == nil {
		s.newID = uuid.NewString
	}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), s.Close())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) (err error) {
	if s.compress, s.expand, err = newCodec(); err != nil {
		return err
	}
	if err = prepareFile(s.path); err != nil {
		return err
	}
	s.writes, s.reads = openSQLite(s.path)
	if err = s.writes.PingContext(ctx); err != nil {
		return err
	}
	db, err := s.gorm(s.writes)
	if err != nil {
		return err
	}
	if err = migrate(ctx, db); err != nil {
		return err
	}
	if err = s.reads.PingContext(ctx); err != nil {
		return err
	}
	if s.reader, err = s.gorm(s.reads); err != nil {
		return err
	}
	if s.writer, err = s.startWriter(ctx); err != nil {
		return err
	}
	return nil
}

// Close waits for the writes that were accepted, then closes the database. Later calls of any method answer
// CodeUnavailable or an error; Close itself may be called again.
func (s *Store) Close() error {
	s.closing.Do(func() {
		var errs []error
		if s.writer != nil {
			errs = append(errs, s.writer.stop())
		}
		for _, pool := range []*sql.DB{s.reads, s.writes} { // the writer last: its close checkpoints the log
			if pool != nil {
				errs = append(errs, pool.Close())
			}
		}
		if s.expand != nil {
			s.expand.Close()
		}
		s.closed = errors.Join(errs...)
	})
	return s.closed
}

// gorm wraps a pool. Statements are kept prepared by the driver: GORM's own cache leaks a goroutine per database and
// may close a statement that is about to run.
func (s *Store) gorm(pool gorm.ConnPool) (*gorm.DB, error) {
	return gorm.Open(dialect(pool), &gorm.Config{
		Logger:                 logger.Discard, // errors are returned, and reported by whoever asked
		NamingStrategy:         naming(),
		NowFunc:                func() time.Time { return stamp(s.now()) },
		SkipDefaultTransaction: true,
		TranslateError:         true,
		DisableAutomaticPing:   true,
	})
}

// naming maps field names to columns. GORM's own rules would write OOMs as oo_ms, PID as p_id and GPUMS as gpums.
func naming() schema.NamingStrategy {
	return schema.NamingStrategy{NameReplacer: strings.NewReplacer("OOMs", "Ooms", "PID", "Pid", "GPUMS", "GpuMs")}
}

// read is the query-only database for one read.
func (s *Store) read(ctx context.Context) *gorm.DB { return s.reader.WithContext(ctx) }

// readTogether gives several reads one view of the database.
func (s *Store) readTogether(ctx context.Context, fn func(tx *gorm.DB) error) error {
	return s.reader.WithContext(ctx).Transaction(fn)
}

// stamp is t as the database keeps it.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// stampAt is a pointer to t as the database keeps it, nil for nil.
func stampAt(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	at := stamp(*t)
	return &at
}

// redactURL keeps a password out of an error message.
func redactURL(url string) string {
	scheme, _, ok := strings.Cut(url, ":")
	if !ok {
		return url
	}
	return scheme + ":…"
}
