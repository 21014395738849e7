package workflows

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"comfyfleet/models"
)

var (
	// annotated is ComfyUI's choice of a directory at the end of a name (folder_paths.annotated_filepath).
	annotated = regexp.MustCompile(`(?i)\[(output|temp|input)\]\s*$`)
	// annotatedFile is the same after something that looks like a file, for fields that hold prose.
	annotatedFile = regexp.MustCompile(`(?i)\.[a-z0-9]{1,12}\s*\[(output|temp|input)\]\s*$`)
	drive         = regexp.MustCompile(`^[A-Za-z]:[\\/]`)
	uuidFolder    = regexp.MustCompile(`(?i)(^|[\\/])[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}[\\/]`)
)

// maxUnsafe bounds how many inputs one refusal names.
const maxUnsafe = 10

// Unsafe refuses inputs that would make the engine read, or write, files that are not the job's: names with a directory
// of ComfyUI's after them ("x.png [output]"), paths that are absolute or climb with "..", and the folders in which other
// jobs' files lie. Names in media are the job's own and may look like that. ComfyUI itself checks little of this before
// 0.28, and custom nodes open what they are given. filename_prefix is left out: Prepare replaces it.
func (g *Graph) Unsafe(media []string) error { return g.unsafe(media, nil) }

// unsafe is Unsafe with definitions, which know better than names which fields hold prose.
func (g *Graph) unsafe(media []string, d *Defs) error {
	var fields []models.FieldError
	for _, n := range g.nodes {
		for _, in := range n.inputs {
			if in.Name == prefixField {
				continue
			}
			why := unsafeInput(n, in, media, d)
			if why == "" {
				continue
			}
			fields = append(fields, models.FieldError{Field: "workflow." + n.ID + ".inputs." + in.Name, Detail: n.describe() + ": " + why})
		}
		if len(fields) >= maxUnsafe {
			break
		}
	}
	if len(fields) == 0 {
		return nil
	}
	e := unprocessable(ErrNameUnsafe, "%s: %s", fields[0].Field, fields[0].Detail)
	e.Fields = fields
	return e
}

func unsafeInput(n *Node, in Input, media []string, d *Defs) (why string) {
	if _, linked := in.Link(); linked {
		if loadsFile(n.Class, in.Name) {
			return "a file to load must be named in the node itself, not come from another node"
		}
		return ""
	}
	if harmless(in.Value) {
		return ""
	}
	text := d.isText(n.Class, in.Name)
	if s, ok := in.Text(); ok && slices.Contains(media, s) && !text {
		return ""
	}
	eachString(in.Value, func(s string) {
		if why == "" {
			why = pathProblem(s, text)
		}
	})
	return why
}

// loadsFile knows the inputs of ComfyUI's own loaders that name a file of a user. A link there can carry a name that
// only exists when the graph runs.
func loadsFile(class, input string) bool {
	switch class {
	case "LoadImage", "LoadImageMask", "LoadImageOutput":
		return input == "image"
	case "LoadVideo":
		return input == "file"
	case "LoadAudio":
		return input == "audio"
	case "LoadLatent":
		return input == "latent"
	case "Load3D", "Load3DAnimation", "Load3DAdvanced":
		return input == "model_file"
	case "VHS_LoadVideo", "VHS_LoadVideoPath":
		return input == "video"
	case "VHS_LoadImagePath":
		return input == "image"
	case "VHS_LoadImages", "VHS_LoadImagesPath":
		return input == "directory"
	case "VHS_LoadAudio", "VHS_LoadAudioUpload":
		return input == "audio_file" || input == "audio"
	}
	return false
}

// harmless reports whether a string, or a value as sent, has none of what is in everything that pathProblem objects to.
// Most have not, and need not be taken out of their quotes.
func harmless[T string | json.RawMessage](text T) bool {
	for i := range len(text) {
		switch c := text[i]; {
		case c == '/', c == '\\', c == '[', c == '.' && i > 0 && text[i-1] == '.':
			return false
		}
	}
	return true
}

// pathProblem says why a string may not reach an engine as a path, "" when it may. Prose may begin with a slash
// ("/imagine a cat") and have dots in it, but neither does a file name hide in it.
func pathProblem(s string, prose bool) string {
	s = strings.TrimSpace(s)
	if harmless(s) {
		return ""
	}
	if strings.ContainsAny(s, "\n\r") {
		return "" // no file is called that
	}
	if annotatedFile.MatchString(s) || !prose && annotated.MatchString(s) {
		return "names of the form \"file [output]\" would read other jobs' files; send the file as media instead"
	}
	if uuidFolder.MatchString(s) {
		return "it names the folder of a job; send the file as media instead"
	}
	if prose && strings.ContainsAny(s, " \t,") {
		return ""
	}
	for _, part := range strings.FieldsFunc(s, func(r rune) bool { return r == '/' || r == '\\' }) {
		if part == ".." {
			return "paths with \"..\" are refused; send the file as media instead"
		}
	}
	if absolute(s) {
		return "absolute paths are refused; send the file as media instead"
	}
	return ""
}

func absolute(s string) bool {
	switch {
	case drive.MatchString(s), strings.HasPrefix(s, `\\`), strings.HasPrefix(s, "~/"), strings.HasPrefix(strings.ToLower(s), "file:/"):
		return true
	case strings.HasPrefix(s, "/") && strings.ContainsAny(s, " \t"):
		return extension(s) != ""
	case strings.HasPrefix(s, "/"):
		return strings.Trim(s, "/") != "" // a lone slash is punctuation: a delimiter
	}
	return false
}
