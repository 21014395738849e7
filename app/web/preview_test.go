package web

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/app/auth"
	"comfyfleet/app/jobs"
	"comfyfleet/models"
)

// TestPreview serves the dashboard with made-up data until it is interrupted: COMFYFLEET_PREVIEW=127.0.0.1:8099 go test
// -run TestPreview -timeout 0 ./app/web. Sign in as admin@example.com with "preview-password".
func TestPreview(t *testing.T) {
	address := os.Getenv("COMFYFLEET_PREVIEW")
	if address == "" {
		t.Skip("set COMFYFLEET_PREVIEW to an address to look at the dashboard")
	}
	h := newHouse(t)
	h.detail = 1
	furnish(t, h)
	ln, err := net.Listen("tcp", address)
	require.NoError(t, err)
	t.Logf("dashboard at %s", h.serve(t, ln))
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(stop)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			h.change(func() {
				h.now = time.Now().UTC()
				for i := range h.jobs {
					if p := &h.jobs[i].Progress; h.jobs[i].State == models.JobRunning && p.Percent < 99 {
						p.Percent++
						p.Value = min(p.Max, p.Value+1)
					}
				}
			})
		case <-stop:
			return
		}
	}
}

// previewHash is made once: hashing is meant to be slow.
var previewHash = sync.OnceValue(func() string {
	hash, err := auth.HashPassword("preview-password")
	if err != nil {
		panic(err)
	}
	return hash
})

// furnish fills the house with a working day.
func furnish(t testing.TB, h *house) {
	t.Helper()
	h.now = time.Now().UTC()
	hash := previewHash()
	h.people = append(h.people,
		models.Operator{ID: "o-a", Email: "admin@example.com", Role: models.RoleAdmin, PasswordHash: hash},
		models.Operator{ID: "o-v", Email: "viewer@example.com", Role: models.RoleViewer, PasswordHash: hash})
	h.tenants = append(h.tenants, models.Tenant{ID: "t-north", Name: "northlight"}, models.Tenant{ID: "t-kestrel", Name: "kestrel-studio"})
	h.keys = []models.APIKey{{ID: "k1", TenantID: "t-acme", Name: "render-farm", Prefix: "cfk_8f3aQ2xL"}}
	furnishCards(h)
	furnishJobs(t, h)
	for i := range models.DayBuckets {
		f := float64((i*37)%48) / 48
		h.day.Buckets = append(h.day.Buckets, models.DayBucket{From: h.now.Add(-time.Duration(48-i) * 30 * time.Minute),
			OldestWaitMS: int64(20_000 + 40_000*f), WaitP90MS: int64(9_000 + 30_000*f*f), Finished: 26, Failed: i % 3 / 2, BusyPercent: int(40 + 50*f)})
	}
	h.day.WaitP90MS, h.day.WaitP90DayMS, h.day.Finished, h.day.Failed, h.day.BusyPercent, h.day.BusyDayPercent = 31_000, 26_000, 1238, 22, 71, 64
}

func furnishCards(h *house) {
	at := func(d time.Duration) *time.Time { x := h.now.Add(-d); return &x }
	next := h.now.Add(41 * time.Second)
	card := func(i int) *models.Card {
		return &models.Card{Index: i, UUID: fmt.Sprintf("GPU-5c1f%04x-aaaa-bbbb-cccc-0000d03ae0a%d", i*977, i), Name: "NVIDIA L40S", PCI: fmt.Sprintf("00000000:%02X:00.0", 0x3b+i*0x23), MemoryTotal: 48_305_799_168}
	}
	h.workers = []models.Worker{
		{Name: "gpu0", Kind: models.WorkerManaged, State: models.WorkerBusy, Since: h.now, URL: "http://127.0.0.1:8190", PID: 42310, EngineVersion: "0.33.0", StartedAt: at(76 * time.Hour), JobsDone: 412, RSS: 9_800_000_000,
			Card: card(0), VRAMTotal: 47_803_000_000, VRAMFree: 6_000_000_000, Telemetry: &models.Telemetry{GPUUtil: 98, MemoryUsed: 42_400_000_000, Temperature: 71, Power: 318, PowerLimit: 350, ClockSM: 2490, ClockMem: 9001},
			Models: []models.ResidentModel{{File: "wan2.2_i2v_high_noise_14B_fp8_scaled.safetensors", Size: 14_300_000_000, LastUsed: h.now}, {File: "wan2.2_i2v_low_noise_14B_fp8_scaled.safetensors", Size: 14_300_000_000, LastUsed: h.now}, {File: "umt5_xxl_fp8_e4m3fn_scaled.safetensors", Size: 6_700_000_000, LastUsed: h.now.Add(-9 * time.Minute)}}},
		{Name: "gpu1", Kind: models.WorkerManaged, State: models.WorkerBusy, Since: h.now, URL: "http://127.0.0.1:8191", PID: 42311, EngineVersion: "0.33.0", StartedAt: at(76 * time.Hour), JobsDone: 688, RSS: 4_100_000_000,
			Card: card(1), VRAMTotal: 47_803_000_000, VRAMFree: 15_000_000_000, Telemetry: &models.Telemetry{GPUUtil: 99, MemoryUsed: 33_100_000_000, Temperature: 69, Power: 331, PowerLimit: 350},
			Models: []models.ResidentModel{{File: "flux1-dev.safetensors", Size: 23_800_000_000, LastUsed: h.now}, {File: "t5xxl_fp8_e4m3fn.safetensors", Size: 4_900_000_000, LastUsed: h.now}}},
		{Name: "gpu2", Kind: models.WorkerManaged, State: models.WorkerReady, Since: h.now, IdleSince: at(48 * time.Second), URL: "http://127.0.0.1:8192", PID: 42312, EngineVersion: "0.33.0", StartedAt: at(9*time.Hour + 12*time.Minute), JobsDone: 201, Restarts: 1, RSS: 5_400_000_000,
			Card: card(2), VRAMTotal: 47_803_000_000, VRAMFree: 26_000_000_000, Telemetry: &models.Telemetry{GPUUtil: 0, MemoryUsed: 21_900_000_000, Temperature: 52, Power: 104, PowerLimit: 350}},
		{Name: "gpu3", Kind: models.WorkerManaged, State: models.WorkerBackoff, Since: h.now.Add(-19 * time.Second), Reason: "crashed 3 times in 20 min", NextStartAt: &next, URL: "http://127.0.0.1:8193", Restarts: 3, JobsDone: 74,
			Card: card(3), Telemetry: &models.Telemetry{MemoryUsed: 400_000_000, Temperature: 38, Power: 36, PowerLimit: 350},
			Exits: []models.WorkerExit{{At: h.now.Add(-19 * time.Second), PID: 42502, Code: 137, Signal: "SIGKILL", Reason: "killed for memory", Uptime: 31 * time.Second, LogTail: []string{"got prompt", "Requested to load WAN21", "Killed"}}}},
	}
	kinds := []models.SpanKind{models.SpanSampling, models.SpanIdle, models.SpanLoading, models.SpanSampling, models.SpanSampling, models.SpanLoading, models.SpanDown}
	for n, w := range h.workers {
		from := h.now.Add(-time.Hour)
		for i := 0; from.Before(h.now); i++ {
			kind := kinds[(i*(n+2)+n)%len(kinds)]
			if kind == models.SpanDown && n < 3 {
				kind = models.SpanSampling
			}
			to := from.Add(time.Duration(2+(i*7+n*3)%9) * time.Minute)
			h.spans[w.Name] = append(h.spans[w.Name], models.Span{From: from, To: to, Kind: kind})
			from = to
		}
		h.logs[w.Name] = []string{"got prompt", "Requested to load Flux", "loaded completely 33904.6 22700.1 True", "clip missing: ['text_projection.weight']", "100%|##########| 20/20 [00:08<00:00,  2.31it/s]", "Prompt executed in 8.94 seconds"}
	}
	h.logs["gpu3"] = append(h.logs["gpu3"], "CUDA error: an illegal memory access was encountered", "Traceback (most recent call last):")
}

func furnishJobs(t testing.TB, h *house) {
	t.Helper()
	at := func(d time.Duration) *time.Time { x := h.now.Add(-d); return &x }
	names := []string{"wan22-smooth-loop", "text-to-image", "image-resize-invert", "text-to-text"}
	tenants := []string{"t-default", "t-acme", "t-north", "t-kestrel"}
	for i := range 70 {
		j := models.Job{State: models.JobSucceeded, WorkflowSlug: names[i%4], WorkflowVersion: 1 + i%3, TenantID: tenants[i%4], Worker: fmt.Sprintf("gpu%d", i%3),
			CreatedAt: *at(time.Duration(75-i) * 7 * time.Minute), Attempts: 1, Progress: models.Progress{Percent: 100}}
		start := j.CreatedAt.Add(time.Duration(300+i*400) * time.Millisecond)
		end := start.Add(time.Duration(6+i%30) * time.Second)
		j.StartedAt, j.FinishedAt = &start, &end
		switch i % 9 {
		case 4:
			j.State, j.ErrorCode, j.Error, j.Attempts = models.JobFailed, "out_of_memory", "out of memory in 3 attempts, the last on a fresh worker: VAEDecodeTiled", 3
		case 6:
			j.State, j.Error, j.StartedAt = models.JobCanceled, "Cancelled by user", nil
		case 7:
			j.State, j.Error, j.StartedAt = models.JobExpired, "the job did not start within its timeout_seconds", nil
		}
		j = h.add(j)
		if j.State == models.JobSucceeded && i > 40 {
			h.keep(t, j, "image_00001.png", "image", h.picture(t, float64(i)/9, 480, 270))
		}
	}
	furnishDetail(t, h)
	for i := range 6 {
		reasons := []string{"waits for warm GPU 2, saves 11 s", "share used up, 2 of 2 running", "all cards busy, 3 ahead"}
		h.add(models.Job{WorkflowSlug: names[i%4], WorkflowVersion: 2, TenantID: tenants[i%4], CreatedAt: *at(time.Duration(60-i*8) * time.Second), WaitingReason: reasons[i%3]})
	}
	for i := range 2 {
		j := h.add(models.Job{State: models.JobRunning, Phase: models.PhaseExecuting, WorkflowSlug: names[i], WorkflowVersion: 12, TenantID: tenants[i], Worker: fmt.Sprintf("gpu%d", i), Attempts: 1, Origin: models.OriginDashboard,
			CreatedAt: *at(126 * time.Second), StartedAt: at(124 * time.Second), Progress: models.Progress{Percent: 42 + 26*i, Value: 13, Max: 20, NodesDone: 6, NodesTotal: 11, CurrentNode: "3", CurrentClass: "KSampler", LastEventAt: at(time.Second)}})
		h.workers[i].ExecutingJobID, h.workers[i].Executing = j.ID, "p"
		h.payloads[j.ID] = models.JobPayload{JobID: j.ID, Graph: h.library[3].Graph}
		h.attempts[j.ID] = []models.Attempt{{ID: "p", JobID: j.ID, Worker: j.Worker, Number: 1, State: models.AttemptExecuting, StartedAt: j.StartedAt, PlacedBecause: "it was ready", PID: 42310 + i}}
		h.updates[j.ID] = jobs.Update{Preview: h.picture(t, 0.3, 320, 180), PreviewType: "image/png", PreviewVersion: 7}
	}
}

// furnishDetail adds a job with all that its page can show.
func furnishDetail(t testing.TB, h *house) {
	t.Helper()
	at := func(d time.Duration) *time.Time { x := h.now.Add(-d); return &x }
	j := h.add(models.Job{ID: "b41e07d2-0000-4000-8000-000000000001", State: models.JobSucceeded, WorkflowSlug: "text-to-image", WorkflowVersion: 1, TenantID: "t-acme", KeyID: "k1", Worker: "gpu1", Attempts: 2, Faults: 1,
		CreatedAt: *at(94 * time.Second), StartedAt: at(88 * time.Second), FinishedAt: at(49 * time.Second), PromptID: "0f3c2a77-0000-4000-8000-000000000000", WebhookURL: "https://hooks.example.com/acme", Revision: 9,
		Progress: models.Progress{Percent: 100, NodesDone: 7, NodesTotal: 7}, Metrics: models.Metrics{QueueMS: 6100, LoadMS: 11400, ExecMS: 8900, CollectMS: 300, GPUMS: 38300}})
	times, err := json.Marshal([]models.NodeTime{{Node: "6", Class: "CLIPTextEncode", StartMS: 0, MS: 11700, LoadMS: 11400}, {Node: "7", Class: "CLIPTextEncode", StartMS: 11700, MS: 200}, {Node: "5", Class: "EmptyLatentImage", Cached: true, StartMS: 11900}, {Node: "3", Class: "KSampler", StartMS: 11900, MS: 7400, Steps: 50}, {Node: "8", Class: "VAEDecode", StartMS: 19300, MS: 600}, {Node: "9", Class: "SaveImage", StartMS: 19900, MS: 300}})
	require.NoError(t, err)
	h.attempts[j.ID] = []models.Attempt{
		{ID: "a1", JobID: j.ID, Worker: "gpu3", Number: 1, State: models.AttemptLost, Cause: models.CausePoisoned, Detail: "CUDA error in node 3. The process was restarted; the job kept its place.", PID: 41877, StartedAt: at(88 * time.Second), EndedAt: at(70 * time.Second), PlacedBecause: "it was ready",
			LogTail: "got prompt\nRequested to load Flux\nloaded completely 33904.6 22700.1 True\nclip missing: text_projection.weight\nCUDA error: an illegal memory access was encountered"},
		{ID: "a2", JobID: j.ID, Worker: "gpu1", Number: 2, State: models.AttemptSucceeded, PID: 42310, StartedAt: at(70 * time.Second), EndedAt: at(49 * time.Second), LoadMS: 11400, ExecMS: 8900, CollectMS: 300, NodeTimes: string(times), PlacedBecause: "GPU 1 was free and the job was lost on GPU 3"},
	}
	h.payloads[j.ID] = models.JobPayload{JobID: j.ID, Graph: h.library[1].Graph, Inputs: []byte(`{"params":{"prompt":"Mountain ridges at sunrise, mist between the layers, 85 mm, soft haze","seed":8112904477,"steps":50}}`)}
	h.keep(t, j, "ridge_00001.png", "image", h.picture(t, 0.1, 768, 768))
	h.keep(t, j, "ridge_00002.png", "image", h.picture(t, 0.6, 768, 768))
	h.keep(t, j, "notes.txt", "text", []byte("A text output with <script>alert(1)</script> in it.\n"))
	for i, kind := range []string{models.EventAccepted, models.EventClaimed, models.EventStarted, models.EventRequeued, models.EventClaimed, models.EventStarted, models.EventCollecting, models.EventSucceeded} {
		states := []models.JobState{models.JobQueued, models.JobQueued, models.JobRunning, models.JobQueued, models.JobQueued, models.JobRunning, models.JobRunning, models.JobSucceeded}
		h.events[j.ID] = append(h.events[j.ID], models.Event{JobID: j.ID, Rev: int64(i + 1), At: j.CreatedAt.Add(time.Duration(i*5) * time.Second), Kind: kind, State: states[i], Message: "as it happened", Worker: "gpu1"})
	}
	h.deliveries = []models.Delivery{{ID: "msg_1", JobID: j.ID, Event: "job.completed", URL: j.WebhookURL, State: models.DeliveryDelivered, Attempts: 2}}
	h.tries["msg_1"] = []models.DeliveryAttempt{{Number: 1, At: *at(40 * time.Second), Status: 502, LatencyMS: 84, Error: "the endpoint answered 502", Answer: []byte("<html>bad gateway</html>")}, {Number: 2, At: *at(30 * time.Second), Status: 200, LatencyMS: 61}}
	h.add(models.Job{State: models.JobFailed, TenantID: "t-acme", Worker: "gpu0", Attempts: 1, CreatedAt: *at(5 * time.Minute), StartedAt: at(4 * time.Minute), FinishedAt: at(4 * time.Minute), ErrorCode: "graph_rejected",
		Error: "node 14 (CheckpointLoaderSimple): value not in list", NodeErrors: `{"14":{"class_type":"CheckpointLoaderSimple","errors":[{"message":"Value not in list","details":"ckpt_name: 'cinema_xl.safetensors' not in []"}]}}`})
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
