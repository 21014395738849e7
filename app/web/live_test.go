package web

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/PuerkitoBio/goquery"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"comfyfleet/app/jobs"
	"comfyfleet/models"
)

// holds reports whether an event carries an element that fits the selector and contains text. Rows of tables come in
// templates; a parser of whole documents keeps them only there.
func holds(selector, text string) func(event) bool {
	return func(e event) bool {
		if e.name != "parts" {
			return false
		}
		d, err := goquery.NewDocumentFromReader(strings.NewReader(e.data))
		if err != nil {
			return false
		}
		return strings.Contains(words(d.Find(selector)), text)
	}
}

// gather reads events until what they sent together fits.
func gather(t *testing.T, events <-chan event, fits func(all event) bool) event {
	t.Helper()
	all := event{name: "parts"}
	await(t, events, func(e event) bool {
		if e.name == "parts" {
			all.data += e.data
		}
		return fits(all)
	})
	return all
}

func TestAStreamBeginsWithEverythingAndThenSendsWhatChanged(t *testing.T) {
	h := newHouse(t)
	running, _, _ := stand(t, h)
	v := h.visit(t, models.RoleViewer)
	events := v.follow("/live/jobs/" + running.ID)
	first := await(t, events, func(e event) bool { return e.name == "parts" })
	d, err := goquery.NewDocumentFromReader(strings.NewReader(first.data))
	require.NoError(t, err)
	for _, id := range []string{"sentence", "rail-jobs", "rail-pips", "job-head", "job-verbs", "job-time", "job-out", "job-why"} {
		assert.Equal(t, "morph", d.Find("#"+id).AttrOr("hx-swap-oob", ""), id)
	}

	h.change(func() {
		h.jobs[0].Progress.Percent, h.jobs[0].Progress.Value = 73, 14
		h.updates[running.ID] = jobs.Update{Preview: []byte("x"), PreviewType: "image/png", PreviewVersion: 8}
	})
	next := gather(t, events, func(all event) bool { // two events, when it was looking just then
		return holds(testid("percent"), "73 %")(all) && strings.Contains(all.data, "preview?v=8")
	})
	d, err = goquery.NewDocumentFromReader(strings.NewReader(next.data))
	require.NoError(t, err)
	assert.Zero(t, d.Find("#sentence").Length(), "the sentence did not change")
	assert.Equal(t, "/jobs/"+running.ID+"/preview?v=8", d.Find(".preview img").AttrOr("src", ""))

	h.change(func() {
		j := &h.jobs[0]
		j.State, j.Phase, j.Progress.Percent, j.FinishedAt = models.JobSucceeded, models.PhaseNone, 100, &h.now
		h.keep(t, *j, "loop.mp4", "video", append([]byte("\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41"), make([]byte, 64)...))
	})
	gather(t, events, func(all event) bool {
		return holds(testid("state"), "Succeeded")(all) && strings.Contains(all.data, "<video src=")
	})
}

func TestAQuietStreamBeats(t *testing.T) {
	h := newHouse(t)
	v := h.visit(t, models.RoleViewer)
	events := v.follow("/live/run")
	await(t, events, func(e event) bool { return e.name == "parts" })
	h.change(func() { h.now = h.now.Add(beatEvery) })
	await(t, events, func(e event) bool { return e.name == "beat" })
}

func TestTheListMovesNoRowAndCountsNewOnes(t *testing.T) {
	h := newHouse(t)
	_, queued, _ := stand(t, h)
	v := h.visit(t, models.RoleViewer)
	d := v.page("/jobs?q=state:queued")
	live := d.Find("main").AttrOr("data-live", "")
	require.NotEmpty(t, live)
	events := v.follow(live)
	first := await(t, events, func(e event) bool { return e.name == "parts" })
	assert.Contains(t, first.data, `<template><tr id="job-`+queued.ID)

	h.change(func() { h.add(models.Job{}); h.add(models.Job{}) })
	e := await(t, events, holds("#job-fresh", "2 new jobs"))
	assert.NotContains(t, e.data, "<tr", "new rows stay out until they are let in")

	h.change(func() {
		j, err := h.find(queued.ID)
		require.NoError(t, err)
		j.State, j.FinishedAt = models.JobCanceled, &h.now
	})
	e = await(t, events, func(e event) bool { return strings.Contains(e.data, `id="job-`+queued.ID) })
	assert.Contains(t, e.data, "data-gone", "a row that left the filter dims in place")
	assert.Contains(t, e.data, "Canceled")
}

func TestTheStreamsOfTheFleetFollowTheWorkers(t *testing.T) {
	h := newHouse(t)
	stand(t, h)
	v := h.visit(t, models.RoleOperator)
	cards, one, overview := v.follow("/live/gpus"), v.follow("/live/gpus/gpu1"), v.follow("/live/overview")
	for _, events := range []<-chan event{cards, one, overview} {
		await(t, events, func(e event) bool { return e.name == "parts" })
	}
	h.change(func() {
		h.workers[1].State, h.workers[1].Reason = models.WorkerQuarantined, "crashed 5 times in 10 min"
		h.logs["gpu1"] = append(h.logs["gpu1"], "CUDA error: device lost")
	})
	await(t, cards, holds("#gpu-gpu1", "Quarantined. Crashed 5 times in 10 min."))
	await(t, one, holds("#worker-head", "Quarantined"))
	await(t, overview, holds("#attention", "GPU 1 is quarantined"))
}

func TestAStreamLeavesNoSubscriptionBehind(t *testing.T) {
	h := newHouse(t)
	stand(t, h)
	t.Run("follow and go", func(t *testing.T) {
		v := h.visit(t, models.RoleViewer)
		await(t, v.follow("/live/gpus"), func(e event) bool { return e.name == "parts" })
	})
	require.Eventually(t, func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.followers) == 0
	}, patience, 10*time.Millisecond)
}

func TestPaceFiresNotTooOftenAndEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		busy := make(chan struct{}, 1)
		out := pace(ctx, busy, nil, 2*time.Second)
		began := time.Now()
		fired := 0
		for time.Since(began) < 10*time.Second {
			select {
			case busy <- struct{}{}:
			default:
			}
			select {
			case <-out:
				fired++
			case <-time.After(50 * time.Millisecond):
			}
		}
		assert.InDelta(t, 20, fired, 2, "every half second, however busy")
		fired = 0
		quiet := time.Now()
		for time.Since(quiet) < 10*time.Second {
			select {
			case <-out:
				fired++
			case <-time.After(100 * time.Millisecond):
			}
		}
		assert.InDelta(t, 5, fired, 1, "every two seconds by itself")
		cancel()
		synctest.Wait() // the goroutine has ended, or the bubble would say so
	})
}

func TestOnlyWhatTheBrowserCannotKeepCurrentCountsAsChanged(t *testing.T) {
	h := newHouse(t)
	_, queued, _ := stand(t, h)
	v := h.visit(t, models.RoleViewer)
	events := v.follow(v.page("/jobs").Find("main").AttrOr("data-live", ""))
	await(t, events, func(e event) bool { return e.name == "parts" })
	h.change(func() { h.now = h.now.Add(beatEvery) })
	e := await(t, events, func(event) bool { return true })
	assert.Equal(t, "beat", e.name, "ages that went on are not sent: %s of %s", e.data, queued.ID)
}

func TestAPageThatManyReadIsLookedUpOnceForEachRole(t *testing.T) {
	h := newHouse(t)
	stand(t, h)
	operator, viewer := h.visit(t, models.RoleOperator), h.visit(t, models.RoleViewer)
	first := func(events <-chan event) string {
		return await(t, events, func(e event) bool { return e.name == "parts" }).data
	}
	for range 5 {
		first(operator.follow("/live/overview"))
		first(operator.follow("/live/gpus"))
	}
	require.Len(t, h.subscriptions(), 4, "jobs and fleet, for each of two pages")
	all := operator.follow("/live/gpus")
	assert.NotContains(t, first(all), "Your role is")
	assert.Contains(t, first(viewer.follow("/live/gpus")), "Your role is viewer", "what one may not do is not shown to the other")
	require.Len(t, h.subscriptions(), 6)

	h.change(func() {
		h.workers[0].State, h.workers[0].Reason = models.WorkerQuarantined, "crashed 5 times in 10 min"
	})
	await(t, all, holds("#gpu-gpu0", "Quarantined"))
}
