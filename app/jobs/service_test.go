package jobs_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"comfyfleet/app/jobs"
	"comfyfleet/app/outbound"
	"comfyfleet/app/storage"
	"comfyfleet/gpu"
	"comfyfleet/models"
	"comfyfleet/models/store"
)

const graph = `{"1":{"class_type":"LoadImage","inputs":{"image":"in.png"}},"2":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"out"}}}`

// world is a service over a real database and real files, with a scripted fleet.
type world struct {
	*jobs.Service
	t      *testing.T
	store  *store.Store
	blobs  *storage.Store
	fleet  *fakeFleet
	tenant models.Tenant
	dir    string
}

func newWorld(t *testing.T, run func(ctx context.Context, t gpu.Task, o gpu.Observer) gpu.Outcome) *world {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(t.Context(), "sqlite:"+filepath.Join(dir, "test.db"), store.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	blobs, err := storage.Open(t.Context(), "file:"+filepath.Join(dir, "blobs"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, blobs.Close()) })
	w := &world{t: t, store: st, blobs: blobs, fleet: newFakeFleet(run), dir: dir}
	w.tenant = models.Tenant{ID: uuid.NewString(), Name: "acme", CreatedAt: time.Now().UTC(), Weight: 1}
	require.NoError(t, st.CreateTenant(t.Context(), w.tenant))
	w.Service = jobs.New(jobs.Config{
		Store: st, Blobs: blobs, Fleet: w.fleet, Log: slog.New(slog.DiscardHandler),
		Outbound:  outbound.New(outbound.Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}),
		MaxQueued: 1000, MaxQueuedPerTenant: 1000,
	})
	return w
}

// dispatch runs the service's loops until the test ends.
func (w *world) dispatch() {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		require.NoError(w.t, <-done)
	})
}

func (w *world) blob(content string) *storage.Blob {
	w.t.Helper()
	wr, err := w.blobs.Create(w.t.Context(), uuid.NewString())
	require.NoError(w.t, err)
	_, err = io.WriteString(wr, content)
	require.NoError(w.t, err)
	b, err := wr.Commit()
	require.NoError(w.t, err)
	return &b
}

func (w *world) submission() jobs.Submission {
	return jobs.Submission{
		TenantID: w.tenant.ID, Origin: models.OriginAPI, Workflow: json.RawMessage(graph),
		Media: []jobs.Media{{Name: "in.png", Blob: w.blob("a picture")}},
	}
}

func (w *world) stored() (ids []string) {
	require.NoError(w.t, w.blobs.IDs(w.t.Context(), time.Now().Add(time.Hour), func(id string) error {
		ids = append(ids, id)
		return nil
	}))
	return ids
}

// files are the stored files, as a look from outside sees them while others are being written: stored would sweep those.
func (w *world) files() (names []string) {
	all, err := filepath.Glob(filepath.Join(w.dir, "blobs", "*", "*"))
	require.NoError(w.t, err)
	return slices.DeleteFunc(all, func(name string) bool { return strings.HasSuffix(name, ".tmp") })
}

// state polls the job until it is in the state.
func (w *world) until(id string, state models.JobState) jobs.View {
	w.t.Helper()
	var v jobs.View
	require.Eventually(w.t, func() bool {
		var err error
		v, err = w.Job(w.t.Context(), w.tenant.ID, id)
		require.NoError(w.t, err)
		return v.State == state
	}, 30*time.Second, 5*time.Millisecond, "want %s, have %+v", state, v)
	return v
}

// succeed runs a task as an engine would: staged, started, some progress, one picture and one text.
func succeed(ctx context.Context, t gpu.Task, o gpu.Observer) gpu.Outcome {
	if err := t.Fence(ctx); err != nil {
		return gpu.Outcome{Cause: models.CauseCanceled, Detail: err.Error()}
	}
	if err := o.Staged(ctx); err != nil {
		return gpu.Outcome{Cause: models.CauseCanceled, Detail: err.Error()}
	}
	if err := o.Started(ctx, time.Now()); err != nil {
		return gpu.Outcome{Cause: models.CauseCanceled, Detail: err.Error(), Started: true}
	}
	at := time.Now().UTC()
	o.Progress(models.Progress{Percent: 50, NodesDone: 1, NodesTotal: 2, CurrentNode: "2", LastEventAt: &at}, models.PhaseExecuting)
	return gpu.Outcome{Started: true, ExecMS: 7, Outputs: []gpu.NodeOutput{
		{Node: "2", Key: "images", File: &gpu.FileRef{Filename: t.JobID[:8] + "_out_00001_.png", Subfolder: t.AttemptID, Type: "output"}},
		{Node: "3", Key: "text", Text: "hello", IsText: true},
	}}
}

func TestAJobGoesFromRequestToOutputs(t *testing.T) {
	w := newWorld(t, succeed)
	acc, err := w.Submit(t.Context(), w.submission())
	require.NoError(t, err)
	require.Equal(t, 30, acc.Job.EstimatedSeconds)
	w.fleet.give(acc.Job.ID[:8]+"_out_00001_.png", "the result")
	w.dispatch()

	v := w.until(acc.Job.ID, models.JobSucceeded)
	require.Equal(t, 100, v.Progress.Percent)
	require.Equal(t, v.Progress.NodesTotal, v.Progress.NodesDone)
	require.Equal(t, 1, v.Attempts)
	require.True(t, v.Simulated)
	require.EqualValues(t, 7, v.Metrics.ExecMS)

	outs, err := w.Outputs(t.Context(), w.tenant.ID, v.ID)
	require.NoError(t, err)
	require.Len(t, outs, 2)
	require.Equal(t, v.ID[:8]+"_out_00001.png", outs[0].Filename)
	require.Equal(t, "text_output_3.txt", outs[1].Filename)
	_, r, err := w.OpenOutput(t.Context(), w.tenant.ID, outs[0].ID)
	require.NoError(t, err)
	defer r.Close()
	body, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, "the result", string(body))

	task := w.fleet.task(0)
	require.Contains(t, string(task.Graph), `"`+v.ID+`/0.png"`, "the medium has a name of ours")
	require.Contains(t, string(task.Graph), `"`+task.AttemptID+"/"+v.ID[:8]+`_out"`, "outputs cannot collide")
	require.Eventually(t, func() bool { return w.fleet.hasForgotten(task.AttemptID) }, 30*time.Second, 5*time.Millisecond)
}

func TestARefusedSubmissionLeavesNothingBehind(t *testing.T) {
	w := newWorld(t, succeed)
	media := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/page" {
			rw.Header().Set("Content-Type", "text/html")
		} else {
			rw.Header().Set("Content-Type", "image/png")
		}
		fmt.Fprint(rw, "\x89PNG\r\n\x1a\n")
	}))
	defer media.Close()
	tests := []struct {
		name   string
		change func(s *jobs.Submission)
		code   models.Code
		field  string
	}{
		{"no workflow", func(s *jobs.Submission) { s.Workflow = nil }, models.CodeInvalid, "workflow"},
		{"editor format", func(s *jobs.Submission) { s.Workflow = json.RawMessage(`{"nodes":[],"links":[]}`) }, models.CodeUnprocessed, "workflow"},
		{"unknown node", func(s *jobs.Submission) {
			s.Inputs = []jobs.Input{{Node: "99", Field: "x", Value: json.RawMessage(`1`)}}
		}, models.CodeUnprocessed, "inputs[0].node"},
		{"missing field", func(s *jobs.Submission) {
			s.Inputs = []jobs.Input{{Node: "1", Field: "nope", Value: json.RawMessage(`1`)}}
		}, models.CodeUnprocessed, "inputs[0].field"},
		{"media without data", func(s *jobs.Submission) { s.Media = append(s.Media, jobs.Media{Name: "x"}) }, models.CodeInvalid, "media[1]"},
		{"two of one name", func(s *jobs.Submission) {
			s.Media = append(s.Media, jobs.Media{Name: "in.png", URL: "https://example.com/x"})
		}, models.CodeInvalid, "media[1].name"},
		{"private address", func(s *jobs.Submission) {
			s.Media = append(s.Media, jobs.Media{Name: "x", URL: "http://10.0.0.1/x"})
		}, models.CodeInvalid, "media[1].url"},
		{"text by url", func(s *jobs.Submission) {
			s.Media = append(s.Media, jobs.Media{Name: "a", URL: media.URL + "/good"}, jobs.Media{Name: "x", URL: media.URL + "/page"})
		}, models.CodeInvalid, "media[2]"},
		{"another job's file", func(s *jobs.Submission) {
			s.Workflow = json.RawMessage(`{"1":{"class_type":"LoadImage","inputs":{"image":"x.png [output]"}},"2":{"class_type":"SaveImage","inputs":{"images":["1",0]}}}`)
		}, models.CodeUnprocessed, "workflow.1.inputs.image"},
		{"webhook to a private address", func(s *jobs.Submission) { s.WebhookURL = "http://192.168.0.1/" }, models.CodeInvalid, "webhook_url"},
		{"priority", func(s *jobs.Submission) { s.Priority = 1000 }, models.CodeInvalid, "priority"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sub := w.submission()
			tt.change(&sub)
			_, err := w.Submit(t.Context(), sub)
			var e *models.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, tt.code, e.Code, "%v", e)
			require.NotEmpty(t, e.Fields)
			require.Equal(t, tt.field, e.Fields[0].Field)
			require.Empty(t, w.stored(), "files")
			page, err := w.Jobs(t.Context(), models.JobFilter{}, models.Page{Limit: 10})
			require.NoError(t, err)
			require.Empty(t, page.Jobs, "rows")
		})
	}
}

func TestConcurrentTwinsMakeOneJob(t *testing.T) {
	w := newWorld(t, succeed)
	var wg sync.WaitGroup
	ids := make([]string, 100)
	for i := range ids {
		sub := w.submission()
		sub.IdempotencyKey = "k"
		wg.Go(func() {
			acc, err := w.Submit(t.Context(), sub)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = acc.Job.ID
		})
	}
	wg.Wait()
	for _, id := range ids {
		require.Equal(t, ids[0], id)
	}
	require.Len(t, w.stored(), 1, "the media of the other 99 are gone")

	other := w.submission()
	other.IdempotencyKey = "k"
	other.Priority = 5
	_, err := w.Submit(t.Context(), other)
	require.Equal(t, models.CodeUnprocessed, models.ErrorCode(err))
	require.Len(t, w.stored(), 1)
}

// countedClaims is a store that counts the jobs that were claimed after their acceptance.
type countedClaims struct {
	*store.Store
	claims atomic.Int64
}

func (s *countedClaims) Claim(ctx context.Context, a models.Attempt) (models.Attempt, models.Job, error) {
	s.claims.Add(1)
	return s.Store.Claim(ctx, a)
}

func TestAnIdleWorkerIsClaimedWithTheAcceptance(t *testing.T) {
	w := newWorld(t, nil)
	w.fleet.run = func(ctx context.Context, task gpu.Task, o gpu.Observer) gpu.Outcome {
		w.fleet.give(task.JobID[:8]+"_out_00001_.png", "x")
		return succeed(ctx, task, o)
	}
	counted := &countedClaims{Store: w.store}
	w.Store = counted
	w.dispatch()
	var id string
	require.Eventually(t, func() bool { // the first may come before the dispatcher has found the queue empty
		before := counted.claims.Load()
		acc, err := w.Submit(t.Context(), w.submission())
		require.NoError(t, err)
		require.Equal(t, models.JobQueued, acc.Job.State)
		id = acc.Job.ID
		w.until(id, models.JobSucceeded)
		return counted.claims.Load() == before
	}, time.Minute, time.Millisecond)

	attempts, err := w.Attempts(t.Context(), w.tenant.ID, id)
	require.NoError(t, err)
	require.Len(t, attempts, 1)
	require.Equal(t, 1, attempts[0].Number)
	require.Equal(t, models.AttemptSucceeded, attempts[0].State)
	events, err := w.Events(t.Context(), w.tenant.ID, id, 0, 100)
	require.NoError(t, err)
	var kinds []string
	for i, e := range events {
		require.EqualValues(t, i+1, e.Rev)
		if e.Kind != models.EventStaged && e.Kind != models.EventCollecting { // steps of their own where they take long
			kinds = append(kinds, e.Kind)
		}
	}
	require.Equal(t, []string{models.EventAccepted, models.EventClaimed, models.EventStarted, models.EventSucceeded}, kinds)
	require.NoError(t, w.store.VerifyCounters(t.Context()))
}

func TestACancelledQueuedJobNeverRuns(t *testing.T) {
	w := newWorld(t, succeed)
	acc, err := w.Submit(t.Context(), w.submission())
	require.NoError(t, err)
	job, changed, err := w.Cancel(t.Context(), w.tenant.ID, acc.Job.ID, "test")
	require.NoError(t, err)
	require.True(t, changed)
	require.Equal(t, "Cancelled by user", job.Error)
	w.dispatch()
	last, err := w.Submit(t.Context(), w.submission())
	require.NoError(t, err)
	w.fleet.give(last.Job.ID[:8]+"_out_00001_.png", "x")
	w.until(last.Job.ID, models.JobSucceeded)
	require.Equal(t, 1, w.fleet.executed())
	_, changed, err = w.Cancel(t.Context(), w.tenant.ID, acc.Job.ID, "test")
	require.NoError(t, err)
	require.False(t, changed)
}

func TestACancelBetweenClaimAndPromptIsSeenByTheFence(t *testing.T) {
	claimed, cancelled := make(chan string), make(chan struct{})
	var reached error
	done := make(chan struct{})
	w := newWorld(t, func(ctx context.Context, task gpu.Task, o gpu.Observer) gpu.Outcome {
		defer close(done)
		claimed <- task.JobID
		<-cancelled
		reached = task.Fence(ctx)
		return gpu.Outcome{Cause: models.CauseCanceled}
	})
	_, err := w.Submit(t.Context(), w.submission())
	require.NoError(t, err)
	w.dispatch()
	id := <-claimed
	_, changed, err := w.Cancel(t.Context(), w.tenant.ID, id, "test")
	require.NoError(t, err)
	require.True(t, changed)
	close(cancelled)
	<-done
	require.ErrorIs(t, reached, models.ErrFenced)
}

// Between the acceptance that claims a worker and the moment in which the fleet knows the attempt, a cancel has nobody
// to tell.
func TestACancelOfAJobThatWasClaimedWithItsAcceptanceIsSeenByTheFence(t *testing.T) {
	reached := make(chan error, 100)
	w := newWorld(t, nil)
	counted := &countedClaims{Store: w.store}
	w.fleet.run = func(ctx context.Context, task gpu.Task, o gpu.Observer) gpu.Outcome {
		require.Eventually(t, func() bool {
			_, changed, err := w.Cancel(t.Context(), w.tenant.ID, task.JobID, "test")
			return err == nil && changed // it has been committed
		}, 30*time.Second, time.Millisecond)
		reached <- task.Fence(ctx)
		return gpu.Outcome{Cause: models.CauseCanceled}
	}
	w.Store = counted
	w.dispatch()
	require.Eventually(t, func() bool {
		before := counted.claims.Load()
		_, err := w.Submit(t.Context(), w.submission())
		require.NoError(t, err)
		require.ErrorIs(t, <-reached, models.ErrFenced)
		return counted.claims.Load() == before
	}, time.Minute, time.Millisecond)
}

// heldAccepts is a store whose acceptances wait until the fence of their attempt was asked.
type heldAccepts struct {
	*store.Store
	held   atomic.Bool
	fenced chan struct{}
	err    error
}

func (s *heldAccepts) AcceptJob(ctx context.Context, n models.NewJob) (models.Job, bool, error) {
	if s.held.Load() && n.Attempt != nil {
		<-s.fenced
		if s.err != nil {
			return models.Job{}, false, s.err
		}
	}
	return s.Store.AcceptJob(ctx, n)
}

func TestNoPromptIsSentBeforeItsJobIsAccepted(t *testing.T) {
	for name, refusal := range map[string]error{"accepted": nil, "refused": models.Errorf(models.CodeFull, "full", "full")} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			held := &heldAccepts{Store: w.store, fenced: make(chan struct{}), err: refusal}
			w.Store = held
			sent := make(chan error, 100)
			w.fleet.run = func(ctx context.Context, task gpu.Task, o gpu.Observer) gpu.Outcome {
				w.fleet.give(task.JobID[:8]+"_out_00001_.png", "x")
				asked := make(chan error, 1)
				go func() { asked <- task.Fence(ctx) }()
				var err error
				select {
				case err = <-asked: // of a job that the dispatcher has placed, or of one that was not held
					if _, missing := w.store.Job(ctx, "", task.JobID); missing != nil {
						t.Errorf("the fence answered before the acceptance: %v", err)
						held.fenced <- struct{}{}
					}
				case held.fenced <- struct{}{}:
					err = <-asked
				}
				sent <- err
				if err != nil {
					return gpu.Outcome{Cause: models.CauseCanceled}
				}
				return succeed(ctx, task, o)
			}
			w.dispatch()
			first, err := w.Submit(t.Context(), w.submission())
			require.NoError(t, err)
			w.until(first.Job.ID, models.JobSucceeded)
			require.NoError(t, <-sent)

			held.held.Store(true)
			before := w.files()
			for { // until the dispatcher has found the queue empty
				acc, err := w.Submit(t.Context(), w.submission())
				if refusal != nil && err != nil {
					require.ErrorIs(t, err, refusal)
					require.ErrorIs(t, <-sent, models.ErrFenced)
					require.Eventually(t, func() bool { return slices.Equal(before, w.files()) }, 30*time.Second, time.Millisecond)
					return
				}
				require.NoError(t, err)
				w.until(acc.Job.ID, models.JobSucceeded)
				require.NoError(t, <-sent)
				if refusal == nil {
					return
				}
				before = w.files()
			}
		})
	}
}

func TestALateSuccessOfACancelledJobIsDiscarded(t *testing.T) {
	started, finish := make(chan string), make(chan struct{})
	w := newWorld(t, nil)
	w.fleet.run = func(ctx context.Context, task gpu.Task, o gpu.Observer) gpu.Outcome {
		out := succeed(ctx, task, o)
		w.fleet.give(task.JobID[:8]+"_out_00001_.png", "too late")
		started <- task.JobID
		<-finish
		return out
	}
	_, err := w.Submit(t.Context(), w.submission())
	require.NoError(t, err)
	w.dispatch()
	id := <-started
	_, _, err = w.Cancel(t.Context(), w.tenant.ID, id, "test")
	require.NoError(t, err)
	close(finish)
	require.Eventually(t, func() bool { return len(w.stored()) == 1 }, 30*time.Second, 10*time.Millisecond, "only the medium stays")
	v, err := w.Job(t.Context(), w.tenant.ID, id)
	require.NoError(t, err)
	require.Equal(t, models.JobCanceled, v.State)
	outs, err := w.Outputs(t.Context(), w.tenant.ID, id)
	require.NoError(t, err)
	require.Empty(t, outs)
}

func TestOutputsAreStoredWhileTheirPromptGoesOn(t *testing.T) {
	for name, success := range map[string]bool{"success": true, "failure": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.fleet.run = func(_ context.Context, task gpu.Task, o gpu.Observer) gpu.Outcome {
				ref := &gpu.FileRef{Filename: "a.png", Subfolder: task.AttemptID, Type: "output"}
				w.fleet.give("a.png", big("the result"))
				o.Made([]gpu.NodeOutput{{Node: "2", Key: "images", File: ref}})
				require.Eventually(t, func() bool { return len(w.files()) == 2 }, 30*time.Second, time.Millisecond, "beside the medium")
				if !success {
					return gpu.Outcome{Started: true, Cause: models.CauseException, Detail: "no"}
				}
				w.fleet.give("a.png", big("something else")) // what was stored is not read again
				return gpu.Outcome{Started: true, Outputs: []gpu.NodeOutput{{Node: "2", Key: "images", File: ref}}}
			}
			w.dispatch()
			acc, err := w.Submit(t.Context(), w.submission())
			require.NoError(t, err)
			if !success {
				w.until(acc.Job.ID, models.JobFailed)
				require.Eventually(t, func() bool { return len(w.files()) == 1 }, 30*time.Second, time.Millisecond, "only the medium is left")
				return
			}
			w.until(acc.Job.ID, models.JobSucceeded)
			outs, err := w.Outputs(t.Context(), w.tenant.ID, acc.Job.ID)
			require.NoError(t, err)
			require.Len(t, outs, 1)
			r, err := w.OpenContent(t.Context(), outs[0])
			require.NoError(t, err)
			defer r.Close()
			b, err := io.ReadAll(r)
			require.NoError(t, err)
			require.Equal(t, big("the result"), string(b))
		})
	}
}

// big makes a content that is no small output.
func big(content string) string { return content + strings.Repeat(".", models.MaxSmallOutput) }

func TestSmallOutputsAreKeptWithTheirJob(t *testing.T) {
	contents := map[string]string{"empty": "", "short": "a", "longest": strings.Repeat("b", models.MaxSmallOutput), "file": strings.Repeat("c", models.MaxSmallOutput+1)}
	w := newWorld(t, nil)
	w.fleet.run = func(_ context.Context, task gpu.Task, o gpu.Observer) gpu.Outcome {
		var made []gpu.NodeOutput
		for name, content := range contents {
			w.fleet.give(name, content)
			made = append(made, gpu.NodeOutput{Node: "2", Key: "images", File: &gpu.FileRef{Filename: name, Subfolder: task.AttemptID, Type: "output"}})
		}
		o.Made(made[:2])
		return gpu.Outcome{Started: true, Outputs: append(made, gpu.NodeOutput{Node: "3", Key: "text", Text: "hello", IsText: true})}
	}
	w.dispatch()
	acc, err := w.Submit(t.Context(), w.submission())
	require.NoError(t, err)
	v := w.until(acc.Job.ID, models.JobSucceeded)
	require.Len(t, w.files(), 2, "the medium and the one that is not small")
	outs, err := w.Outputs(t.Context(), w.tenant.ID, v.ID)
	require.NoError(t, err)
	require.Len(t, outs, 5)
	contents["text_output_3.txt"] = "hello"
	for _, o := range outs {
		_, r, err := w.OpenOutput(t.Context(), w.tenant.ID, o.ID)
		require.NoError(t, err)
		b, err := io.ReadAll(r)
		require.NoError(t, err)
		name := strings.TrimPrefix(o.Filename, v.ID[:8]+"_")
		require.Equal(t, contents[name], string(b), name)
		require.EqualValues(t, len(b), o.Size)
		require.Equal(t, fmt.Sprintf("%x", sha256.Sum256(b)), o.SHA256)
		require.Contains(t, o.ContentType, "text/plain")
		end, err := r.Seek(0, io.SeekEnd)
		require.NoError(t, err)
		require.Equal(t, o.Size, end)
		require.NoError(t, r.Close())
	}
}

func TestManySmallOutputsGoToFilesAfterAWhile(t *testing.T) {
	w := newWorld(t, nil)
	const many = 100
	w.fleet.run = func(_ context.Context, task gpu.Task, o gpu.Observer) gpu.Outcome {
		out := gpu.Outcome{Started: true}
		for range many {
			out.Outputs = append(out.Outputs, gpu.NodeOutput{Node: "3", Key: "text", Text: strings.Repeat("x", models.MaxSmallOutput), IsText: true})
		}
		return out
	}
	w.dispatch()
	acc, err := w.Submit(t.Context(), w.submission())
	require.NoError(t, err)
	w.until(acc.Job.ID, models.JobSucceeded)
	require.Len(t, w.files(), 1+many-256<<10/(models.MaxSmallOutput+512))
}

// refusingDisk is a store whose disk refuses the outputs of the first jobs that are about to end.
type refusingDisk struct {
	*store.Store
	refuse atomic.Int64
}

func (s *refusingDisk) FinishAttempt(ctx context.Context, f models.Finish) (models.Job, error) {
	if f.Job == models.JobSucceeded && s.refuse.Add(-1) >= 0 {
		f.Durable = func(context.Context) error { return jobs.Lost("2", errors.New("no space left")) }
	}
	return s.Store.FinishAttempt(ctx, f)
}

func TestAJobWhoseOutputsTheDiskRefusesRunsAgain(t *testing.T) {
	w := newWorld(t, nil)
	w.fleet.run = func(ctx context.Context, task gpu.Task, o gpu.Observer) gpu.Outcome {
		w.fleet.give(task.JobID[:8]+"_out_00001_.png", big("x"))
		return succeed(ctx, task, o)
	}
	disk := &refusingDisk{Store: w.store}
	disk.refuse.Store(1)
	w.Store = disk
	w.dispatch()
	acc, err := w.Submit(t.Context(), w.submission())
	require.NoError(t, err)
	v := w.until(acc.Job.ID, models.JobSucceeded)
	require.Equal(t, 2, v.Attempts, "the first one ran too")
	attempts, err := w.Attempts(t.Context(), w.tenant.ID, v.ID)
	require.NoError(t, err)
	require.Len(t, attempts, 2)
	require.Equal(t, models.CauseOutputs, attempts[0].Cause)
	require.Equal(t, "output of node 2: no space left", attempts[0].Detail)
	require.NotNil(t, attempts[0].StartedAt)
	require.Len(t, w.files(), 2, "the medium and the picture of the second")
}

func TestALostAttemptRunsAgainAndProgressNeverGoesBack(t *testing.T) {
	var floors []int
	n := 0
	w := newWorld(t, nil)
	w.fleet.run = func(ctx context.Context, task gpu.Task, o gpu.Observer) gpu.Outcome {
		floors = append(floors, task.Floor.Percent)
		w.fleet.give(task.JobID[:8]+"_out_00001_.png", "x")
		out := succeed(ctx, task, o)
		if n++; n < 3 {
			return gpu.Outcome{Cause: models.CauseCrashed, Started: true, Detail: "exit code 3"}
		}
		return out
	}
	acc, err := w.Submit(t.Context(), w.submission())
	require.NoError(t, err)
	w.dispatch()
	v := w.until(acc.Job.ID, models.JobSucceeded)
	require.Equal(t, 3, v.Attempts)
	require.Equal(t, 2, v.Faults)
	require.Equal(t, []int{0, 50, 50}, floors)
	attempts, err := w.Attempts(t.Context(), w.tenant.ID, v.ID)
	require.NoError(t, err)
	require.Len(t, attempts, 3)
	require.Equal(t, models.CauseCrashed, attempts[0].Cause)
}

func TestAnOpenAttemptIsResumedNotSentAgain(t *testing.T) {
	w := newWorld(t, nil)
	acc, err := w.Submit(t.Context(), w.submission())
	require.NoError(t, err)
	// What an earlier server left: a claimed job whose prompt executes.
	a, _, err := w.store.Claim(t.Context(), models.Attempt{ID: uuid.NewString(), JobID: acc.Job.ID, Worker: "w0", State: models.AttemptStaging, CreatedAt: time.Now().UTC()})
	require.NoError(t, err)
	require.NoError(t, w.store.AttemptStarted(t.Context(), a.ID, time.Now().UTC(), true))
	var seen gpu.Task
	w.fleet.run = func(_ context.Context, task gpu.Task, _ gpu.Observer) gpu.Outcome {
		seen = task
		return gpu.Outcome{Started: true}
	}
	w.dispatch()
	v := w.until(acc.Job.ID, models.JobSucceeded)
	require.True(t, seen.Resume)
	require.True(t, seen.Started)
	require.Equal(t, a.ID, seen.AttemptID)
	require.Equal(t, a.ID, v.PromptID)
	require.Equal(t, 1, v.Attempts)
}

func TestATenantsOwnLimitOfWaitingJobsGoesBeforeTheServices(t *testing.T) {
	w := newWorld(t, nil)
	w.MaxQueuedPerTenant = 2
	for limit, most := range map[int]int{0: 2, 1: 1, 3: 3} {
		w.tenant.MaxQueued = limit
		require.NoError(t, w.store.UpdateTenant(t.Context(), w.tenant))
		var last jobs.Accepted
		for range most {
			acc, err := w.Submit(t.Context(), w.submission())
			require.NoError(t, err)
			last = acc
		}
		_, err := w.Submit(t.Context(), w.submission())
		require.Equal(t, models.CodeLimited, models.ErrorCode(err), "limit %d: the job after %d", limit, most)
		_, _, err = w.Cancel(t.Context(), w.tenant.ID, last.Job.ID, "test")
		require.NoError(t, err)
		_, err = w.Retry(t.Context(), w.tenant.ID, last.Job.ID)
		require.NoError(t, err)
		_, err = w.Retry(t.Context(), w.tenant.ID, last.Job.ID)
		require.Equal(t, models.CodeLimited, models.ErrorCode(err), "limit %d: run again after %d", limit, most)
		page, err := w.Jobs(t.Context(), models.JobFilter{TenantID: w.tenant.ID}, models.Page{Limit: 100})
		require.NoError(t, err)
		for _, j := range page.Jobs {
			_, _, err := w.Cancel(t.Context(), w.tenant.ID, j.ID, "test")
			require.NoError(t, err)
		}
	}
}

func TestWaitingJobsExpireAndPausesHold(t *testing.T) {
	w := newWorld(t, succeed)
	require.NoError(t, w.SetPaused(t.Context(), jobs.Pauses{Dispatch: true}))
	sub := w.submission()
	sub.TimeoutSeconds = 1
	acc, err := w.Submit(t.Context(), sub)
	require.NoError(t, err)
	w.dispatch()
	v := w.until(acc.Job.ID, models.JobExpired)
	require.Equal(t, "deadline_exceeded", v.ErrorCode)
	require.Zero(t, w.fleet.executed())

	require.NoError(t, w.SetPaused(t.Context(), jobs.Pauses{Intake: true}))
	_, err = w.Submit(t.Context(), w.submission())
	require.Equal(t, models.CodeUnavailable, models.ErrorCode(err))
}

func TestAFinishedJobCanRunAgainWithItsMedia(t *testing.T) {
	w := newWorld(t, succeed)
	acc, err := w.Submit(t.Context(), w.submission())
	require.NoError(t, err)
	_, err = w.Retry(t.Context(), w.tenant.ID, acc.Job.ID)
	require.Equal(t, models.CodeConflict, models.ErrorCode(err), "it waits")
	_, _, err = w.Cancel(t.Context(), w.tenant.ID, acc.Job.ID, "test")
	require.NoError(t, err)
	again, err := w.Retry(t.Context(), w.tenant.ID, acc.Job.ID)
	require.NoError(t, err)
	require.NotEqual(t, acc.Job.ID, again.Job.ID)
	w.fleet.give(again.Job.ID[:8]+"_out_00001_.png", "x")
	w.dispatch()
	w.until(again.Job.ID, models.JobSucceeded)
	require.Len(t, w.fleet.task(0).Media, 1)
	_, err = w.Retry(t.Context(), "another tenant", acc.Job.ID)
	require.Equal(t, models.CodeNotFound, models.ErrorCode(err))
}

func TestFilesWithoutAJobAreSweptAfterADay(t *testing.T) {
	w := newWorld(t, succeed)
	require.NoError(t, w.SetPaused(t.Context(), jobs.Pauses{Dispatch: true}))
	acc, err := w.Submit(t.Context(), w.submission())
	require.NoError(t, err)
	w.blob("what a crash left")
	require.Len(t, w.stored(), 2)
	w.Now = func() time.Time { return time.Now().UTC().Add(25 * time.Hour) }
	w.dispatch()
	require.Eventually(t, func() bool { return len(w.stored()) == 1 }, 30*time.Second, 10*time.Millisecond)
	p, err := w.Payload(t.Context(), w.tenant.ID, acc.Job.ID)
	require.NoError(t, err)
	require.Equal(t, p.Media[0].AssetID, w.stored()[0])
}
