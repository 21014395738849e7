package e2e

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// playing plays the page's video and answers its length and the place it reached, in seconds.
const playing = `(async () => {
	const v = document.querySelector("[data-testid=output] video");
	v.muted = true;
	const moved = new Promise((done, fail) => {
		v.ontimeupdate = () => { if (v.currentTime > 0) done() };
		v.onerror = () => fail(new Error(v.error.message));
	});
	await v.play();
	await moved;
	return [v.duration, v.currentTime];
})()`

// download fetches what a link of the page leads to, with the page's own rights, and answers its SHA-256 in hex.
const download = `(async () => {
	const r = await fetch(document.querySelector("[data-testid=output][data-kind=video] a[download]").href);
	const sum = await crypto.subtle.digest("SHA-256", await r.arrayBuffer());
	return [...new Uint8Array(sum)].map((b) => b.toString(16).padStart(2, "0")).join("");
})()`

// watchRun notes every percentage and every preview that the result shows from now on.
const watchRun = `(() => {
	window.seen = {percents: [], previews: []};
	new MutationObserver(() => {
		const text = document.querySelector("#result [data-testid=percent]")?.textContent;
		const percent = text === undefined ? NaN : parseInt(text);
		if (!Number.isNaN(percent) && percent !== seen.percents.at(-1)) seen.percents.push(percent);
		const img = document.querySelector("#result img.full[src*='/preview']");
		if (img && img.complete && img.naturalWidth > 0 && img.src !== seen.previews.at(-1)) seen.previews.push(img.src);
	}).observe(document.body, {subtree: true, childList: true, characterData: true, attributes: true});
	return true;
})()`

func TestABundledWorkflowRunsFromItsFormToItsVideo(t *testing.T) {
	inBrowser(t)
	s := startService(t, "COMFYFLEET_SIM_ARGS=--speed 2")
	p := signedIn(t, s, adminEmail)
	p.open("/run/wan22-smooth-loop")
	picture := filepath.Join(t.TempDir(), "my dunes.png")
	require.NoError(t, os.WriteFile(picture, sample(t, "wan22-smooth-loop", "107.png"), 0o600))
	p.fill("textarea[name='p.prompt'], textarea", "Dunes at dusk, wind over the crest")
	p.click("[data-testid=media-field] button[aria-label^=Remove]") // the sample; a picture of our own takes its place
	p.see("[data-testid=media-field]", "Drop a file")
	p.choose("[data-testid=media-field] input[type=file]", picture)
	p.see("[data-testid=media-field]", "my dunes.png")
	mustEval[bool](p, watchRun)
	p.click("[data-testid=run]")
	p.until("a preview", "seen.previews.length > 0")
	p.shot("run-under-way")
	p.until("the video", `document.querySelector("#result [data-testid=output] video")`)

	var seen struct {
		Percents []int
		Previews []string
	}
	require.NoError(t, json.Unmarshal([]byte(mustEval[string](p, "JSON.stringify(seen)")), &seen))
	require.GreaterOrEqual(t, len(seen.Percents), 4, "percentages on the page: %v", seen.Percents)
	require.IsIncreasing(t, seen.Percents)
	played := mustEval[[]float64](p, playing)
	require.Positive(t, played[0], "length")
	require.Positive(t, played[1], "place")
	mustEval[bool](p, `(document.querySelector("[data-testid=output] video").marked = true)`)
	p.snapshot()
	require.True(t, mustEval[bool](p, `(() => { const v = document.querySelector("[data-testid=output] video"); return v.marked && !v.paused && v.currentTime > 0 })()`), "it plays on when the page is sent again")

	id := strings.TrimPrefix(mustEval[string](p, `new URL(document.querySelector("[data-testid=job-link]").href).pathname`), "/jobs/")
	require.Contains(t, p.path(), "job="+id, "the page can be reloaded and shared")
	job := s.finish(id, "completed")
	video := ""
	for _, o := range job.Outputs {
		if o.Type == "video" {
			video = o.SHA256
		}
	}
	require.Len(t, video, 64)
	require.Equal(t, video, mustEval[string](p, download), "the download against what the API says")
	p.shot("run-done")

	p.open(p.path())
	p.see("#result", "succeeded")
	p.click("#result a[href^='/run/job/']")
	p.until("the form with what was run", `location.pathname.startsWith("/run/job/") && document.querySelector("#run-form textarea").value.startsWith("Dunes at dusk")`)
}

func TestADroppedGraphRunsAndTheEditorsFormatIsExplained(t *testing.T) {
	inBrowser(t)
	s := startService(t, "COMFYFLEET_WORKERS=sim:1", "COMFYFLEET_MIN_READY=1")
	p := signedIn(t, s, adminEmail)
	p.expect("422") // the refusal
	dir := t.TempDir()
	editor := filepath.Join(dir, "from-the-editor.json")
	require.NoError(t, os.WriteFile(editor, []byte(`{"last_node_id":1,"last_link_id":0,"version":0.4,"links":[],"groups":[],
		"nodes":[{"id":1,"type":"KSampler","pos":[0,0],"inputs":[],"outputs":[],"widgets_values":[1]}]}`), 0o600))
	p.open("/run")
	p.choose(".picker input[type=file]", editor)
	p.see("[data-testid=graph-problem]", "Export (API)")

	raw, err := json.Marshal(steps(3, 0.05))
	require.NoError(t, err)
	graph := filepath.Join(dir, "three-steps.json")
	require.NoError(t, os.WriteFile(graph, raw, 0o600))
	p.choose(".picker input[type=file]", graph)
	p.see("#run-form h1", "three-steps")
	p.click("[data-testid=run]")
	p.until("the picture", `document.querySelector("#result [data-testid=output] img")?.naturalWidth > 0`)
	p.see("#result", "succeeded")
}

// TestTheCodeThatIsShownRuns runs the page's own curl command in a shell. The job appears on an open page by itself.
func TestTheCodeThatIsShownRuns(t *testing.T) {
	inBrowser(t)
	if _, err := exec.LookPath("curl"); err != nil {
		skip(t, "no curl")
	}
	s := startService(t, "COMFYFLEET_WORKERS=sim:1", "COMFYFLEET_MIN_READY=1")
	s.stop()
	s.start() // at a port that it knows beforehand, as outside of tests
	p := signedIn(t, s, adminEmail)
	p.open("/run/wan22-smooth-loop")
	p.click("details.curl summary")
	p.see("#code-curl", "curl "+s.base)
	code := mustEval[string](p, `document.querySelector("#code-curl pre").innerText`)
	p.open("/jobs")
	p.see("[data-testid=empty]", "No jobs yet")
	mustEval[bool](p, "(window.marked = true)")

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	shell := exec.CommandContext(ctx, "sh", "-c", code)
	shell.Dir = filepath.Join("..", "..", "workflows", "library", "wan22-smooth-loop")
	shell.Env = append(os.Environ(), "KEY="+testKey)
	out, err := shell.Output()
	require.NoError(t, err, "%s", out)
	var made status
	require.NoError(t, json.Unmarshal(out, &made), "%s", out)
	p.click("[data-testid=fresh]")
	p.see("#job-"+made.ID, "wan22")
	require.True(t, mustEval[bool](p, "window.marked"), "the page was not loaded again")
	s.finish(made.ID, "completed")
	p.see("#job-"+made.ID, "succeeded")
}

// sample is the sample medium of a bundled workflow, as it lies in the repository.
func sample(t *testing.T, slug, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "workflows", "library", slug, name))
	require.NoError(t, err)
	return b
}
