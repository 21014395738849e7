package web

import (
	"fmt"
	"strings"

	"comfyfleet/models"
	"comfyfleet/views"
)

// presentOutputs are the job's results. Previews that the graph did not ask to keep are left out unless there is
// nothing else.
func presentOutputs(in jobInput) views.Outputs {
	var v views.Outputs
	var total int64
	list := kept(in.outputs)
	for _, o := range list {
		v.Items = append(v.Items, presentOutput(o, in.texts[o.ID], in.job.Simulated))
		total += o.Size
	}
	switch {
	case len(list) > 1:
		v.All = "/jobs/" + in.job.ID + "/outputs.zip"
		v.Aside = fmt.Sprintf("Download %s, %s", plural(len(list), "file"), size(total))
	case len(list) == 1:
		v.Aside = size(total)
	}
	return v
}

func presentOutput(o models.Output, text string, simulated bool) views.Output {
	kind := o.Type
	if kind == "model" || kind == "" {
		kind = "file"
	}
	// What the bytes are decides, not what the node called them: a browser must not be asked to show anything else.
	if kind == "image" || kind == "video" || kind == "audio" {
		if !strings.HasPrefix(o.ContentType, kind+"/") || strings.Contains(o.ContentType, "svg") {
			kind = "file"
		}
	}
	return views.Output{
		Kind: kind, Name: o.Filename, URL: "/outputs/" + o.ID, Download: "/outputs/" + o.ID + "?download=1",
		Meta: size(o.Size), Alt: "Output " + o.Filename, Text: text, Simulated: simulated,
	}
}
