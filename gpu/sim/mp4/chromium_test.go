package mp4_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"testing"
	"time"

	"comfyfleet/gpu/sim/mp4"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// page plays the video muted to its end, then seeks and reads two pixels.
const page = `<!doctype html><video id="v" muted src="/v.mp4"></video>`

const play = `(async () => {
	const v = document.getElementById('v');
	const once = (name) => new Promise((done, fail) => {
		v.addEventListener(name, done, {once: true});
		v.addEventListener('error', () => fail(new Error(v.error.message)), {once: true});
	});
	const ended = once('ended');
	await v.play();
	await ended;
	const seeked = once('seeked');
	v.currentTime = 1.65;
	await seeked;
	const c = document.createElement('canvas');
	c.width = v.videoWidth; c.height = v.videoHeight;
	const g = c.getContext('2d');
	g.drawImage(v, 0, 0);
	const at = (x, y) => Array.from(g.getImageData(x, y, 1, 1).data.slice(0, 3));
	return {width: v.videoWidth, height: v.videoHeight, duration: v.duration, bar: at(8 * 16 - 16 * 2 + 8, 40), still: at(150, 80)};
})()`

type played struct {
	Width    int     `json:"width"`
	Height   int     `json:"height"`
	Duration float64 `json:"duration"`
	Bar      []int   `json:"bar"`
	Still    []int   `json:"still"`
}

func TestChromiumPlaysIt(t *testing.T) {
	browser, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI_STRICT") == "1" {
			t.Fatal("chromium is required in strict runs: ", err)
		}
		t.Skip("no chromium to play the video in")
	}
	var video bytes.Buffer
	require.NoError(t, mp4.Write(&video, clip(160, 90, 20), 10))
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v.mp4" {
			w.Header().Set("Content-Type", "video/mp4")
			http.ServeContent(w, r, "v.mp4", time.Time{}, bytes.NewReader(video.Bytes()))
			return
		}
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(page))
	}))
	defer web.Close()

	const patience = 5 * time.Minute // a busy machine takes a minute to start the browser
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ctx, cancel = chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(browser), chromedp.NoSandbox, chromedp.WSURLReadTimeout(patience),
		chromedp.Flag("autoplay-policy", "no-user-gesture-required"))...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	require.NoError(t, chromedp.Do(ctx, chromedp.Navigate(web.URL)))
	got, err := chromedp.Run(ctx, chromedp.Evaluate[played](play, chromedp.EvalAwaitPromise))
	require.NoError(t, err)
	require.Equal(t, []int{160, 90}, []int{got.Width, got.Height})
	require.InDelta(t, 2.0, got.Duration, 0.01)
	// Frame 16 has the bar in column 6; elsewhere the gradient of the first frame is still there.
	for i, want := range []int{250, 240, 10} {
		require.InDelta(t, want, got.Bar[i], 12, "bar %v", got.Bar)
	}
	for i, want := range []int{187, 177, 60} {
		require.InDelta(t, want, got.Still[i], 12, "still %v", got.Still)
	}
}
