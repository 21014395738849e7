package sim

// textClasses are the nodes of text and plain values.
func textClasses() []*Class {
	const primitive = "comfy_extras.nodes_primitive"
	return []*Class{
		{Name: "PrimitiveString", run: runValue, Title: "Text", Category: "utilities/primitive", Module: primitive, About: "A line of text.",
			Required: []Input{{Name: "value", Type: "STRING"}}, Outputs: outs("STRING")},
		{Name: "PrimitiveStringMultiline", run: runValue, Title: "Text (Multiline)", Category: "utilities/primitive", Module: primitive,
			About: "Some text.", Required: []Input{text("value")}, Outputs: outs("STRING")},
		{Name: "PrimitiveInt", run: runValue, Title: "Int", Category: "utilities/primitive", Module: primitive, About: "A whole number.",
			Required: []Input{{Name: "value", Type: "INT", Min: -maxInt, Max: maxInt}}, Outputs: outs("INT")},
		{Name: "PrimitiveFloat", run: runValue, Title: "Float", Category: "utilities/primitive", Module: primitive, About: "A number.",
			Required: []Input{{Name: "value", Type: "FLOAT", Min: -maxInt, Max: maxInt, Step: 0.1}}, Outputs: outs("FLOAT")},
		{Name: "PrimitiveBoolean", run: runValue, Title: "Boolean", Category: "utilities/primitive", Module: primitive, About: "Yes or no.",
			Required: []Input{{Name: "value", Type: "BOOLEAN"}}, Outputs: outs("BOOLEAN")},
		{Name: "StringConcatenate", run: runConcatenate, Title: "Concatenate Text", Category: "text", Module: "comfy_extras.nodes_string",
			About:    "Joins two texts.",
			Required: []Input{text("string_a"), text("string_b"), str("delimiter", "")}, Outputs: outs("STRING")},
		{Name: "StringReplace", run: runReplace, Title: "Replace Text", Category: "text", Module: "comfy_extras.nodes_string",
			About:    "Replaces every occurrence of a text.",
			Required: []Input{text("string"), text("find"), text("replace")}, Outputs: outs("STRING")},
		{Name: "PreviewAny", run: runPreviewAny, Title: "Preview as Text", Category: "utilities", Module: "comfy_extras.nodes_preview_any",
			About: "Shows any value as text.", OutputNode: true,
			Required: []Input{link("source", "*")}, Outputs: outs("STRING")},
		{Name: "ShowText|pysssss", run: runShowText, Title: "Show Text", Category: "utils", Module: "custom_nodes.ComfyUI-Custom-Scripts",
			About: "Shows text and passes it on.", OutputNode: true, InputIsList: true, ListOutput: true,
			Required: []Input{{Name: "text", Type: "STRING", ForceInput: true}},
			Hidden:   []Hidden{{"unique_id", "UNIQUE_ID"}, {"extra_pnginfo", "EXTRA_PNGINFO"}}, Outputs: outs("STRING")},
		{Name: "SaveText", run: runSaveText, Title: "Save Text", Category: "text", Module: "comfy_extras.nodes_text",
			About: "Writes text to a file.", OutputNode: true,
			Required: []Input{{Name: "text", Type: "STRING", ForceInput: true}, str("filename_prefix", "ComfyUI"),
				{Name: "format", Type: "COMBO", V3: true, Options: []string{"txt", "csv", "md", "json"}, Default: "txt"}},
			Hidden: pngInfo(), Outputs: named("text", "STRING")},
	}
}
