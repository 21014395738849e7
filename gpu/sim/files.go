package sim

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// listFiles are the names of the plain files at the top of a directory, as list inputs show them.
func listFiles(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // a missing directory has no files
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names
}

// modelFiles are the model files of a folder: what --models lists, else what lies in the models directory, else a few
// well-known names, so that a form made from /object_info has something to offer.
func (s *Server) modelFiles(folder string) []string {
	var names []string
	for _, m := range s.opts.Models {
		if dir, name, ok := strings.Cut(m, "/"); ok && dir == folder {
			names = append(names, name)
		}
	}
	if len(s.opts.Models) > 0 {
		return names
	}
	if names = listFiles(filepath.Join(s.dirs.models, folder)); len(names) > 0 {
		return names
	}
	return slices.Clone(knownModels()[folder])
}

func knownModels() map[string][]string {
	return map[string][]string{
		"checkpoints":      {"sd_xl_base_1.0.safetensors", "v1-5-pruned-emaonly.safetensors"},
		"diffusion_models": {"Wan2_2-I2V-A14B-HIGH_fp8_e4m3fn_scaled_KJ.safetensors", "Wan2_2-I2V-A14B-LOW_fp8_e4m3fn_scaled_KJ.safetensors", "flux1-dev.safetensors"},
		"text_encoders":    {"umt5-xxl-enc-bf16.safetensors", "clip_l.safetensors", "t5xxl_fp16.safetensors"},
		"vae":              {"Wan2_1_VAE_bf16.safetensors", "ae.safetensors"},
		"loras":            {"lightx2v_I2V_14B_480p_cfg_step_distill_rank64_bf16.safetensors"},
		"clip_vision":      {"clip_vision_h.safetensors"},
		"controlnet":       {"control_v11p_sd15_canny.safetensors"},
		"upscale_models":   {"RealESRGAN_x4plus.pth"},
	}
}

// modelFolders are the folders of GET /models.
func modelFolders() []string {
	return []string{"checkpoints", "configs", "loras", "vae", "text_encoders", "diffusion_models", "clip_vision", "style_models",
		"embeddings", "diffusers", "vae_approx", "controlnet", "gligen", "upscale_models", "custom_nodes", "hypernetworks", "photomaker",
		"classifiers", "model_patches", "audio_encoders", "frame_interpolation"}
}

// inside joins a client's path to a directory and refuses what leads out of it.
func inside(dir string, parts ...string) (string, bool) {
	for _, p := range parts {
		if filepath.IsAbs(p) || strings.ContainsRune(p, 0) {
			return "", false
		}
	}
	full := filepath.Join(append([]string{dir}, parts...)...)
	return full, full == dir || strings.HasPrefix(full, dir+string(filepath.Separator))
}

// annotated splits "name [input]" into name and type; the type is "" without an annotation.
func annotated(name string) (string, string) {
	for _, kind := range []string{"output", "input", "temp"} {
		if base, ok := strings.CutSuffix(name, "["+kind+"]"); ok {
			return strings.TrimSpace(base), kind
		}
	}
	return name, ""
}

// inputFile is the path of a file that a loader names, "" when there is none.
func (s *Server) inputFile(name, defaultType string) string {
	base, kind := annotated(name)
	if kind == "" {
		kind = defaultType
	}
	dir, _ := s.dirs.byType(kind)
	path, ok := inside(dir, base)
	if !ok {
		return ""
	}
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	return path
}
