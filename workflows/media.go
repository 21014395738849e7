package workflows

import "strings"

// mediaField reports whether a string in this input may name one of the job's media: a field that the definition marks
// as a file or an upload; where there is no definition, any single-line value with an extension.
func (d *Defs) mediaField(class, input, value string) bool {
	if def, ok := d.input(class, input); ok {
		return def.Media != "" || def.Files && !isModelField(input)
	}
	return extension(value) != "" && !strings.ContainsAny(value, "\n\r")
}

// rewrites reports whether Prepare replaces a string by the name of a staged file. A name that could not be sent as it
// is, such as C:\Users\me\x.png, is replaced wherever it is not text.
func (d *Defs) rewrites(class, input, value string) bool {
	if d.mediaField(class, input, value) {
		return true
	}
	return !d.isText(class, input) && pathProblem(value, false) != ""
}

// isText reports whether an input holds words for people or models and never a path.
func (d *Defs) isText(class, input string) bool {
	if def, ok := d.input(class, input); ok {
		return def.Type == "STRING" && def.Multiline
	}
	return isPromptField(input) || strings.Contains(class, "Multiline")
}

// isPromptField knows text inputs by the names that text encoders use.
func isPromptField(name string) bool {
	switch name {
	case "text", "prompt", "positive", "negative", "positive_prompt", "negative_prompt", "text_positive", "text_negative",
		"text_g", "text_l", "t5xxl", "clip_l", "clip_g", "llama", "caption", "instruction", "tags", "lyrics", "system_prompt",
		"user_prompt", "string_a", "string_b":
		return true
	}
	return false
}
