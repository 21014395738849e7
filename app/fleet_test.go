package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestArgumentsAreSplitAsAShellWould(t *testing.T) {
	got, err := words("comfyui-args", "COMFYFLEET_COMFYUI_ARGS", `--fast  --extra-model-paths-config "/srv/my models.yaml" --x='a b'`)
	require.NoError(t, err)
	require.Equal(t, []string{"--fast", "--extra-model-paths-config", "/srv/my models.yaml", "--x=a b"}, got)
	got, err = words("comfyui-args", "COMFYFLEET_COMFYUI_ARGS", "")
	require.NoError(t, err)
	require.Empty(t, got)
	_, err = words("comfyui-args", "COMFYFLEET_COMFYUI_ARGS", `--fast "--x`)
	require.ErrorContains(t, err, "comfyui-args (COMFYFLEET_COMFYUI_ARGS): Unterminated double-quoted string")
}
