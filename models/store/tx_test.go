package store

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"comfyfleet/models"
)

// held keeps the writer inside an operation until it is let go, so that what is sent meanwhile becomes one batch.
func held(t *testing.T, s *Store) (letGo func()) {
	t.Helper()
	inside, gate, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- s.writer.run(context.Background(), func(*gorm.DB) error {
			close(inside)
			<-gate
			return nil
		})
	}()
	<-inside
	return func() {
		close(gate)
		require.NoError(t, <-ended)
	}
}

// send queues an operation and returns where its answer comes.
func send(t *testing.T, s *Store, ctx context.Context, do func(tx *gorm.DB) error) <-chan error {
	t.Helper()
	op := &operation{ctx: ctx, do: do, done: make(chan error, 1)}
	require.NoError(t, s.writer.take(op))
	return op.done
}

// set stores a setting.
func set(name string) func(tx *gorm.DB) error {
	return func(tx *gorm.DB) error {
		return tx.Exec(`INSERT INTO settings (name, value) VALUES (?, '')`, name).Error
	}
}

func hasSetting(t *testing.T, s *Store, name string) bool {
	t.Helper()
	_, ok, err := s.Setting(context.Background(), name)
	require.NoError(t, err)
	return ok
}

func TestWritesThatArriveTogetherShareATransaction(t *testing.T) {
	s := openTest(t)
	letGo := held(t, s)
	var answers []<-chan error
	pools := make([]gorm.ConnPool, maxBatch)
	for i := range pools {
		answers = append(answers, send(t, s, t.Context(), func(tx *gorm.DB) error {
			pools[i] = tx.Statement.ConnPool
			return set(fmt.Sprint(i))(tx)
		}))
	}
	letGo()
	for i, answer := range answers {
		require.NoError(t, <-answer)
		require.Same(t, pools[0], pools[i])
	}
	require.True(t, hasSetting(t, s, fmt.Sprint(maxBatch-1)))
}

func TestAFailingMemberOfABatchHurtsOnlyItself(t *testing.T) {
	for name, failing := range map[string]func(tx *gorm.DB) error{
		"duplicate": func(tx *gorm.DB) error { return errors.Join(set("undone")(tx), set("first")(tx)) },
		"error":     func(tx *gorm.DB) error { return errors.Join(set("undone")(tx), errors.New("no")) },
		"panic": func(tx *gorm.DB) error {
			if err := set("undone")(tx); err != nil {
				return err
			}
			panic("no")
		},
		// What SQLite does by itself when the disk is full: the whole transaction is gone.
		"transaction gone": func(tx *gorm.DB) error {
			return errors.Join(set("undone")(tx), tx.Exec("ROLLBACK").Error, errors.New("no"))
		},
		"transaction gone unnoticed": func(tx *gorm.DB) error { return tx.Exec("ROLLBACK").Error },
	} {
		t.Run(name, func(t *testing.T) {
			s := openTest(t)
			letGo := held(t, s)
			first := send(t, s, t.Context(), set("first"))
			bad := send(t, s, t.Context(), failing)
			last := send(t, s, t.Context(), set("last"))
			letGo()
			require.NoError(t, <-first)
			require.Error(t, <-bad)
			require.NoError(t, <-last)
			require.True(t, hasSetting(t, s, "first"))
			require.True(t, hasSetting(t, s, "last"))
			require.False(t, hasSetting(t, s, "undone"))
			require.NoError(t, s.SetSetting(t.Context(), "later", ""), "the writer lives on")
		})
	}
}

func TestACallerThatGivesUpWhileWaitingIsNotRun(t *testing.T) {
	s := openTest(t)
	letGo := held(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	gone := send(t, s, ctx, set("gone"))
	stays := send(t, s, t.Context(), set("stays"))
	cancel()
	letGo()
	require.ErrorIs(t, <-gone, context.Canceled)
	require.NoError(t, <-stays)
	require.False(t, hasSetting(t, s, "gone"))
}

func TestACallerThatGivesUpDuringItsCommitIsCommitted(t *testing.T) {
	s := openTest(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	require.NoError(t, s.writer.run(ctx, func(tx *gorm.DB) error {
		cancel()
		return set("kept")(tx)
	}))
	require.True(t, hasSetting(t, s, "kept"))
}

func TestAFullQueueHoldsCallersUntilTheirContextEnds(t *testing.T) {
	s := openTest(t)
	letGo := held(t, s)
	var answers []<-chan error
	for range maxPending + 1 { // the loop holds one
		answers = append(answers, send(t, s, t.Context(), func(*gorm.DB) error { return nil }))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.SetSetting(ctx, "x", ""), context.Canceled)
	letGo()
	for _, answer := range answers {
		require.NoError(t, <-answer)
	}
}

func TestCloseCommitsWhatWasAccepted(t *testing.T) {
	path := t.TempDir() + "/comfyfleet.db"
	s := openAt(t, path)
	letGo := held(t, s)
	var answers []<-chan error
	for i := range 3 * maxBatch {
		answers = append(answers, send(t, s, t.Context(), set(fmt.Sprint(i))))
	}
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	letGo()
	require.NoError(t, <-closed)
	for _, answer := range answers {
		require.NoError(t, <-answer)
	}
	require.ErrorIs(t, s.SetSetting(t.Context(), "late", ""), errClosed)
	again := openAt(t, path)
	require.True(t, hasSetting(t, again, fmt.Sprint(3*maxBatch-1)))
}

func TestAFullDiskIsItsOwnError(t *testing.T) {
	s := openTest(t)
	addTenant(t, s, "t1")
	require.NoError(t, s.writer.run(t.Context(), func(tx *gorm.DB) error {
		var pages int
		if err := tx.Raw("PRAGMA page_count").Scan(&pages).Error; err != nil {
			return err
		}
		return tx.Exec(fmt.Sprintf("PRAGMA max_page_count=%d", pages)).Error
	}))
	letGo := held(t, s)
	small := send(t, s, t.Context(), set("small"))
	full := send(t, s, t.Context(), func(tx *gorm.DB) error {
		return tx.Exec(`INSERT INTO settings (name, value) VALUES ('big', hex(randomblob(1000000)))`).Error
	})
	letGo()
	require.NoError(t, <-small)
	require.Equal(t, models.CodeFull, models.ErrorCode(translate(<-full, "write", "row")))
	require.True(t, hasSetting(t, s, "small"))
}
