package web

import (
	"encoding/json"
	"flag"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/PuerkitoBio/goquery"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"comfyfleet/app/jobs"
	"comfyfleet/models"
	"comfyfleet/static"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares a page's main part with a file under testdata: one tag a line, without what changes by the build.
func golden(t *testing.T, name string, d *goquery.Document) {
	t.Helper()
	html, err := d.Find("main").Html()
	require.NoError(t, err)
	html = strings.ReplaceAll(html, static.Hash(), "HASH")
	html = regexp.MustCompile(`\s+`).ReplaceAllString(html, " ")
	html = strings.ReplaceAll(strings.TrimSpace(html), "><", ">\n<") + "\n"
	file := filepath.Join("testdata", name+".html")
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(html), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err, "run with -update to make it")
	assert.Equal(t, string(want), html)
}

// stand fills the house with one of each, at fixed times.
func stand(t *testing.T, h *house) (running, queued, failed models.Job) {
	t.Helper()
	at := func(d time.Duration) *time.Time { x := h.now.Add(-d); return &x }
	failed = h.add(models.Job{State: models.JobFailed, TenantID: "t-acme", Worker: "gpu0", Attempts: 1, CreatedAt: *at(9 * time.Minute), StartedAt: at(8 * time.Minute), FinishedAt: at(7 * time.Minute), ErrorCode: "graph_rejected",
		Error: "node 14 (CheckpointLoaderSimple): value not in list", NodeErrors: `{"14":{"class_type":"CheckpointLoaderSimple","errors":[{"message":"Value not in list","details":"ckpt_name: 'cinema_xl.safetensors' not in []"}]}}`})
	queued = h.add(models.Job{WorkflowSlug: "text-to-image", WorkflowVersion: 3, CreatedAt: *at(48 * time.Second), WaitingReason: "all cards are busy, 1 ahead"})
	running = h.add(models.Job{State: models.JobRunning, Phase: models.PhaseExecuting, WorkflowSlug: "wan22-smooth-loop", WorkflowVersion: 12, Worker: "gpu0", Attempts: 1, Origin: models.OriginDashboard, Simulated: true,
		CreatedAt: *at(126 * time.Second), StartedAt: at(124 * time.Second), Progress: models.Progress{Percent: 68, Value: 13, Max: 20, NodesDone: 6, NodesTotal: 11, CurrentNode: "3", CurrentClass: "KSampler", LastEventAt: at(time.Second)}})
	h.payloads[running.ID] = models.JobPayload{JobID: running.ID, Graph: h.library[0].Graph, Inputs: []byte(`{"params":{"seed":8112904477}}`)}
	h.attempts[running.ID] = []models.Attempt{{ID: "p1", JobID: running.ID, Worker: "gpu0", Number: 1, State: models.AttemptExecuting, StartedAt: running.StartedAt, PlacedBecause: "GPU 0 was ready", PID: 4711}}
	next := h.now.Add(41 * time.Second)
	h.workers = []models.Worker{
		{Name: "gpu0", Kind: models.WorkerManaged, State: models.WorkerBusy, Since: *at(time.Hour), PID: 4711, StartedAt: at(3 * time.Hour), ExecutingJobID: running.ID, VRAMTotal: 48_000_000_000, VRAMFree: 6_000_000_000, JobsDone: 412,
			Models: []models.ResidentModel{{File: "wan2.2_high.safetensors", Size: 14_300_000_000, LastUsed: h.now}}},
		{Name: "gpu1", Kind: models.WorkerManaged, State: models.WorkerBackoff, Since: *at(19 * time.Second), NextStartAt: &next, Reason: "crashed 3 times in 20 min", Restarts: 3,
			Exits: []models.WorkerExit{{At: *at(19 * time.Second), PID: 4712, Code: 137, Signal: "SIGKILL", Reason: "killed for memory", Uptime: 31 * time.Second}}},
	}
	h.spans["gpu0"] = []models.Span{{From: *at(time.Hour), To: *at(45 * time.Minute), Kind: models.SpanLoading}, {From: *at(45 * time.Minute), Kind: models.SpanSampling}}
	return running, queued, failed
}

func TestTheJobListLooksAsItDid(t *testing.T) {
	h := newHouse(t)
	stand(t, h)
	golden(t, "jobs", h.visit(t, models.RoleOperator).page("/jobs"))
}

func TestAJobPageLooksAsItDid(t *testing.T) {
	h := newHouse(t)
	running, _, _ := stand(t, h)
	d := h.visit(t, models.RoleOperator).page("/jobs/" + running.ID)
	d.Find(".samples").Remove() // holds the port
	golden(t, "job", d)
}

func TestThePageOfTheCardsLooksAsItDid(t *testing.T) {
	h := newHouse(t)
	stand(t, h)
	golden(t, "gpus", h.visit(t, models.RoleOperator).page("/gpus"))
}

func TestTheStatusSentenceReadsAloud(t *testing.T) {
	h := newHouse(t)
	stand(t, h)
	s := h.visit(t, models.RoleViewer).page("/overview").Find(testid("sentence"))
	assert.Equal(t, "1 of 2 cards ready 1 running 1 queued oldest waits 0:48 done in about 0:38", words(s))
	assert.Equal(t, "backoff", s.Find("span").First().AttrOr("data-state", ""))
}

func TestOverviewListsWhatNeedsAttentionWorstFirst(t *testing.T) {
	h := newHouse(t)
	stand(t, h)
	h.workers = append(h.workers, models.Worker{Name: "gpu2", State: models.WorkerQuarantined, Reason: "crashed 5 times in 10 min"}, models.Worker{Name: "gpu3", State: models.WorkerDraining, WantDrain: true})
	var titles []string
	h.visit(t, models.RoleOperator).page("/overview").Find(testid("attention") + " .strong").Each(func(_ int, s *goquery.Selection) { titles = append(titles, words(s)) })
	assert.Equal(t, []string{"GPU 2 is quarantined", "GPU 1 is down and starts again by itself", "GPU 3 is drained"}, titles)
}

func TestACardThatTakesNothingIsNotCalledReady(t *testing.T) {
	h := newHouse(t)
	h.add(models.Job{WaitingReason: "no card takes jobs: gpu0, gpu1 draining, 0 ahead", CreatedAt: h.now.Add(-time.Minute)})
	h.workers = []models.Worker{
		{Name: "gpu0", Kind: models.WorkerManaged, State: models.WorkerDraining, WantDrain: true},
		{Name: "gpu1", Kind: models.WorkerManaged, State: models.WorkerStopped, WantDrain: true},
		{Name: "gpu2", Kind: models.WorkerManaged, State: models.WorkerQuarantined, Reason: "ended 5 times, the last time: killed for memory", Exits: []models.WorkerExit{{Signal: "SIGKILL", Reason: "killed for memory"}}},
	}
	v := h.visit(t, models.RoleViewer)
	assert.Contains(t, words(v.page("/overview").Find(testid("sentence"))), "0 of 3 cards ready")
	d := v.page("/gpus")
	for _, name := range []string{"gpu0", "gpu1"} {
		card := words(d.Find("#gpu-" + name))
		assert.Contains(t, card, "Drained. It takes nothing new until it is resumed.", name)
		assert.NotContains(t, card, "It starts when a job needs it")
	}
	assert.Equal(t, 1, strings.Count(words(d.Find("#gpu-gpu2")), "killed for memory"), "the same reason is not said twice")
	row := words(v.page("/jobs").Find(testid("job-row")))
	assert.Contains(t, row, "no card takes jobs: GPU 0, GPU 1 draining")
	assert.NotContains(t, row, "0 ahead")
}

func TestNothingATenantWritesBecomesMarkup(t *testing.T) {
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(2)>`
	h := newHouse(t)
	j := h.add(models.Job{State: models.JobFailed, TenantID: "t-evil", WorkflowSlug: evil, Worker: "gpu0", Attempts: 1, FinishedAt: &h.now, StartedAt: &h.now, ErrorCode: evil, Error: evil, LogTail: evil, Metadata: evil, KeyID: "k",
		NodeErrors: string(mustJSON(map[string]any{evil: map[string]any{"class_type": evil, "errors": []any{map[string]any{"message": evil, "details": evil}}}}))})
	h.tenants = append(h.tenants, models.Tenant{ID: "t-evil", Name: evil})
	h.keys = []models.APIKey{{ID: "k", Name: evil, Prefix: evil}}
	h.payloads[j.ID] = models.JobPayload{JobID: j.ID, Inputs: mustJSON(map[string]any{"params": map[string]string{evil: evil}}), Media: []models.MediaRef{{Name: evil, AssetID: "a", ContentType: evil}},
		Graph: mustJSON(map[string]any{evil: map[string]any{"class_type": evil, "_meta": map[string]any{"title": evil}, "inputs": map[string]any{"text": evil}}})}
	h.attempts[j.ID] = []models.Attempt{{ID: "a", Worker: evil, Detail: evil, PlacedBecause: evil, State: models.AttemptFailed, Cause: models.Cause(evil), StartedAt: &h.now, EndedAt: &h.now,
		NodeTimes: string(mustJSON([]models.NodeTime{{Node: evil, Class: evil, MS: 5}}))}}
	h.events[j.ID] = []models.Event{{Rev: 1, At: h.now, State: models.JobFailed, Kind: evil, Message: evil, Worker: evil}}
	h.deliveries = []models.Delivery{{ID: "m", JobID: j.ID, Event: evil, URL: evil, State: models.DeliveryFailed}}
	h.tries["m"] = []models.DeliveryAttempt{{Number: 1, Error: evil, Answer: []byte(evil)}}
	h.workers = []models.Worker{{Name: "gpu0", State: models.WorkerBackoff, Reason: evil, EngineVersion: evil, Models: []models.ResidentModel{{File: evil}}, Exits: []models.WorkerExit{{Reason: evil, LogTail: []string{evil}, JobID: evil}}}}
	h.logs["gpu0"] = []string{evil}
	h.keep(t, j, evil, "text", []byte(evil))
	v := h.visit(t, models.RoleOperator)
	for _, path := range []string{"/jobs", "/jobs?q=" + url.QueryEscape("id:"+strings.ReplaceAll(evil, " ", "")), "/jobs/" + j.ID, "/jobs/" + j.ID + "?tab=graph", "/jobs/" + j.ID + "?tab=json", "/jobs/" + j.ID + "?tab=events", "/jobs/" + j.ID + "?tab=deliveries", "/overview", "/gpus", "/gpus/gpu0", "/run/text-to-image?job=" + j.ID} {
		d := v.page(path)
		assert.Zero(t, d.Find("script:not([src])").Length(), path)
		assert.Zero(t, d.Find("[onerror]").Length(), path)
		assert.NotZero(t, d.Find("main").Length(), path)
	}
}

func TestTheJobPageSaysWhyAJobFailed(t *testing.T) {
	h := newHouse(t)
	_, _, failed := stand(t, h)
	d := h.visit(t, models.RoleViewer).page("/jobs/" + failed.ID)
	assert.Equal(t, "Failed", words(d.Find(testid("state"))))
	f := words(d.Find(testid("failure")))
	for _, part := range []string{"Node 14 (CheckpointLoaderSimple): value not in list.", "Value not in list", "cinema_xl.safetensors", "Code graph_rejected"} {
		assert.Contains(t, f, part)
	}
}

func TestTheJobPageSaysWhyAJobWaitsAndWhatRuns(t *testing.T) {
	h := newHouse(t)
	running, queued, _ := stand(t, h)
	v := h.visit(t, models.RoleViewer)
	assert.Equal(t, "Next in the queue. All cards are busy, 1 ahead.", words(v.page("/jobs/"+queued.ID).Find(testid("waiting"))))
	d := v.page("/jobs/" + running.ID)
	assert.Equal(t, "68 %", words(d.Find(testid("percent"))))
	assert.Contains(t, words(d.Find(testid("progress"))), "KSampler 13/20 6 of 11 nodes")
	assert.NotZero(t, d.Find("main "+testid("simulated")).Length(), "a simulated job says so")
}

func TestEveryPageSaysThatWorkersAreSimulated(t *testing.T) {
	h := newHouse(t)
	h.workers = []models.Worker{{Name: "sim0", Kind: models.WorkerSimulated, State: models.WorkerReady}, {Name: "sim1", Kind: models.WorkerSimulated, State: models.WorkerReady}}
	v := h.visit(t, models.RoleViewer)
	for _, path := range []string{"/overview", "/jobs", "/gpus", "/gpus/sim0", "/run/text-to-image"} {
		d := v.page(path)
		assert.Equal(t, 1, d.Find(".top "+testid("simulated")).Length(), path)
		assert.Contains(t, words(d.Find("#banner-sim")), "2 simulated workers stand in for cards", path)
	}
}

func TestEmptyPlacesSayWhatToDoNext(t *testing.T) {
	h := newHouse(t)
	v := h.visit(t, models.RoleOperator)
	assert.Contains(t, words(v.page("/jobs").Find(testid("empty"))), "No jobs yet")
	assert.Contains(t, words(v.page("/jobs?q=state:failed").Find(testid("empty"))), "No job matches state:failed")
	unreadable := words(v.page("/jobs?q=colour:red").Find(testid("empty")))
	assert.Contains(t, unreadable, "colour:red cannot be read")
	assert.Contains(t, unreadable, "keys are state, tenant")
	assert.Contains(t, words(v.page("/gpus").Find(testid("empty"))), "COMFYFLEET_WORKERS")
	assert.Equal(t, "Nothing does.", words(v.page("/overview").Find(testid("calm"))))
}

func TestWhatIsNotThereIsAPageThatSaysSo(t *testing.T) {
	v := newHouse(t).visit(t, models.RoleViewer)
	for _, path := range []string{"/jobs/nope", "/gpus/nope", "/run/nope", "/outputs/nope", "/nothing-here", "/jobs/x/preview", "/run/graph/gone"} {
		r := v.get(path)
		assert.Equal(t, http.StatusNotFound, r.status, path)
		assert.Equal(t, 1, r.doc(t).Find(testid("error")).Length(), path)
	}
}

func TestTabsCountUnderTheFilterAndPagesFollowOneAnother(t *testing.T) {
	h := newHouse(t)
	for i := range 120 {
		j := models.Job{State: models.JobSucceeded, TenantID: "t-acme", FinishedAt: &h.now, StartedAt: &h.now}
		if i%3 == 0 {
			j.TenantID = "t-default"
		}
		h.add(j)
	}
	v := h.visit(t, models.RoleViewer)
	d := v.page("/jobs?q=tenant:acme")
	assert.Contains(t, words(d.Find(".tabs")), "All 80")
	seen := map[string]bool{}
	pages := 0
	for next := "/jobs?q=tenant:acme"; next != ""; pages++ {
		d := v.page(next)
		d.Find(testid("job-row")).Each(func(_ int, s *goquery.Selection) {
			id := s.AttrOr("id", "")
			assert.False(t, seen[id], "%s twice", id)
			seen[id] = true
		})
		next = d.Find(`a[rel="next"]`).AttrOr("href", "")
	}
	assert.Len(t, seen, 80)
	assert.Equal(t, 2, pages)
}

func TestTheFilterFormPutsBothPartsIntoTheAddress(t *testing.T) {
	v := newHouse(t).visit(t, models.RoleViewer)
	r := v.get("/jobs?q=" + url.QueryEscape("state:failed tenant:acme") + "&add=" + url.QueryEscape("state:queued gpu:2"))
	assert.Equal(t, http.StatusSeeOther, r.status)
	assert.Equal(t, "/jobs?q="+url.QueryEscape("tenant:acme state:queued gpu:2"), r.header.Get("Location"))
	d := v.page("/jobs?q=" + url.QueryEscape("tenant:acme age:<24h"))
	var chips []string
	d.Find(testid("chip")).Each(func(_ int, s *goquery.Selection) { chips = append(chips, words(s)) })
	assert.Equal(t, []string{"tenant: acme", "age: <24h"}, chips)
}

func TestExportIsWhatTheFilterShows(t *testing.T) {
	h := newHouse(t)
	_, _, failed := stand(t, h)
	r := h.visit(t, models.RoleViewer).get("/jobs.json?q=state:failed")
	require.Equal(t, http.StatusOK, r.status)
	var got struct{ Jobs []exported }
	require.NoError(t, json.Unmarshal([]byte(r.body), &got))
	require.Len(t, got.Jobs, 1)
	assert.Equal(t, failed.ID, got.Jobs[0].ID)
	assert.Equal(t, "acme", got.Jobs[0].Tenant)
}

func TestEmbeddedFilesAreKeptForEverUnderTheirHashOnly(t *testing.T) {
	v := newHouse(t).visit(t, "")
	req := v.request(http.MethodGet, static.URL("css/base.css"), "", nil)
	req.Header.Set("Accept-Encoding", "gzip")
	r := v.do(req)
	assert.Equal(t, "gzip", r.header.Get("Content-Encoding"))
	assert.Contains(t, r.header.Get("Cache-Control"), "immutable")
	assert.Equal(t, "text/css; charset=utf-8", r.header.Get("Content-Type"))
	old := v.get("/static/000000000000/css/base.css")
	assert.Equal(t, http.StatusOK, old.status)
	assert.NotContains(t, old.header.Get("Cache-Control"), "immutable")
	assert.Equal(t, http.StatusNotFound, v.get("/static/x/../routes.go").status)
}

func TestAPreviewFrameIsServedAsThePictureThatItIs(t *testing.T) {
	h := newHouse(t)
	running, _, _ := stand(t, h)
	h.updates[running.ID] = jobs.Update{Preview: []byte("frame"), PreviewType: "image/jpeg", PreviewVersion: 3}
	v := h.visit(t, models.RoleViewer)
	r := v.get("/jobs/" + running.ID + "/preview?v=3")
	assert.Equal(t, "image/jpeg", r.header.Get("Content-Type"))
	assert.Equal(t, "frame", r.body)
	h.change(func() {
		h.updates[running.ID] = jobs.Update{Preview: []byte("<html>"), PreviewType: "text/html", PreviewVersion: 4}
	})
	assert.Equal(t, http.StatusNotFound, v.get("/jobs/"+running.ID+"/preview?v=4").status)
}

func TestAPageHasTheQuestionsOfWhatItsStreamMayOffer(t *testing.T) {
	h := newHouse(t)
	running, queued, failed := stand(t, h)
	v := h.visit(t, models.RoleOperator)
	for id, want := range map[string]int{running.ID: 2, queued.ID: 2, failed.ID: 0} { // a running job may have to wait again
		d := v.page("/jobs/" + id)
		assert.Equal(t, want, d.Find("#job-priority, #cancel-job").Length())
	}
}
