package jobs

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

func TestOutputsAreNamedAsTheGuideSays(t *testing.T) {
	const id = "58e0c0c8-b8c2-413f-a3ac-9dc5ba940571"
	for file, want := range map[string]string{
		"58e0c0c8_videoFinal_00029.mp4":   "58e0c0c8_videoFinal_00029.mp4",
		"58e0c0c8_ComfyUI_00001_.png":     "58e0c0c8_ComfyUI_00001.png",
		"ComfyUI_temp_abcde_00001_.png":   "58e0c0c8_ComfyUI_temp_abcde_00001.png",
		"../../etc/passwd":                "58e0c0c8_passwd",
		`C:\outputs\x.png`:                "58e0c0c8_x.png",
		"quote\"line\nbreak.png":          "58e0c0c8_quote_line_break.png",
		strings.Repeat("x", 300) + ".png": "58e0c0c8_" + strings.Repeat("x", 196) + ".png",
	} {
		require.Equal(t, want, outputName(id, file), file)
	}
}

func TestEqualNamesAreToldApart(t *testing.T) {
	taken := map[string]bool{}
	require.Equal(t, "a.png", unique(taken, "a.png"))
	require.Equal(t, "a_2.png", unique(taken, "a.png"))
	require.Equal(t, "a_3.png", unique(taken, "a.png"))
	require.Equal(t, "b", unique(taken, "b"))
	require.Equal(t, "b_2", unique(taken, "b"))
}

func TestStagedMediaKeepHarmlessExtensions(t *testing.T) {
	for name, want := range map[string]string{
		"107.png": ".png", `C:\Users\me\x.JPG`: ".jpg", "a/b.webp": ".webp", "noext": ".png", "x.p/../g": ".png",
		"evil.php%00": ".png", "x.tar.gz": ".gz", "dot.": ".png",
	} {
		require.Equal(t, want, mediaExtension(models.MediaRef{Name: name, ContentType: "image/png"}), name)
	}
	require.Equal(t, ".bin", mediaExtension(models.MediaRef{Name: "x", ContentType: "application/x-unknown"}))
}

func TestTwinsWaitForEachOther(t *testing.T) {
	var k keyedMutex
	var wg sync.WaitGroup
	inside, most := 0, 0
	for range 50 {
		wg.Go(func() {
			unlock, err := k.lock(t.Context(), "key")
			if err != nil {
				t.Error(err)
				return
			}
			defer unlock()
			inside++ // the race detector sees it if two are inside
			most = max(most, inside)
			inside--
		})
	}
	wg.Wait()
	require.Equal(t, 1, most)
	require.Empty(t, k.locks, "locks are forgotten")

	unlock, err := k.lock(t.Context(), "key")
	require.NoError(t, err)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = k.lock(ended, "key")
	require.ErrorIs(t, err, context.Canceled)
	unlock()
	require.Empty(t, k.locks)
}

func TestEstimatesAreThirtySecondsUntilMeasured(t *testing.T) {
	var e estimator
	require.Equal(t, 30, e.seconds("any"))
	for range 5 {
		e.add("slow", 60_000)
	}
	e.add("quick", 1_500)
	require.Equal(t, 60, e.seconds("slow"))
	require.Equal(t, 2, e.seconds("quick"), "rounded up")
	e.queue(8, 4)
	require.Equal(t, 2+2*60, e.seconds("quick"), "two rounds of the others come first")
}
