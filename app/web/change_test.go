package web

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"comfyfleet/app/jobs"
	"comfyfleet/models"
	"comfyfleet/workflows"
)

func TestWorkerVerbsDoWhatTheySayAndAreWrittenDown(t *testing.T) {
	h := newHouse(t)
	stand(t, h)
	h.workers = append(h.workers, models.Worker{Name: "gpu2", State: models.WorkerQuarantined}, models.Worker{Name: "gpu3", State: models.WorkerDisabled, WantDisabled: true}, models.Worker{Name: "gpu4", Kind: models.WorkerManaged, State: models.WorkerReady, WantDrain: true})
	v := h.visit(t, models.RoleOperator)
	for _, act := range []string{"gpu0/restart", "gpu1/start", "gpu2/clear", "gpu3/enable", "gpu4/free", "gpu4/resume", "gpu4/disable"} {
		r := v.post("/gpus/"+act, nil)
		require.Equal(t, http.StatusOK, r.status, "%s: %s", act, r.body)
		assert.Contains(t, r.body, `data-state="succeeded"`, act)
	}
	assert.Equal(t, []string{"restart gpu0", "start gpu1", "clear gpu2", "enable gpu3", "free gpu4", "resume gpu4", "disable gpu4"}, h.acts())
	require.Len(t, h.audit, 7)
	assert.Equal(t, "worker.restart", h.audit[0].Action)
	assert.Equal(t, "operator@example.com", h.audit[0].Actor)
}

func TestAVerbThatDoesNotFitTheStateIsRefusedWithTheReason(t *testing.T) {
	h := newHouse(t)
	stand(t, h)
	v := h.visit(t, models.RoleOperator)
	r := v.post("/gpus/gpu0/free", nil)
	assert.Equal(t, http.StatusConflict, r.status)
	assert.Contains(t, words(r.doc(t).Find(testid("toast"))), "GPU 0 is busy. Only an idle engine can unload its models.")
	assert.Equal(t, http.StatusBadRequest, v.post("/gpus/gpu0/explode", nil).status)
	assert.Equal(t, http.StatusNotFound, v.post("/gpus/gpu9/free", nil).status)
	assert.Empty(t, h.acts())
}

func TestDrainAllLeavesOutWhatIsDrained(t *testing.T) {
	h := newHouse(t)
	h.workers = []models.Worker{{Name: "a0", State: models.WorkerReady}, {Name: "a1", State: models.WorkerReady, WantDrain: true}, {Name: "a2", State: models.WorkerBusy}}
	v := h.visit(t, models.RoleOperator)
	assert.Contains(t, v.post("/drain-all", nil).body, "2 cards draining")
	assert.Equal(t, []string{"drain a0", "drain a2"}, h.acts())
}

func TestPausesAreSetClearedAndSaidOnEveryPage(t *testing.T) {
	h := newHouse(t)
	v := h.visit(t, models.RoleOperator)
	assert.Equal(t, "/overview", v.post("/pause/intake?to=on", nil).header.Get("HX-Redirect"))
	assert.Equal(t, jobs.Pauses{Intake: true}, h.paused)
	assert.Contains(t, words(v.page("/jobs").Find("#banner-intake")), "Intake is paused.")
	v.post("/pause/dispatch?to=on", nil)
	v.post("/pause/intake?to=off", nil)
	assert.Equal(t, jobs.Pauses{Dispatch: true}, h.paused)
	assert.Equal(t, http.StatusNotFound, v.post("/pause/everything?to=on", nil).status)
}

func TestAJobCanBeCanceledRetriedAndMoved(t *testing.T) {
	h := newHouse(t)
	running, queued, failed := stand(t, h)
	v := h.visit(t, models.RoleOperator)
	assert.Contains(t, v.post("/jobs/"+running.ID+"/cancel", nil).body, "canceled")
	assert.Contains(t, v.post("/jobs/"+running.ID+"/cancel", nil).body, "had ended already")
	assert.Contains(t, v.post("/jobs/"+queued.ID+"/priority", url.Values{"priority": {"50"}}).body, "is 50")
	assert.Equal(t, http.StatusBadRequest, v.post("/jobs/"+queued.ID+"/priority", url.Values{"priority": {"high"}}).status)
	to := v.post("/jobs/"+failed.ID+"/retry", nil).header.Get("HX-Redirect")
	assert.Equal(t, http.StatusOK, v.get(to).status)
	assert.Equal(t, []string{"cancel " + running.ID + " by operator@example.com", "priority " + queued.ID + " 50", "retry " + failed.ID}, h.acts())
}

func TestBulkActsOnTheSelectionAndCountsWhatItLeft(t *testing.T) {
	h := newHouse(t)
	running, queued, failed := stand(t, h)
	v := h.visit(t, models.RoleOperator)
	r := v.post("/jobs/bulk", url.Values{"verb": {"cancel"}, "ids": {strings.Join([]string{running.ID, queued.ID, failed.ID, "gone"}, " ")}})
	require.Equal(t, http.StatusOK, r.status, r.body)
	assert.Equal(t, "2 jobs canceled 1 job left alone.", strings.TrimSpace(words(r.doc(t).Find(testid("toast")+" b"))+" "+words(r.doc(t).Find(testid("toast")+" p"))))
}

func TestBulkActsOnEverythingThatMatches(t *testing.T) {
	h := newHouse(t)
	for i := range 130 {
		h.add(models.Job{TenantID: []string{"t-default", "t-acme"}[i%2]})
	}
	v := h.visit(t, models.RoleOperator)
	d := v.page("/jobs?q=" + url.QueryEscape("tenant:acme state:queued"))
	assert.Equal(t, "Select all 65 queued", words(d.Find("[data-select-matching]")))
	r := v.post("/jobs/bulk", url.Values{"verb": {"raise"}, "matching": {"1"}, "q": {"tenant:acme state:queued"}})
	assert.Contains(t, r.body, "65 jobs raised")
	for _, j := range h.jobs {
		assert.Equal(t, map[string]int{"t-acme": 10, "t-default": 0}[j.TenantID], j.Priority)
	}
	assert.Equal(t, http.StatusBadRequest, v.post("/jobs/bulk", url.Values{"verb": {"cancel"}, "matching": {"1"}, "q": {"colour:red"}}).status, "a filter that cannot be read matches nothing, not everything")
}

func TestAWebhookIsSentAgain(t *testing.T) {
	h := newHouse(t)
	furnish(t, h)
	v := h.visit(t, models.RoleOperator)
	d := v.page("/jobs/b41e07d2-0000-4000-8000-000000000001?tab=deliveries")
	assert.Contains(t, words(d.Find(".lines")), "502")
	assert.Contains(t, v.post("/deliveries/msg_1/again", nil).body, "Webhook queued again")
	assert.Equal(t, []string{"redeliver msg_1"}, h.acts())
}

// png is the smallest picture that sniffs as one.
var pngBytes = append([]byte("\x89PNG\r\n\x1a\n"), make([]byte, 64)...)

func TestTheFormRunsAWorkflowWithItsSample(t *testing.T) {
	h := newHouse(t)
	v := h.visit(t, models.RoleOperator)
	d := v.page("/run/image-resize-invert")
	ref := d.Find(`input[name="media.image"]`).AttrOr("value", "")
	assert.Equal(t, "sample:image-resize-invert/input.png", ref)
	preview := v.get(d.Find(testid("media-field")+" img").AttrOr("src", ""))
	assert.Equal(t, "image/png", preview.header.Get("Content-Type"))

	r := v.post("/run/image-resize-invert", url.Values{"p.width": {"640"}, "p.crop": {"center"}, "media.image": {ref}})
	require.Equal(t, http.StatusOK, r.status, r.body)
	require.Len(t, h.submitted, 1)
	sub := h.submitted[0]
	assert.Equal(t, "image-resize-invert@1", sub.WorkflowID)
	assert.Equal(t, "t-default", sub.TenantID)
	assert.Equal(t, models.OriginDashboard, sub.Origin)
	assert.Equal(t, `"640"`, string(sub.Params["width"]))
	assert.Equal(t, `"input.png"`, string(sub.Params["image"]))
	assert.NotContains(t, sub.Params, "height", "an empty field leaves the graph's own value")
	require.Len(t, sub.Media, 1)
	stored, size, err := h.blobs.Open(context.Background(), sub.Media[0].Blob.ID)
	require.NoError(t, err)
	defer stored.Close()
	assert.EqualValues(t, len(h.library[0].Sample["input.png"]), size)

	var trigger map[string]string
	require.NoError(t, json.Unmarshal([]byte(r.header.Get("HX-Trigger")), &trigger))
	assert.Equal(t, "/live/run?slug=image-resize-invert&job="+h.jobs[0].ID, trigger["live"])
	assert.Equal(t, shortID(h.jobs[0].ID), words(r.doc(t).Find(testid("job-link"))))
}

func TestAnUploadedFileServesSeveralRuns(t *testing.T) {
	h := newHouse(t)
	v := h.visit(t, models.RoleOperator)
	r := v.upload("/run/media?field=image&label=Picture&type=image", `C:\pictures\me.png`, pngBytes)
	require.Equal(t, http.StatusOK, r.status, r.body)
	ref := r.doc(t).Find(`input[name="media.image"]`).AttrOr("value", "")
	assert.Contains(t, words(r.doc(t).Find(testid("media-field"))), "me.png")
	for range 2 {
		require.Equal(t, http.StatusOK, v.post("/run/image-resize-invert", url.Values{"media.image": {ref}}).status)
	}
	require.Len(t, h.submitted, 2)
	assert.Equal(t, "me.png", h.submitted[0].Media[0].Name)
	assert.NotEqual(t, h.submitted[0].Media[0].Blob.ID, h.submitted[1].Media[0].Blob.ID, "each job owns its copy")
	assert.Equal(t, "image/png", v.get("/run/media/"+strings.TrimPrefix(ref, refUpload)).header.Get("Content-Type"))
}

func TestAnUploadBeyondTheLimitIsRefusedInItsField(t *testing.T) {
	h := newHouse(t)
	v := h.visit(t, models.RoleOperator)
	over := v.upload("/run/media?field=image&label=Picture&type=image", "big.png", make([]byte, jobs.MaxMediaBytes+1))
	assert.Contains(t, words(over.doc(t).Find(testid("media-problem"))), "larger than 50 MiB")
	empty := v.upload("/run/media?field=image&label=Picture&type=image", "empty.png", nil)
	assert.Contains(t, words(empty.doc(t).Find(testid("media-problem"))), "empty")
}

func TestARefusedRunKeepsTheFormAndSaysWhatWasWrong(t *testing.T) {
	h := newHouse(t)
	h.refuse = &models.Error{Code: models.CodeUnprocessed, Name: "bad_value", Detail: "params.width: must be at most 4096", Fields: []models.FieldError{{Field: "params.width", Detail: "must be at most 4096"}}}
	v := h.visit(t, models.RoleOperator)
	form := url.Values{"p.width": {"9999"}, "media.image": {"sample:image-resize-invert/input.png"}}
	r := v.post("/run/image-resize-invert", form)
	require.Equal(t, http.StatusUnprocessableEntity, r.status)
	d := r.doc(t)
	assert.Equal(t, "9999", d.Find("#p-width").AttrOr("value", ""))
	assert.Equal(t, "true", d.Find("#p-width").AttrOr("aria-invalid", ""))
	assert.Equal(t, "Must be at most 4096.", words(d.Find("#p-width-err")))
	assert.Equal(t, "sample:image-resize-invert/input.png", d.Find(`input[name="media.image"]`).AttrOr("value", ""))

	h.refuse = models.Errorf(models.CodeLimited, "queue_full", "the queue is full")
	r = v.post("/run/image-resize-invert", form)
	assert.Equal(t, "The queue is full.", words(r.doc(t).Find(testid("form-problem"))))
	r = v.post("/run/image-resize-invert", url.Values{"media.image": {"upload:gone"}})
	assert.Contains(t, words(r.doc(t).Find(testid("media-problem"))), "choose it again")
	assert.Len(t, h.submitted, 2, "a missing file is refused before it is submitted")
}

func TestADroppedGraphGetsAFormAndRuns(t *testing.T) {
	h := newHouse(t)
	v := h.visit(t, models.RoleOperator)
	graph := `{"1":{"class_type":"LoadImage","inputs":{"image":"a.png"}},"2":{"class_type":"CLIPTextEncode","inputs":{"text":"a hill","clip":["3",1]}},"3":{"class_type":"CheckpointLoaderSimple","inputs":{"ckpt_name":"x.safetensors"}},` +
		`"4":{"class_type":"KSampler","inputs":{"seed":5,"steps":20,"cfg":7.0,"positive":["2",0],"negative":["2",0],"model":["3",0],"latent_image":["1",0]}},"9":{"class_type":"SaveImage","inputs":{"images":["4",0],"filename_prefix":"x"}}}`
	to := v.upload("/run/graph", "mine.json", []byte(graph)).header.Get("HX-Redirect")
	require.True(t, strings.HasPrefix(to, "/run/graph/"), to)
	d := v.page(to)
	assert.Equal(t, "mine", words(d.Find("#run-form h1")))
	prompt, _ := d.Find("#run-form textarea").First().Attr("name")
	r := v.post(to, url.Values{prompt: {"a <b>lake</b>"}})
	require.Equal(t, http.StatusOK, r.status, r.body)
	require.Len(t, h.submitted, 1)
	g, err := workflows.Parse(h.submitted[0].Workflow)
	require.NoError(t, err)
	n, _ := g.Node("2")
	text, _ := n.Input("text")
	assert.JSONEq(t, `"a <b>lake</b>"`, string(text))
	assert.Empty(t, h.submitted[0].WorkflowID)
}

func TestAFileThatIsNoGraphIsRefusedWithTheReason(t *testing.T) {
	v := newHouse(t).visit(t, models.RoleOperator)
	for content, want := range map[string]string{
		`{"last_node_id":3,"nodes":[{"id":1,"type":"KSampler"}],"links":[],"version":0.4}`: "Export (API)",
		`[]`: "", `not json`: "", ``: "",
	} {
		r := v.upload("/run/graph", "x.json", []byte(content))
		assert.GreaterOrEqual(t, r.status, 400, content)
		assert.Contains(t, words(r.doc(t).Find(testid("graph-problem"))), want, content)
		assert.NotEmpty(t, words(r.doc(t).Find(testid("graph-problem"))), content)
	}
	big := v.upload("/run/graph", "x.json", bytes.Repeat([]byte(" "), jobs.MaxGraphBytes+1))
	assert.Equal(t, http.StatusRequestEntityTooLarge, big.status)
}

func TestRunAgainIsFilledInWithWhatTheJobRanWith(t *testing.T) {
	h := newHouse(t)
	j := h.add(models.Job{State: models.JobSucceeded, TenantID: "t-acme", WorkflowSlug: "image-resize-invert", WorkflowVersion: 1})
	h.store(t, "0a5e0000-0000-4000-8000-00000000a55e", pngBytes)
	h.payloads[j.ID] = models.JobPayload{JobID: j.ID, Inputs: []byte(`{"params":{"image":"cat.png","width":777}}`), Media: []models.MediaRef{{Name: "cat.png", AssetID: "0a5e0000-0000-4000-8000-00000000a55e", ContentType: "image/png"}}}
	v := h.visit(t, models.RoleOperator)
	d := v.page("/run/job/" + j.ID)
	assert.Equal(t, "777", d.Find("#p-width").AttrOr("value", ""))
	ref := d.Find(`input[name="media.image"]`).AttrOr("value", "")
	assert.Equal(t, "asset:0a5e0000-0000-4000-8000-00000000a55e", ref)
	assert.Equal(t, "acme", words(d.Find("#tenant option[selected]")))
	require.Equal(t, http.StatusOK, v.post("/run/job/"+j.ID, url.Values{"p.width": {"778"}, "media.image": {ref}, "tenant": {"t-acme"}}).status)
	assert.Equal(t, "t-acme", h.submitted[0].TenantID)
	assert.Equal(t, `"778"`, string(h.submitted[0].Params["width"]))
}

func TestOutputsAreServedSandboxedWithRanges(t *testing.T) {
	h := newHouse(t)
	j := h.add(models.Job{State: models.JobSucceeded})
	image := h.keep(t, j, "a.png", "image", pngBytes)
	page := h.keep(t, j, "evil.html", "text", []byte("<html><script>alert(1)</script></html>"))
	drawing := h.keep(t, j, "evil.svg", "image", []byte(`<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`))
	v := h.visit(t, models.RoleViewer)

	r := v.get("/outputs/" + image.ID)
	assert.Equal(t, "image/png", r.header.Get("Content-Type"))
	assert.Contains(t, r.header.Get("Content-Security-Policy"), "sandbox")
	assert.Equal(t, "nosniff", r.header.Get("X-Content-Type-Options"))
	for _, o := range []models.Output{page, drawing} {
		r := v.get("/outputs/" + o.ID)
		assert.True(t, strings.HasPrefix(r.header.Get("Content-Disposition"), "attachment"), o.Filename)
		assert.Equal(t, "application/octet-stream", r.header.Get("Content-Type"), o.Filename)
		assert.Contains(t, r.header.Get("Content-Security-Policy"), "sandbox")
	}
	req := v.request(http.MethodGet, "/outputs/"+image.ID, "", nil)
	req.Header.Set("Range", "bytes=1-3")
	part := v.do(req)
	assert.Equal(t, http.StatusPartialContent, part.status)
	assert.Equal(t, "PNG", part.body)
	assert.True(t, strings.HasPrefix(v.get("/outputs/"+image.ID+"?download=1").header.Get("Content-Disposition"), "attachment"))

	d := v.page("/jobs/" + j.ID)
	assert.Equal(t, 1, d.Find(testid("output")+"[data-kind=image] img").Length(), "the drawing is not shown as a picture")
	assert.Contains(t, d.Find(testid("output")+"[data-kind=text] pre").Text(), "<script>alert(1)</script>")
}

func TestAllOutputsComeAsOneArchive(t *testing.T) {
	h := newHouse(t)
	j := h.add(models.Job{State: models.JobSucceeded})
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	h.keep(t, j, "a.bin", "file", big)
	h.keep(t, j, "b.txt", "text", []byte("hello"))
	v := h.visit(t, models.RoleViewer)
	r := v.get("/jobs/" + j.ID + "/outputs.zip")
	require.Equal(t, http.StatusOK, r.status)
	z, err := zip.NewReader(strings.NewReader(r.body), int64(len(r.body)))
	require.NoError(t, err)
	require.Len(t, z.File, 2)
	f, err := z.File[0].Open()
	require.NoError(t, err)
	content, err := io.ReadAll(f)
	require.NoError(t, err)
	assert.Equal(t, big, content)
	assert.Equal(t, shortID(j.ID)+"_b.txt", z.File[1].Name)
}

func TestAnArchiveThatCannotBeFinishedIsCutOffNotShort(t *testing.T) {
	h := newHouse(t)
	j := h.add(models.Job{State: models.JobSucceeded})
	h.keep(t, j, "a.txt", "text", []byte("hello"))
	lost := h.keep(t, j, "b.txt", "text", []byte("lost"))
	require.NoError(t, h.blobs.Delete(context.Background(), lost.ID))
	v := h.visit(t, models.RoleViewer)
	resp, err := v.client.Do(v.request(http.MethodGet, "/jobs/"+j.ID+"/outputs.zip", "", nil))
	if err == nil {
		defer resp.Body.Close()
		_, err = io.ReadAll(resp.Body)
	}
	assert.Error(t, err, "the reader must see that the archive is not whole")
}

func TestUploadsAreBoundedAndForgotten(t *testing.T) {
	h := newHouse(t)
	u := newUploads(h.blobs, h.clock)
	ctx := context.Background()
	for i := range maxUploads + 3 {
		_, err := u.store(ctx, fmt.Sprintf("00000000-0000-4000-8000-%012d", i), "x", strings.NewReader("x"), 10)
		require.NoError(t, err)
		h.change(func() { h.now = h.now.Add(1) })
	}
	assert.Len(t, u.byID, maxUploads)
	_, err := u.get("00000000-0000-4000-8000-000000000000")
	assert.Equal(t, models.CodeNotFound, models.ErrorCode(err))
	h.change(func() { h.now = h.now.Add(uploadLife + 1) })
	_, err = u.store(ctx, "00000000-0000-4000-8000-0000000fffff", "x", strings.NewReader("x"), 10)
	require.NoError(t, err)
	assert.Len(t, u.byID, 1)
	_, _, err = h.blobs.Open(ctx, "00000000-0000-4000-8000-000000000010")
	assert.Equal(t, models.CodeNotFound, models.ErrorCode(err), "its bytes are gone too")
}
