package workflows

import (
	"path"
	"strings"
	"unicode"
)

// prefixField is the input by which ComfyUI's save nodes choose folder and file name.
const prefixField = "filename_prefix"

// maxPrefix bounds the base name of outputs, in characters.
const maxPrefix = 64

// Prepared is what makes a graph one attempt's own.
type Prepared struct {
	JobID     string
	AttemptID string
	// Media maps the names that the graph uses to the files that are staged for the job: "107.png" to "0.png".
	Media map[string]string
	// Defs are the worker's node definitions, nil for unknown.
	Defs *Defs
}

// Prepare renders the graph as it is sent to the engine: values that equal a media name become "<job id>/<file>", and
// every filename_prefix becomes "<attempt id>/<first 8 of job id>_<base name>", so that outputs of jobs cannot collide
// and a cached result is not answered with another tenant's files. g is not changed. It refuses, as Unsafe does, what
// the definitions show to be a path and the names did not.
func (g *Graph) Prepare(p Prepared) ([]byte, error) {
	out := g.Clone()
	for _, n := range out.nodes {
		for i, in := range n.inputs {
			name, ok := in.Text()
			if !ok || in.Name == prefixField {
				continue
			}
			if file, ok := p.Media[name]; ok && p.Defs.rewrites(n.Class, in.Name, name) {
				n.replace(i, quote(p.JobID+"/"+file))
			}
		}
	}
	if err := out.unsafe(p.staged(), p.Defs); err != nil {
		return nil, err
	}
	for _, n := range out.nodes {
		if base, ok := p.Defs.prefix(n); ok {
			n.put(prefixField, quote(p.AttemptID+"/"+first8(p.JobID)+"_"+base))
		}
	}
	return out.JSON(), nil
}

// staged lists the values that Prepare itself puts into a graph.
func (p Prepared) staged() []string {
	names := make([]string, 0, len(p.Media))
	for _, file := range p.Media {
		names = append(names, p.JobID+"/"+file)
	}
	return names
}

// prefix is the base name for a node's outputs; ok is false for a node that takes none.
func (d *Defs) prefix(n *Node) (base string, ok bool) {
	for _, in := range n.inputs {
		if in.Name == prefixField {
			s, _ := in.Text() // a link has no name to keep
			return sanitise(s), true
		}
	}
	if def, ok := d.input(n.Class, prefixField); ok {
		return sanitise(unquoted(def.Default)), true
	}
	if _, known := d.Class(n.Class); known {
		return "", false
	}
	return sanitise(""), savesFiles(n.Class)
}

// savesFiles knows classes with a filename_prefix where there are no definitions.
func savesFiles(class string) bool {
	switch class {
	case "SaveImage", "SaveImageAdvanced", "SaveVideo", "SaveWEBM", "SaveAnimatedWEBP", "SaveAnimatedPNG", "SaveSVGNode",
		"SaveAudio", "SaveAudioMP3", "SaveAudioOpus", "SaveAudioAdvanced", "SaveText", "SaveGLB", "Save3DAdvanced", "SaveLatent",
		"CheckpointSave", "CLIPSave", "VAESave", "ModelSave", "LoraSave", "VHS_VideoCombine":
		return true
	}
	return false
}

// sanitise keeps the last element of a prefix, without what cannot stand in a file name on every system. ComfyUI's
// tokens (%date%, %width%) stay.
func sanitise(prefix string) string {
	base := path.Base(strings.ReplaceAll(strings.ToValidUTF8(prefix, ""), `\`, "/"))
	base = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || strings.ContainsRune(`:*?"<>|`, r) {
			return -1
		}
		return r
	}, base)
	if r := []rune(base); len(r) > maxPrefix {
		base = string(r[:maxPrefix])
	}
	base = strings.TrimSpace(base)
	if strings.Trim(base, "./") == "" {
		return "output"
	}
	return base
}

func first8(id string) string { return id[:min(8, len(id))] }
