package web

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	"comfyfleet/app/jobs"
	"comfyfleet/models"
	"comfyfleet/workflows"
)

// recipe is something that the run page can run: a version of a library workflow, a dropped graph, or an earlier job.
type recipe struct {
	title   string
	alias   string
	slug    string // "" for a raw graph
	version int
	graph   *workflows.Graph
	params  []workflows.Param
	values  map[string]json.RawMessage // filled in
	refs    map[string]string          // media parameter → reference of its file
	path    string                     // of the page and of its form
	note    string
	tenant  string // chosen tenant's id, "" for the default one
}

// libraryRecipe is the version that prod points at, else the newest.
func (w *Web) libraryRecipe(ctx context.Context, slug string) (recipe, error) {
	if _, err := w.Library.Workflow(ctx, "", slug); err != nil {
		return recipe{}, err
	}
	alias := "prod"
	version, err := w.Library.Alias(ctx, slug, alias)
	if models.ErrorCode(err) == models.CodeNotFound {
		alias, version, err = "", 0, nil
	}
	if err != nil {
		return recipe{}, err
	}
	return w.versionRecipe(ctx, slug, version, alias)
}

func (w *Web) versionRecipe(ctx context.Context, slug string, version int, alias string) (recipe, error) {
	wf, err := w.Library.Workflow(ctx, "", slug)
	if err != nil {
		return recipe{}, err
	}
	v, err := w.Library.Version(ctx, slug, version)
	if err != nil {
		return recipe{}, err
	}
	g, err := workflows.Parse(v.Graph)
	if err != nil {
		return recipe{}, fmt.Errorf("stored graph of %s@%d: %w", slug, v.Version, err)
	}
	params, err := workflows.ParseParams(v.Params)
	if err != nil {
		return recipe{}, fmt.Errorf("stored parameters of %s@%d: %w", slug, v.Version, err)
	}
	r := recipe{title: wf.Title, alias: alias, slug: slug, version: v.Version, graph: g, params: workflows.WithDefaults(g, params), path: "/run/" + slug, note: wf.Description}
	if r.title == "" {
		r.title = slug
	}
	r.refs = w.sampleRefs(slug, r.params)
	return r, nil
}

// sampleRefs fills media parameters whose default is a file that came with the workflow.
func (w *Web) sampleRefs(slug string, params []workflows.Param) map[string]string {
	refs := map[string]string{}
	for _, p := range params {
		if name := jsonText(p.Default); p.Media() && w.samples[slug][name] != nil {
			refs[p.Key] = refSample + slug + "/" + name
		}
	}
	return refs
}

// graphRecipe is a graph with parameters that were guessed.
func (w *Web) graphRecipe(raw []byte, title, path string) (recipe, error) {
	g, err := workflows.Parse(raw)
	if err != nil {
		return recipe{}, err
	}
	r := recipe{title: title, graph: g, params: workflows.Guess(g, w.Jobs.NodeDefs()), path: path, refs: map[string]string{}}
	r.note = plural(len(g.Nodes()), "node") + ". The fields were guessed from the graph; what is not listed stays as it is."
	return r, nil
}

// uploadedRecipe is a dropped graph.
func (w *Web) uploadedRecipe(ctx context.Context, id string) (recipe, error) {
	up, r, err := w.uploads.open(ctx, id)
	if err != nil {
		return recipe{}, err
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, jobs.MaxGraphBytes+1))
	if err != nil {
		return recipe{}, err
	}
	return w.graphRecipe(raw, up.name, "/run/graph/"+id)
}

// jobRecipe is an earlier job, filled in with what it ran with.
func (w *Web) jobRecipe(ctx context.Context, id string) (recipe, error) {
	v, err := w.Jobs.Job(ctx, "", id)
	if err != nil {
		return recipe{}, err
	}
	payload, err := w.Jobs.Payload(ctx, "", id)
	if err != nil {
		return recipe{}, err
	}
	var r recipe
	if v.WorkflowSlug != "" {
		if r, err = w.versionRecipe(ctx, v.WorkflowSlug, v.WorkflowVersion, ""); err != nil {
			return recipe{}, err
		}
	} else if r, err = w.graphRecipe(payload.Graph, "Graph of job "+shortID(id), ""); err != nil {
		return recipe{}, err
	}
	r.path, r.tenant = "/run/job/"+id, v.TenantID
	r.fill(payload)
	return r, nil
}

// fill takes over an earlier job's parameters and media.
func (r *recipe) fill(p models.JobPayload) {
	var sent struct {
		Params map[string]json.RawMessage `json:"params"`
	}
	if len(p.Inputs) > 0 && json.Unmarshal(p.Inputs, &sent) == nil {
		r.values = sent.Params
	}
	assets := map[string]string{}
	for _, m := range p.Media {
		assets[m.Name] = m.AssetID
	}
	for _, x := range r.params {
		if !x.Media() {
			continue
		}
		name := jsonText(r.values[x.Key])
		if name == "" {
			name = jsonText(x.Default)
		}
		if id, ok := assets[name]; ok {
			r.refs[x.Key] = refAsset + id
		}
	}
}

// take reads a posted form into the recipe.
func (r *recipe) take(form url.Values) {
	r.values, r.refs = map[string]json.RawMessage{}, map[string]string{}
	r.tenant = form.Get("tenant")
	for _, p := range r.params {
		if p.Media() {
			if ref := form.Get("media." + p.Key); ref != "" {
				r.refs[p.Key] = ref
			}
			continue
		}
		sent := form["p."+p.Key]
		if len(sent) == 0 {
			continue
		}
		text := sent[len(sent)-1] // a switch sends "false" first, and "true" when it is on
		if text == "" && p.Type != workflows.TypeText && p.Type != workflows.TypeString {
			continue // an empty number leaves the graph's own
		}
		r.values[p.Key] = jsonString(text)
	}
}

// submission copies the media and makes the request.
func (w *Web) submission(ctx context.Context, r recipe, tenantID string) (sub jobs.Submission, err error) {
	sub = jobs.Submission{TenantID: tenantID, Origin: models.OriginDashboard}
	defer func() {
		if err != nil {
			w.drop(ctx, sub)
		}
	}()
	values := map[string]json.RawMessage{}
	for k, v := range r.values {
		values[k] = v
	}
	for i, p := range r.params {
		ref, ok := r.refs[p.Key]
		if !ok {
			continue
		}
		blob, err := w.copyRef(ctx, ref)
		if err != nil {
			return sub, inParam(err, p.Key)
		}
		name := w.refName(ctx, ref, i, sub.Media)
		sub.Media = append(sub.Media, jobs.Media{Name: name, Blob: &blob})
		values[p.Key] = jsonString(name)
	}
	if r.slug != "" {
		sub.WorkflowID, sub.Params = r.slug+"@"+strconv.Itoa(r.version), values
		return sub, nil
	}
	g := r.graph.Clone()
	if _, err := workflows.Bind(g, r.params, values); err != nil {
		return sub, err
	}
	sub.Workflow = g.JSON()
	return sub, nil
}

// refName is a media name for a referenced file that no other file of the submission has.
func (w *Web) refName(ctx context.Context, ref string, i int, taken []jobs.Media) string {
	name := "media"
	if r, info, err := w.openRef(ctx, ref); err == nil {
		r.Close()
		name = info.name
	}
	for _, m := range taken {
		if m.Name == name {
			return strconv.Itoa(i) + "_" + name
		}
	}
	return name
}

// drop removes the copies of a submission that came to nothing.
func (w *Web) drop(ctx context.Context, sub jobs.Submission) {
	var ids []string
	for _, m := range sub.Media {
		ids = append(ids, m.Blob.ID)
	}
	if len(ids) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteLimit)
	defer cancel()
	// What cannot be deleted now is found by the orphan sweep.
	_ = w.Blobs.Delete(ctx, ids...)
}

// inParam names the parameter that an error is about.
func inParam(err error, key string) error {
	if models.ErrorCode(err) == models.CodeInternal {
		return err
	}
	return models.FieldErrorf(models.CodeUnprocessed, "media_missing", "params."+key, "%s", strings.TrimSuffix(reason(err), "."))
}

func jsonText(raw json.RawMessage) string {
	var s string
	if len(raw) == 0 || json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

func jsonString(s string) json.RawMessage {
	b, err := json.Marshal(s)
	if err != nil {
		return json.RawMessage(`""`) // a string always encodes
	}
	return b
}
