package jobs

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"comfyfleet/app/storage"
	"comfyfleet/models"
	"comfyfleet/workflows"
)

// idempotencyLife is how long an Idempotency-Key is remembered.
const idempotencyLife = 24 * time.Hour

// Submit checks sub, stores its media and commits the job. It owns sub's blobs from here: a refused or replayed
// submission leaves nothing behind. When it answers without an error the job is durable.
func (s *Service) Submit(ctx context.Context, sub Submission) (Accepted, error) {
	d := &draft{sub: sub, blobs: sub.blobs()}
	defer d.discard(context.WithoutCancel(ctx), s.Blobs)

	if err := sub.check(s.Outbound); err != nil {
		return Accepted{}, err
	}
	var idem *models.Idempotency
	if sub.IdempotencyKey != "" {
		fingerprint, err := sub.fingerprint()
		if err != nil {
			return Accepted{}, err
		}
		unlock, err := s.twins.lock(ctx, sub.TenantID+"\x00"+sub.IdempotencyKey)
		if err != nil {
			return Accepted{}, models.Errorf(models.CodeUnavailable, "twin_busy", "a request with the same Idempotency-Key is still being accepted; retry")
		}
		defer unlock()
		if first, found, err := s.replay(ctx, sub, fingerprint); found || err != nil {
			return first, err
		}
		idem = &models.Idempotency{Key: sub.IdempotencyKey, Fingerprint: fingerprint, Until: s.Now().Add(idempotencyLife)}
	}
	if s.Paused().Intake { // after the replay: what was accepted before the pause is accepted
		return Accepted{}, &models.Error{Code: models.CodeUnavailable, Name: "intake_paused", Detail: "the operator has paused intake; try again later", RetryAfter: 30}
	}

	if err := s.compose(ctx, d); err != nil {
		return Accepted{}, err
	}
	if err := s.fetchMedia(ctx, d); err != nil {
		return Accepted{}, err
	}
	acc, err := s.accept(ctx, admission{
		tenant: d.tenant, job: d.job(), timeout: time.Duration(sub.TimeoutSeconds) * time.Second,
		payload: d.payload(), graph: d.graph, assets: d.assets(), idempotency: idem,
	})
	if err == nil && !acc.Replayed {
		d.kept = true
	}
	return acc, err
}

// admission is a job to be accepted, and what comes with it.
type admission struct {
	tenant      models.Tenant
	job         models.Job
	timeout     time.Duration // 0 for none
	payload     models.JobPayload
	graph       *workflows.Graph // of the payload; nil to parse it when it is to run
	assets      []models.Asset
	idempotency *models.Idempotency
}

// accept commits a job and answers. Every way into the queue ends here. When the planner has a place that nobody
// waits for, the same commit gives it to the job.
func (s *Service) accept(ctx context.Context, n admission) (Accepted, error) {
	now := s.Now()
	job := n.job
	job.ID = s.NewID()
	job.State, job.Phase = models.JobQueued, models.PhaseWaiting
	job.CreatedAt, job.EstimatedSeconds = now, s.estimate(job.WorkflowSlug)
	if n.timeout > 0 {
		at := now.Add(n.timeout)
		job.DeadlineAt = &at
	}
	n.payload.JobID = job.ID
	for i := range n.assets {
		n.assets[i].JobID, n.assets[i].TenantID, n.assets[i].CreatedAt = job.ID, job.TenantID, now
	}
	first := s.offer(job, n.tenant)
	begun := s.begin(job, first, n.payload, n.graph)
	var refused error = models.ErrFenced
	defer func() { begun.end(refused) }()
	job, replayed, err := s.Store.AcceptJob(ctx, models.NewJob{
		Job: job, Payload: n.payload, Assets: n.assets, Idempotency: n.idempotency,
		MaxQueued: s.MaxQueued, MaxQueuedTenant: cmp.Or(n.tenant.MaxQueued, s.MaxQueuedPerTenant),
		Attempt: first,
	})
	if err != nil || replayed {
		return Accepted{Job: job, Replayed: replayed}, err
	}
	s.Log.Debug("job accepted", "job", job.ID, "tenant", job.TenantID)
	if first != nil {
		s.claimed(job.ID)
		s.hub.begin(job, first.ID)
		refused = nil
	} else {
		s.hub.publishJob(job)
		s.queued()
	}
	return Accepted{Job: job}, nil
}

// replay answers a request whose Idempotency-Key is known.
func (s *Service) replay(ctx context.Context, sub Submission, fingerprint string) (Accepted, bool, error) {
	known, job, err := s.Store.LookupIdempotency(ctx, sub.TenantID, sub.IdempotencyKey)
	if models.ErrorCode(err) == models.CodeNotFound {
		return Accepted{}, false, nil
	}
	if err != nil {
		return Accepted{}, false, err
	}
	if known != fingerprint {
		return Accepted{}, false, models.Errorf(models.CodeUnprocessed, "idempotency_mismatch",
			"Idempotency-Key was used for a different request in the last 24 hours; use a new key")
	}
	return Accepted{Job: job, Replayed: true}, true, nil
}

// draft is a submission on its way to becoming a job.
type draft struct {
	sub     Submission
	tenant  models.Tenant
	graph   *workflows.Graph
	slug    string
	version int
	media   []models.MediaRef
	fetches []fetch
	// blobs are everything stored for the submission; discarded unless kept.
	blobs []string
	kept  bool
}

func (d *draft) discard(ctx context.Context, blobs Blobs) {
	if d.kept || len(d.blobs) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	// What cannot be deleted now is found by the orphan sweep.
	_ = blobs.Delete(ctx, d.blobs...)
}

func (d *draft) job() models.Job {
	return models.Job{
		TenantID: d.sub.TenantID, KeyID: d.sub.KeyID, Origin: d.sub.Origin, Priority: d.sub.Priority,
		WorkflowSlug: d.slug, WorkflowVersion: d.version,
		WebhookURL: d.sub.WebhookURL, Metadata: string(d.sub.Metadata),
	}
}

func (d *draft) payload() models.JobPayload {
	return models.JobPayload{Graph: d.graph.JSON(), Media: d.media, Inputs: d.sub.remembered(), ExtraPNGInfo: d.sub.ExtraPNGInfo}
}

func (d *draft) assets() []models.Asset {
	out := make([]models.Asset, len(d.media))
	for i, m := range d.media {
		out[i] = models.Asset{ID: m.AssetID, Kind: models.AssetMedia, Size: m.Size, SHA256: m.SHA256, ContentType: m.ContentType}
	}
	return out
}

// compose makes the graph that will run: load, override, check.
func (s *Service) compose(ctx context.Context, d *draft) (err error) {
	if d.tenant, err = s.tenant(ctx, d.sub); err != nil {
		return err
	}
	if err := s.loadGraph(ctx, d, d.tenant); err != nil {
		return err
	}
	if err := d.takeMedia(); err != nil {
		return err
	}
	if err := d.override(); err != nil {
		return err
	}
	if err := classRules(d.graph, d.tenant); err != nil {
		return err
	}
	if err := d.graph.Unsafe(d.mediaNames()); err != nil {
		return err
	}
	return workflows.Check(d.graph, s.NodeDefs())
}

func (s *Service) tenant(ctx context.Context, sub Submission) (models.Tenant, error) {
	if sub.Tenant != nil {
		return *sub.Tenant, nil
	}
	return s.Store.Tenant(ctx, sub.TenantID)
}

func (s *Service) loadGraph(ctx context.Context, d *draft, tenant models.Tenant) (err error) {
	if d.sub.WorkflowID == "" {
		if tenant.LibraryOnly {
			return models.Errorf(models.CodeForbidden, "library_only", "this tenant may run workflows of the library only: send workflow_id")
		}
		if d.graph, err = s.graphs.parse(d.sub.Workflow); err != nil {
			var e *models.Error
			if errors.As(err, &e) && len(e.Fields) == 0 {
				return inField(err, "workflow")
			}
		}
		return err
	}
	v, err := s.resolve(ctx, tenant.ID, d.sub.WorkflowID)
	if err != nil {
		return err
	}
	d.slug, d.version = v.Slug, v.Version
	if d.graph, err = s.graphs.parse(v.Graph); err != nil {
		return fmt.Errorf("workflow %s version %d: %w", v.Slug, v.Version, err)
	}
	var params []workflows.Param
	if len(v.Params) > 0 {
		if err := json.Unmarshal(v.Params, &params); err != nil {
			return fmt.Errorf("parameters of workflow %s version %d: %w", v.Slug, v.Version, err)
		}
	}
	if len(d.sub.Params) == 0 {
		return nil
	}
	d.graph = d.graph.Clone()
	_, err = workflows.Bind(d.graph, params, d.sub.Params)
	return err
}

// resolve finds the version that a workflow_id means: "slug@3", "slug@alias", or a bare slug for its "prod" alias, else
// its newest version.
func (s *Service) resolve(ctx context.Context, tenantID, id string) (models.WorkflowVersion, error) {
	slug, at, pinned := strings.Cut(id, "@")
	if _, err := s.Store.Workflow(ctx, tenantID, slug); err != nil {
		if models.ErrorCode(err) == models.CodeNotFound {
			return models.WorkflowVersion{}, models.FieldErrorf(models.CodeUnprocessed, "unknown_workflow", "workflow_id", "no workflow %q; GET /v1/workflows lists them", slug)
		}
		return models.WorkflowVersion{}, err
	}
	number := 0
	if pinned && isNumber(at) {
		if _, err := fmt.Sscan(at, &number); err != nil || number < 1 {
			return models.WorkflowVersion{}, models.FieldErrorf(models.CodeUnprocessed, "unknown_version", "workflow_id", "workflow %q has no version %s", slug, at)
		}
	} else {
		alias := "prod"
		if pinned {
			alias = at
		}
		n, err := s.Store.Alias(ctx, slug, alias)
		switch {
		case err == nil:
			number = n
		case models.ErrorCode(err) != models.CodeNotFound:
			return models.WorkflowVersion{}, err
		case pinned:
			return models.WorkflowVersion{}, models.FieldErrorf(models.CodeUnprocessed, "unknown_alias", "workflow_id", "workflow %q has no alias %q", slug, at)
		}
	}
	v, err := s.Store.Version(ctx, slug, number)
	if models.ErrorCode(err) == models.CodeNotFound {
		return v, models.FieldErrorf(models.CodeUnprocessed, "unknown_version", "workflow_id", "workflow %q has no version %d", slug, number)
	}
	return v, err
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// takeMedia lists the media that came with the request and those to fetch, in the order of the request.
func (d *draft) takeMedia() error {
	for i, m := range d.sub.Media {
		ref := models.MediaRef{Name: strings.Clone(m.Name)}
		d.addMedia(ref, m.Blob, m.URL, fmt.Sprintf("media[%d]", i))
	}
	return nil
}

func (d *draft) addMedia(ref models.MediaRef, blob *storage.Blob, url, field string) {
	if blob != nil {
		ref.AssetID, ref.Size, ref.SHA256, ref.ContentType = blob.ID, blob.Size, blob.SHA256, blob.ContentType
	} else {
		d.fetches = append(d.fetches, fetch{field: field, url: url, index: len(d.media)})
	}
	d.media = append(d.media, ref)
}

// override applies inputs. An image value becomes a medium of ours that the field names.
func (d *draft) override() error {
	if len(d.sub.Inputs) > 0 {
		d.graph = d.graph.Clone()
	}
	for i, in := range d.sub.Inputs {
		value := in.Value
		if in.Type != InputRaw {
			name := d.freeName(fmt.Sprintf("input_%d.png", i))
			d.addMedia(models.MediaRef{Name: name}, in.Blob, in.URL, fmt.Sprintf("inputs[%d].value", i))
			value, _ = json.Marshal(name) // a string always encodes
		}
		if err := d.graph.Set(in.Node, in.Field, value); err != nil {
			return inField(err, fmt.Sprintf("inputs[%d]", i))
		}
	}
	return nil
}

func (d *draft) freeName(want string) string {
	for slices.Contains(d.mediaNames(), want) {
		want = "_" + want
	}
	return want
}

func (d *draft) mediaNames() []string {
	names := make([]string, len(d.media))
	for i, m := range d.media {
		names[i] = m.Name
	}
	return names
}

// inField puts the name of a request field before an error's own.
func inField(err error, field string) error {
	var e *models.Error
	if !errors.As(err, &e) {
		return err
	}
	out := *e
	detail := e.Detail
	if len(e.Fields) > 0 {
		sub := e.Fields[0]
		detail = sub.Detail
		if sub.Field != "" {
			field += "." + sub.Field
		}
	}
	out.Fields = []models.FieldError{{Field: field, Detail: detail}}
	out.Detail = field + ": " + detail
	return &out
}

// classRules holds a graph against the tenant's allowed and denied node classes.
func classRules(g *workflows.Graph, t models.Tenant) error {
	if t.AllowClasses == "" && t.DenyClasses == "" {
		return nil
	}
	lines := func(s string) []string {
		return strings.FieldsFunc(s, func(r rune) bool { return r == '\n' }) // a class may contain spaces
	}
	allow, deny := lines(t.AllowClasses), lines(t.DenyClasses)
	for _, n := range g.Nodes() {
		if slices.Contains(deny, n.Class) || len(allow) > 0 && !slices.Contains(allow, n.Class) {
			return models.FieldErrorf(models.CodeForbidden, "class_denied", "workflow."+n.ID, "this tenant may not run nodes of class %q", n.Class)
		}
	}
	return nil
}
