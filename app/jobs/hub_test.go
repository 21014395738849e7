package jobs

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

func woken(f *Follower) bool {
	select {
	case <-f.Wake:
		return true
	default:
		return false
	}
}

func TestFollowersSeeTheNewestUpdateOnce(t *testing.T) {
	h := newHub(time.Now)
	f := h.follow("j", false)
	defer f.Close()
	_, ok := f.Latest()
	require.False(t, ok, "nothing is known of a job that does not run here")

	job := models.Job{ID: "j", State: models.JobRunning, Revision: 3}
	h.begin(job, "a")
	for i := range 10 {
		h.publish("j", func(u *Update) { u.Progress.Percent = i })
	}
	require.True(t, woken(f))
	require.False(t, woken(f), "ten updates are one wake")
	u, ok := f.Latest()
	require.True(t, ok)
	require.Equal(t, 9, u.Progress.Percent)
	require.Equal(t, int64(3), u.Revision)
}

func TestOlderCommitsDoNotOverwriteNewerOnes(t *testing.T) {
	h := newHub(time.Now)
	f := h.follow("j", false)
	defer f.Close()
	h.publishJob(models.Job{ID: "j", State: models.JobSucceeded, Revision: 5})
	h.publishJob(models.Job{ID: "j", State: models.JobRunning, Revision: 4})
	u, _ := f.Latest()
	require.Equal(t, models.JobSucceeded, u.State)
	require.Equal(t, int64(5), u.Revision)
}

func TestTopicsAreForgotten(t *testing.T) {
	h := newHub(time.Now)
	f, g := h.follow("j", false), h.follow("j", false)
	h.begin(models.Job{ID: "j"}, "a")
	f.Close()
	f.Close()
	h.end("j", "another attempt")
	require.Len(t, h.topics, 1)
	h.end("j", "a")
	require.Len(t, h.topics, 1, "g still follows")
	g.Close()
	require.Empty(t, h.topics)
	h.publish("nobody", func(*Update) { t.Fatal("an unknown job has no update to change") })
}

func TestTheDigestOfAllJobsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(time.Now)
		f := h.followAll()
		defer f.Close()
		wakes := 0
		for range 100 {
			h.publish("j", nil)
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
			if woken(f) {
				wakes++
			}
		}
		require.InDelta(t, 4, wakes, 1, "one second of changes is about four wakes")
	})
}

func TestLiveProgressNeverGoesBack(t *testing.T) {
	h := newHub(time.Now)
	stored := models.Job{ID: "j", State: models.JobRunning, Revision: 2, Progress: models.Progress{Percent: 40}}
	h.begin(stored, "a")
	h.publish("j", func(u *Update) { u.Progress.Percent, u.Phase = 55, models.PhaseExecuting })
	seen := stored
	h.live(&seen)
	require.Equal(t, 55, seen.Progress.Percent)
	require.Equal(t, models.PhaseExecuting, seen.Phase)

	done := models.Job{ID: "j", State: models.JobSucceeded, Progress: models.Progress{Percent: 100}}
	h.live(&done)
	require.Equal(t, 100, done.Progress.Percent, "a final row is the truth")
}

func TestAStepThatIsSaidTwiceWakesOnce(t *testing.T) {
	h := newHub(time.Now)
	f := h.follow("j", false)
	defer f.Close()
	h.begin(models.Job{ID: "j", State: models.JobRunning}, "a")
	require.True(t, woken(f))
	for _, second := range []int64{1, 2} {
		at := time.Unix(second, 0)
		h.progress("j", models.Progress{Percent: 10, Value: 3, LastEventAt: &at}, models.PhaseExecuting)
		require.Equal(t, second == 1, woken(f))
		u, _ := f.Latest()
		require.Equal(t, &at, u.Progress.LastEventAt, "the engine is alive")
	}
}

func TestAPercentageIsShownWhenItIsStored(t *testing.T) {
	h := newHub(time.Now)
	f := h.follow("j", false)
	defer f.Close()
	h.begin(models.Job{ID: "j", State: models.JobRunning, Progress: models.Progress{Percent: 20}}, "a")
	require.True(t, woken(f))
	h.progress("j", models.Progress{Percent: 30, Value: 3}, models.PhaseExecuting)
	require.True(t, woken(f))
	u, _ := f.Latest()
	require.Equal(t, models.Progress{Percent: 20, Value: 3}, u.Progress, "the step is shown at once")
	h.show("j", 30)
	require.True(t, woken(f))
	for _, again := range []int{30, 25} {
		h.show("j", again)
		require.False(t, woken(f))
	}
	h.progress("j", models.Progress{Percent: 29, Value: 2}, models.PhaseExecuting)
	require.False(t, woken(f), "an older attempt's word comes late")
	u, _ = f.Latest()
	require.Equal(t, models.Progress{Percent: 30, Value: 3}, u.Progress)
}

func TestWhoWaitsForTheEndIsWokenByItAlone(t *testing.T) {
	h := newHub(time.Now)
	f := h.follow("j", true)
	defer f.Close()
	h.begin(models.Job{ID: "j", State: models.JobRunning, Revision: 3}, "a")
	h.publish("j", func(u *Update) { u.Progress.Percent = 9 })
	require.False(t, woken(f))
	h.publishEnd(models.Job{ID: "j", State: models.JobCanceled, Revision: 4}, nil)
	require.True(t, woken(f))
	u, ok := f.Latest()
	require.True(t, ok)
	require.Equal(t, models.JobCanceled, u.Ended.State)
}
