package jobs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/gpu"
	"comfyfleet/models"
)

// shelf stands for the storage behind early outputs.
type shelf struct {
	mu      sync.Mutex
	stored  []string // file names, in order
	removed []string // ids
	fail    error    // of the next
	lose    error    // of the next on its way to the disk
	now     time.Time
	written int // how often the files were
	size    int64
}

func (s *shelf) store(_ context.Context, n gpu.NodeOutput) (models.Output, func() error, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stored = append(s.stored, n.File.Filename)
	err, lost := s.fail, s.lose
	s.fail, s.lose = nil, nil
	sync := func() error { return lost }
	return models.Output{ID: fmt.Sprint(n.File.Filename, "#", len(s.stored)), NodeID: n.Node, Size: s.size, CreatedAt: s.now}, sync, err
}

func (s *shelf) remove(_ context.Context, outputs []models.Output) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range outputs {
		s.removed = append(s.removed, o.ID)
	}
}

func (s *shelf) early(t *testing.T) *earlyOutputs {
	s.now = time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	return &earlyOutputs{store: s.store, remove: s.remove, stamp: func(gpu.FileRef) string { return fmt.Sprint(s.written) }, now: func() time.Time { return s.now }, ctx: ctx, cancel: cancel,
		places: make(chan struct{}, earlyAtOnce), syncs: make(chan struct{}, syncsAtOnce), files: map[gpu.FileRef]*earlyOutput{}}
}

func made(name, kind string) gpu.NodeOutput {
	return gpu.NodeOutput{Node: "9", File: &gpu.FileRef{Filename: name, Type: kind}}
}

func TestAnEarlyOutputIsStoredOnce(t *testing.T) {
	s := &shelf{}
	e := s.early(t)
	e.begin([]gpu.NodeOutput{made("a", "output"), made("b", "input"), {Node: "9", Text: "c", IsText: true}})
	out, err := e.take(t.Context(), made("a", "output"))
	require.NoError(t, err)
	require.Equal(t, "a#1", out.output.ID)
	e.discard()
	require.Equal(t, []string{"a"}, s.stored)
	require.Empty(t, s.removed)
}

func TestWhatTheHistoryDoesNotNameIsDeleted(t *testing.T) {
	s := &shelf{}
	e := s.early(t)
	e.begin([]gpu.NodeOutput{made("a", "output")})
	<-e.files[gpu.FileRef{Filename: "a", Type: "output"}].placed
	other, err := e.take(t.Context(), made("a", "temp"))
	require.NoError(t, err)
	require.Equal(t, "a#2", other.output.ID, "another file")
	e.discard()
	require.Equal(t, []string{"a#1"}, s.removed)
}

func TestAnEarlyOutputThatFailedIsTriedAgainUnlessItsWorkerWasSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{fail: errors.New("not yet")}
		e := s.early(t)
		e.begin([]gpu.NodeOutput{made("a", "output")})
		out, err := e.take(t.Context(), made("a", "output"))
		require.NoError(t, err)
		require.Equal(t, "a#2", out.output.ID)

		s.fail = fmt.Errorf("read: %w", silentError{time.Second})
		store := e.store
		e.store = func(ctx context.Context, n gpu.NodeOutput) (models.Output, func() error, error) {
			time.Sleep(time.Second) // of the bubble: it is still being read when it is taken
			return store(ctx, n)
		}
		e.begin([]gpu.NodeOutput{made("b", "output")})
		_, err = e.take(t.Context(), made("b", "output"))
		require.ErrorContains(t, err, "sent nothing for 1s")

		s.fail = fmt.Errorf("read: %w", silentError{time.Second})
		e.begin([]gpu.NodeOutput{made("c", "output")})
		<-e.files[gpu.FileRef{Filename: "c", Type: "output"}].placed
		out, err = e.take(t.Context(), made("c", "output"))
		require.NoError(t, err, "it was silent long ago")
		require.Equal(t, "c#5", out.output.ID)
		e.discard()
		require.Empty(t, s.removed)
	})
}

func TestAFileThatChangedSinceOrMayBeSweptIsStoredAgain(t *testing.T) {
	for name, change := range map[string]func(s *shelf, e *earlyOutputs){
		"written":           func(s *shelf, _ *earlyOutputs) { s.written++ },
		"told again":        func(_ *shelf, e *earlyOutputs) { e.begin([]gpu.NodeOutput{made("a", "output")}) },
		"may be swept soon": func(s *shelf, e *earlyOutputs) { e.now = func() time.Time { return s.now.Add(earlyLife) } },
	} {
		t.Run(name, func(t *testing.T) {
			s := &shelf{}
			e := s.early(t)
			e.begin([]gpu.NodeOutput{made("a", "output")})
			<-e.files[gpu.FileRef{Filename: "a", Type: "output"}].placed
			change(s, e)
			out, err := e.take(t.Context(), made("a", "output"))
			require.NoError(t, err)
			require.Equal(t, "a#2", out.output.ID)
			require.Equal(t, []string{"a#1"}, s.removed)
			e.discard()
		})
	}
}

func TestAnOutputIsOfTheNodeThatTheHistoryNames(t *testing.T) {
	s := &shelf{}
	e := s.early(t)
	e.begin([]gpu.NodeOutput{made("a", "output")})
	n := made("a", "output")
	n.Node = "4"
	out, err := e.take(t.Context(), n)
	require.NoError(t, err)
	require.Equal(t, "4", out.output.NodeID)
	e.discard()
}

func TestWhatIsBeingReadIsGivenUpAtTheEnd(t *testing.T) {
	s := &shelf{}
	e := s.early(t)
	inside := make(chan struct{}, earlyAtOnce)
	e.store = func(ctx context.Context, _ gpu.NodeOutput) (models.Output, func() error, error) {
		inside <- struct{}{}
		<-ctx.Done()
		return models.Output{}, nil, ctx.Err()
	}
	for i := range maxEarly + 1 {
		e.begin([]gpu.NodeOutput{made(fmt.Sprint(i), "output")})
	}
	for range earlyAtOnce {
		<-inside
	}
	require.Len(t, e.files, maxEarly)
	e.discard()
	require.Empty(t, inside, "no others were begun")
	require.Empty(t, s.removed)
}

func TestAnOutputThatTheDiskRefusesIsStoredAgainOrFailsItsJob(t *testing.T) {
	s := &shelf{lose: errors.New("disk full")}
	e := s.early(t)
	e.begin([]gpu.NodeOutput{made("a", "output")})
	<-e.files[gpu.FileRef{Filename: "a", Type: "output"}].durable
	out, err := e.take(t.Context(), made("a", "output"))
	require.NoError(t, err, "it was known in time")
	require.Equal(t, "a#2", out.output.ID)
	<-out.durable
	require.Nil(t, onDisk([]*earlyOutput{out}), "there is nothing to wait for")

	s.lose = errors.New("disk full")
	out, err = e.take(t.Context(), made("b", "output"))
	if err == nil {
		err = onDisk([]*earlyOutput{out})(t.Context())
		require.ErrorContains(t, err, "output of node 9: ")
	}
	require.ErrorContains(t, err, "disk full")
	e.discard()
	require.Empty(t, s.removed, "who could not keep it has removed it")
}

// slowDisk makes syncs of e wait until release is closed.
func slowDisk(e *earlyOutputs) (release chan struct{}) {
	release = make(chan struct{})
	store := e.store
	e.store = func(ctx context.Context, n gpu.NodeOutput) (models.Output, func() error, error) {
		out, _, err := store(ctx, n)
		return out, func() error { <-release; return nil }, err
	}
	return release
}

func TestTheEndWaitsForTheDiskNoLongerThanItIsTold(t *testing.T) {
	s := &shelf{}
	e := s.early(t)
	release := slowDisk(e)
	out, err := e.take(t.Context(), made("a", "output"))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	require.ErrorIs(t, onDisk([]*earlyOutput{out})(ctx), context.DeadlineExceeded)
	wait := onDisk([]*earlyOutput{out})
	close(release)
	require.NoError(t, wait(t.Context()))
	e.discard()
}

func TestABigOutputIsOnTheDiskWhenItIsTaken(t *testing.T) {
	s := &shelf{size: maxUnsynced + 1, lose: errors.New("disk full")}
	e := s.early(t)
	_, err := e.take(t.Context(), made("a", "output"))
	require.ErrorContains(t, err, "disk full")
	e.discard()
}

func TestWhoWaitsForASlowDiskIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		limit time.Duration
		told  int
	}{"quick": {time.Minute, 0}, "slow": {0, 1}} {
		t.Run(name, func(t *testing.T) {
			told, tries := 0, 0
			lost := errors.New("disk full")
			err := patiently(t.Context(), c.limit, func(ctx context.Context) error {
				if tries++; c.limit == 0 && tries == 1 {
					<-ctx.Done()
					return ctx.Err()
				}
				return lost
			}, func() { told++ })
			require.ErrorIs(t, err, lost)
			require.Equal(t, c.told, told)
		})
	}
}

func TestOnlySoManyOutputsAreOnTheirWayToTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		e := s.early(t)
		release := slowDisk(e)
		var way []*earlyOutput
		take := func(name string) {
			out, err := e.take(t.Context(), made(name, "output"))
			require.NoError(t, err)
			way = append(way, out)
		}
		for i := range syncsAtOnce {
			take(fmt.Sprint(i))
		}
		taken := make(chan struct{})
		go func() {
			defer close(taken)
			take("last")
		}()
		synctest.Wait()
		select {
		case <-taken:
			t.Error("it did not wait for the disk itself")
		default:
		}
		close(release)
		<-taken
		e.discard() // waits for all of them
		require.Len(t, way, syncsAtOnce+1)
		require.Nil(t, onDisk(way))
	})
}
