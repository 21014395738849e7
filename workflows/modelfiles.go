package workflows

import (
	"path"
	"slices"
	"strings"
)

// isModelField reports whether an input of this name holds the name of a model file, by the names that ComfyUI's own
// loaders and the common custom ones use.
func isModelField(name string) bool {
	switch name {
	case "ckpt_name", "config_name", "unet_name", "lora_name", "vae_name", "control_net_name", "controlnet_name",
		"style_model_name", "gligen_name", "hypernetwork_name", "model_name", "model_path", "photomaker_model_name",
		"audio_encoder_name", "bg_removal_name", "text_encoder", "model", "lora", "vae", "ckpt", "clip_vision", "name",
		"upscale_model", "ipadapter_file", "instantid_file", "pulid_file", "diffusion_model", "unet", "checkpoint":
		return true
	}
	for _, prefix := range []string{"clip_name", "lora_", "text_encoder", "ckpt_name", "embedding_name"} {
		if strings.HasPrefix(name, prefix) && !strings.Contains(name, "strength") {
			return true
		}
	}
	return false
}

// isModelFile reports whether s looks like the name of a model file, possibly in sub folders.
func isModelFile(s string) bool {
	switch extension(s) {
	case ".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".pkl", ".gguf", ".onnx", ".engine":
		return true
	}
	return false
}

// hasFileExtension reports whether s ends like a file that loaders read.
func hasFileExtension(s string) bool {
	if isModelFile(s) {
		return true
	}
	switch extension(s) {
	case ".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".exr", ".hdr", ".svg",
		".mp4", ".webm", ".mov", ".mkv", ".avi", ".m4v", ".mp3", ".wav", ".flac", ".ogg", ".opus", ".m4a", ".aac",
		".txt", ".csv", ".json", ".yaml", ".yml", ".latent", ".glb", ".gltf", ".obj", ".fbx", ".stl", ".ply", ".cube":
		return true
	}
	return false
}

// extension is the lower-case extension of a file name in either system's spelling, with its dot; "" for none.
func extension(s string) string {
	return strings.ToLower(path.Ext(strings.ReplaceAll(s, `\`, "/")))
}

// ModelFiles lists the model files that the graph's reachable nodes name, each once, in the graph's order. Two graphs
// with the same list need the same models in memory.
func (g *Graph) ModelFiles(d *Defs) []string {
	var files []string
	for _, n := range g.loaders(d) {
		for _, in := range n.inputs {
			if s, ok := d.modelFile(n.Class, in); ok && !slices.Contains(files, s) {
				files = append(files, s)
			}
		}
	}
	return files
}

// LoaderNodes lists the ids of the reachable nodes that load models, in the graph's order. Time that such a node takes
// is loading time.
func (g *Graph) LoaderNodes(d *Defs) []string {
	var ids []string
	for _, n := range g.loaders(d) {
		ids = append(ids, n.ID)
	}
	return ids
}

func (g *Graph) loaders(d *Defs) []*Node {
	reach := g.Reachable(d)
	var list []*Node
	for _, n := range g.nodes {
		if _, ok := reach[n.ID]; !ok {
			continue
		}
		if slices.ContainsFunc(n.inputs, func(in Input) bool { _, ok := d.modelFile(n.Class, in); return ok }) {
			list = append(list, n)
		}
	}
	return list
}

// modelFile is the model file that an input names. A definition that lists files counts like a known name.
func (d *Defs) modelFile(class string, in Input) (string, bool) {
	s, ok := in.Text()
	if !ok || !isModelFile(s) {
		return "", false
	}
	if isModelField(in.Name) {
		return s, true
	}
	def, known := d.input(class, in.Name)
	return s, known && def.Files && def.Media == ""
}
