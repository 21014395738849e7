package workflows

import (
	"errors"
	"os"
	"testing"

	"comfyfleet/models"

	"github.com/stretchr/testify/require"
)

// simple is the graph that most tests change: a picture is scaled and saved.
const simple = `{
  "1": {"class_type": "LoadImage", "inputs": {"image": "in.png"}},
  "2": {"class_type": "ImageScale", "inputs": {"image": ["1", 0], "upscale_method": "bilinear", "width": 64, "height": 64, "crop": "disabled"}, "_meta": {"title": "Upscale"}},
  "4": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "out"}}
}`

func parse(t testing.TB, raw string) *Graph {
	t.Helper()
	g, err := Parse([]byte(raw))
	require.NoError(t, err)
	return g
}

func testDefs(t testing.TB) *Defs {
	t.Helper()
	raw, err := os.ReadFile("testdata/object_info.json")
	require.NoError(t, err)
	d, err := ParseDefs(raw)
	require.NoError(t, err)
	return d
}

// problem is err as the user sees it; it must be unprocessable and carry the name.
func problem(t testing.TB, err error, name string) *models.Error {
	t.Helper()
	var e *models.Error
	require.True(t, errors.As(err, &e), "got %v", err)
	require.Equal(t, models.CodeUnprocessed, e.Code)
	require.Equal(t, name, e.Name, e.Detail)
	return e
}
