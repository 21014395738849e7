package workflows

import "strings"

// guessRole knows fields by their definition and name. ok is false for what is better left alone.
func guessRole(n *Node, in Input, def InputDef) (role, bool) {
	if r, ok := mediaRole(n, in, def); ok {
		return r, true
	}
	if r, ok := textRole(n, in, def); ok {
		return r, true
	}
	kind := literalKind(in, def)
	number := kind == TypeInteger || kind == TypeNumber
	switch {
	case isSeed(in.Name) && kind == TypeInteger:
		return role{30, "seed", "Seed", TypeSeed, ""}, true
	case (in.Name == "width" || in.Name == "height") && kind == TypeInteger:
		return role{40, in.Name, label(in.Name), kind, "Size"}, true
	case isLength(in.Name) && kind == TypeInteger:
		return role{43, "frames", "Frames", kind, "Size"}, true
	case (in.Name == "fps" || in.Name == "frame_rate") && number:
		return role{44, "frame_rate", "Frames per second", kind, "Size"}, true
	case in.Name == "batch_size" && kind == TypeInteger && strings.Contains(n.Class, "Empty"):
		return role{45, "batch_size", "Pictures", kind, "Size"}, true
	case in.Name == "steps" && kind == TypeInteger:
		return role{50, "steps", "Steps", kind, "Advanced"}, true
	case (in.Name == "cfg" || in.Name == "guidance" || in.Name == "guidance_scale") && number:
		return role{51, keyOf(in.Name), "Guidance", kind, "Advanced"}, true
	case (in.Name == "denoise" || in.Name == "denoise_strength") && number:
		return role{52, "denoise", "Denoise", kind, "Advanced"}, true
	case in.Name == "shift" && number:
		return role{53, "shift", "Shift", kind, "Advanced"}, true
	case strings.HasPrefix(in.Name, "strength") && number:
		return role{54, "strength", "Strength", kind, "Advanced"}, true
	case (in.Name == "scale_by" || in.Name == "megapixels" || in.Name == "blend_factor") && number:
		return role{55, in.Name, label(in.Name), kind, "Advanced"}, true
	case in.Name == "sampler_name" || in.Name == "scheduler":
		return role{60, keyOf(in.Name), label(strings.TrimSuffix(in.Name, "_name")), kind, "Advanced"}, true
	case isModelField(in.Name) && isModelFile(unquoted(in.Value)):
		return role{70, keyOf(in.Name), label(strings.TrimSuffix(in.Name, "_name")), TypeString, "Models"}, true
	case isPrimitive(n.Class) && in.Name == "value":
		return role{35, "value", "Value", kind, ""}, true
	}
	return role{}, false
}

func mediaRole(n *Node, in Input, def InputDef) (role, bool) {
	kind := def.Media
	if kind == "" && loadsFile(n.Class, in.Name) {
		kind = map[string]string{"video": "video", "audio": "audio", "audio_file": "audio", "image": "image"}[in.Name]
		if n.Class == "LoadVideo" {
			kind = "video"
		}
	}
	mask := strings.Contains(n.Class, "Mask") || strings.Contains(strings.ToLower(n.Title), "mask")
	switch {
	case kind == "image" && mask:
		return role{21, "mask", "Mask", TypeMask, ""}, true
	case kind == "image":
		return role{20, "image", "Image", TypeImage, ""}, true
	case kind == "video":
		return role{22, "video", "Video", TypeVideo, ""}, true
	case kind == "audio":
		return role{23, "audio", "Audio", TypeAudio, ""}, true
	case kind == "file":
		return role{24, "file", "File", TypeFile, ""}, true
	}
	return role{}, false
}

// textRole knows prompts. Every multiline text counts, the names of text encoders first.
func textRole(n *Node, in Input, def InputDef) (role, bool) {
	if _, ok := in.Text(); !ok {
		return role{}, false
	}
	prompt := role{10, "prompt", "Prompt", TypeText, ""}
	switch {
	case isPromptField(in.Name) && (def.Type == "" || def.Type == "STRING"):
		return prompt, true
	case def.Type == "STRING" && def.Multiline, strings.Contains(n.Class, "Multiline") && in.Name == "value":
		if isPrimitive(n.Class) {
			return role{12, "text", "Text", TypeText, ""}, true
		}
		return role{13, keyOf(in.Name), label(in.Name), TypeText, ""}, true
	}
	return role{}, false
}

func isSeed(name string) bool {
	return name == "seed" || name == "noise_seed" || name == "rand_seed" || name == "random_seed"
}

func isLength(name string) bool {
	switch name {
	case "length", "num_frames", "video_frames", "frames", "frame_count":
		return true
	}
	return false
}

func isPrimitive(class string) bool { return strings.HasPrefix(class, "Primitive") }

// label writes a field's name for people.
func label(name string) string {
	words := strings.ReplaceAll(name, "_", " ")
	if words == "" {
		return ""
	}
	return strings.ToUpper(words[:1]) + words[1:]
}
