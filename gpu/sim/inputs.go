package sim

// Constructors for the inputs of a class table. Limits follow the public definitions of the nodes, so that a graph that
// is valid there is valid here; texts are our own.

const (
	maxSide = 16384               // MAX_RESOLUTION
	maxSeed = uint64(1<<64 - 1)   // seeds are unsigned 64 bit
	maxInt  = 9223372036854775807 // primitive INT
	picture = "IMAGE"
)

func link(name, kind string) Input { return Input{Name: name, Type: kind} }

func integer(name string, def, low, high, step int) Input {
	return Input{Name: name, Type: "INT", Default: def, Min: low, Max: high, Step: step}
}

// whole is an INT without a step.
func whole(name string, def, low, high int) Input {
	return Input{Name: name, Type: "INT", Default: def, Min: low, Max: high}
}

func seed(name string) Input {
	return Input{Name: name, Type: "INT", Default: 0, Min: 0, Max: maxSeed}
}

func float(name string, def, low, high, step float64) Input {
	return Input{Name: name, Type: "FLOAT", Default: pyFloat(def), Min: pyFloat(low), Max: pyFloat(high), Step: step}
}

func boolean(name string, def bool) Input {
	return Input{Name: name, Type: "BOOLEAN", Default: def}
}

func str(name, def string) Input {
	return Input{Name: name, Type: "STRING", Default: def}
}

func text(name string) Input {
	return Input{Name: name, Type: "STRING", Multiline: true}
}

func textDefault(name, def string) Input {
	return Input{Name: name, Type: "STRING", Multiline: true, Default: def}
}

// choice is a list in the older spelling.
func choice(name string, options ...string) Input {
	return Input{Name: name, Type: "COMBO", Options: options}
}

func choiceDefault(name, def string, options ...string) Input {
	return Input{Name: name, Type: "COMBO", Options: options, Default: def}
}

// combo is a list in the newer spelling.
func combo(name string, options ...string) Input {
	return Input{Name: name, Type: "COMBO", Options: options, V3: true}
}

// file is a list of the files of a model folder.
func file(name, folder string) Input {
	return Input{Name: name, Type: "COMBO", Folder: folder}
}

// upload is a list of input files that a client may add to.
func upload(name, kind string) Input {
	return Input{Name: name, Type: "COMBO", Folder: "input", Upload: kind}
}

// outs names outputs by their types.
func outs(types ...string) []Output {
	list := make([]Output, len(types))
	for i, t := range types {
		list[i] = Output{t, t}
	}
	return list
}

// named gives outputs as name, type pairs.
func named(pairs ...string) []Output {
	var list []Output
	for i := 0; i+1 < len(pairs); i += 2 {
		list = append(list, Output{Type: pairs[i+1], Name: pairs[i]})
	}
	return list
}

// pngInfo is what nodes that write metadata ask for.
func pngInfo() []Hidden {
	return []Hidden{{"prompt", "PROMPT"}, {"extra_pnginfo", "EXTRA_PNGINFO"}}
}

func upscaleMethods() []string {
	return []string{"nearest-exact", "bilinear", "area", "bicubic", "lanczos"}
}
