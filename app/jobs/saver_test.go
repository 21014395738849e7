package jobs

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

// ledger is a store that keeps what was written when, and a reader who checks that nothing else was shown.
type ledger struct {
	t *testing.T

	mu      sync.Mutex
	started map[string]bool // attempts whose start is stored
	failing bool
	commits int
	stored  int
	shown   []int
}

func (l *ledger) SaveProgress(_ context.Context, updates []models.ProgressUpdate) (stored []string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.commits++
	if l.failing {
		return nil, errors.New("disk busy")
	}
	for _, u := range updates {
		if l.started[u.AttemptID] {
			stored = append(stored, u.AttemptID)
			l.stored = max(l.stored, u.Progress.Percent)
		}
	}
	return stored, nil
}

func (l *ledger) show(_ string, percent int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	require.LessOrEqual(l.t, percent, l.stored, "shown before it was stored")
	l.shown = append(l.shown, percent)
}

// look lets the test see and change the ledger when the saver rests.
func (l *ledger) look(do func()) {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	do()
}

// saving runs a saver on a ledger for as long as do takes, in a bubble where time costs nothing.
func saving(t *testing.T, do func(p *progressSaver, l *ledger)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{t: t, started: map[string]bool{"a": true}}
		p := &progressSaver{store: l, show: l.show, attempts: map[string]*attemptProgress{}}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.run(ctx, slog.New(slog.DiscardHandler)) }()
		do(p, l)
		cancel()
		require.NoError(t, <-ended)
	})
}

func step(percent, value int) models.ProgressUpdate {
	return models.ProgressUpdate{JobID: "j", AttemptID: "a", Progress: models.Progress{Percent: percent, Value: value}}
}

func TestPercentagesAreStoredBeforeTheyAreShown(t *testing.T) {
	saving(t, func(p *progressSaver, l *ledger) {
		for i := range 500 { // five seconds, a percent every 50 ms
			p.note(step(i/5, i))
			time.Sleep(10 * time.Millisecond)
		}
		before := 0
		l.look(func() {
			require.InDelta(t, 50, l.commits, 5, "ten a second, however often it rises")
			before = l.commits
		})
		time.Sleep(2 * showEvery)
		l.look(func() {
			require.True(t, slices.IsSorted(l.shown))
			require.Equal(t, 99, l.shown[len(l.shown)-1], "the last rise too, though nothing follows it")
		})
		for i := range 300 {
			p.note(step(99, i))
			time.Sleep(10 * time.Millisecond)
		}
		l.look(func() { require.InDelta(t, 3, l.commits-before, 1, "what is no rise is written once a second") })
	})
}

func TestAPromptThatIsSoonOverGetsNoCommitForItsProgress(t *testing.T) {
	saving(t, func(p *progressSaver, l *ledger) {
		for i := range 100 {
			p.note(step(50, i))
			time.Sleep(showEvery - 10*time.Millisecond)
			require.Equal(t, []models.ProgressUpdate{step(50, i)}, p.end("a"), "the end takes it along")
			require.Empty(t, p.end("a"))
		}
		l.look(func() { require.Zero(t, l.commits) })
	})
}

func TestWhatIsNotStoredIsNotShown(t *testing.T) {
	saving(t, func(p *progressSaver, l *ledger) {
		l.look(func() { l.failing = true })
		p.note(step(10, 1))
		time.Sleep(5 * time.Second)
		l.look(func() {
			require.Empty(t, l.shown)
			require.LessOrEqual(t, l.commits, 7, "a store in trouble is asked less often")
			l.failing, l.started = false, map[string]bool{}
		})
		time.Sleep(2 * saveEvery)
		l.look(func() {
			require.Empty(t, l.shown, "the job does not run as far as the store knows")
			l.started["a"] = true
		})
		time.Sleep(2 * showEvery)
		l.look(func() { require.Equal(t, []int{10}, l.shown) })
		require.Empty(t, p.end("a"))
	})
}
