package web

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/app/storage"
	"comfyfleet/models"
)

// keep stores bytes as an output of a job.
func (h *house) keep(t testing.TB, j models.Job, name, kind string, content []byte) models.Output {
	t.Helper()
	id := fmt.Sprintf("%s-%04d-4000-8000-%012d", j.ID[:8], len(h.outputs[j.ID]), j.Seq)
	blob := h.store(t, id, content)
	o := models.Output{ID: id, JobID: j.ID, TenantID: j.TenantID, Index: len(h.outputs[j.ID]), NodeID: "9", Filename: shortID(j.ID) + "_" + name, Type: kind,
		ContentType: blob.ContentType, Size: blob.Size, SHA256: blob.SHA256, CreatedAt: h.now.Add(-time.Minute)}
	h.outputs[j.ID] = append(h.outputs[j.ID], o)
	return o
}

func (h *house) store(t testing.TB, id string, content []byte) storage.Blob {
	t.Helper()
	w, err := h.blobs.Create(context.Background(), id)
	require.NoError(t, err)
	defer w.Abort()
	_, err = w.Write(content)
	require.NoError(t, err)
	blob, err := w.Commit()
	require.NoError(t, err)
	return blob
}

// picture draws something to look at.
func (h *house) picture(t testing.TB, hue float64, width, height int) []byte {
	t.Helper()
	width, height = int(h.detail*float64(width)), int(h.detail*float64(height))
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			fx, fy := float64(x)/float64(width), float64(y)/float64(height)
			wave := 0.55 + 0.12*math.Sin(6*fx+hue*7) + 0.05*math.Sin(17*fx)
			c := 0.25 + 0.6*(1-fy)
			if fy > wave {
				c = 0.18 + 0.3*(fy-wave)
			}
			img.Set(x, y, color.RGBA{uint8(255 * c * (0.6 + 0.4*math.Sin(hue*6))), uint8(255 * c * 0.75), uint8(255 * c * (0.6 + 0.4*math.Cos(hue*6))), 255})
		}
	}
	var b bytes.Buffer
	require.NoError(t, png.Encode(&b, img))
	return b.Bytes()
}
